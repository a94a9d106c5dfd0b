"""Load, decide, append, in one short transaction: the only way in which a flow changes the ledger."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from ledger.domain.claim import Claim
from ledger.domain.errors import Conflict, RentrollError, UsageFailure
from ledger.domain.events import (
    AccountEvent,
    CandidateTried,
    CreateRequested,
    CreateSent,
    DeleteRequested,
    InstanceIdBound,
    LeaseEvent,
    Released,
    Reopened,
    Rollback,
)
from ledger.domain.lease import decide
from ledger.domain.names import SLUG_MAX, suffixed_slug, twin_id
from ledger.domain.ports import Clock
from ledger.domain.refusals import Refused
from ledger.domain.register import Head, Register, Transaction
from ledger.domain.state import Lease, Outcome
from ledger.domain.suspects import Seen
from ledger.domain.units import format_time

SECRET_MIN = 6
"""A shorter text is no key; masking it would damage what it happens to stand in."""
TWIN = "-twin"
F = TypeVar("F")


class HeldElsewhere(Conflict):
    """An id that was answered belongs to another lease already: it is not bound a second time."""


def masked(value: F, secrets: Sequence[str]) -> F:
    """The value with every secret in any of its texts masked: people type keys into commands and reasons."""
    if not secrets:
        return value
    found: Any = value
    if isinstance(value, str):
        for secret in secrets:
            found = found.replace(secret, "[redacted]")
    elif isinstance(value, tuple):
        found = tuple(masked(item, secrets) for item in value)
    elif isinstance(value, dict):
        found = {name: masked(item, secrets) for name, item in value.items()}
    elif isinstance(value, Struct):
        found = replace(value, **{name: masked(getattr(value, name), secrets) for name in value.__struct_fields__})
    return cast("F", found)


class Entry(NamedTuple):
    """A lease after a record, and whether this call appended anything.

    An effect belongs to the process whose own append announced it: where `appended` is False, cause none.
    """

    lease: Lease
    appended: bool


class Book:
    """One process's pen: facts are judged on the newest state and appended under its name."""

    def __init__(self, register: Register, clock: Clock, actor: str, *, secrets: Sequence[str] = ()) -> None:
        self.register = register
        self._clock = clock
        self._actor = actor
        self._secrets = tuple(secret for secret in secrets if len(secret) >= SECRET_MIN)

    def load(self, lease_id: str) -> Lease:
        """The lease as the ledger has it now."""
        return self.register.load(lease_id)

    def claim(self, lease_id: str) -> Claim:
        """The lease's claim, which exists once it was requested."""
        claim = self.register.claim(lease_id)
        if claim is None:
            raise Conflict(f"the claim of lease {lease_id} is missing", hint="run `rentroll verify`", lease_id=lease_id)
        return claim

    def record(self, lease_id: str, *facts: LeaseEvent) -> Entry:
        """Appends what follows from the wanted facts, all or none. Raises `Refused`, `Conflict` or `UsageFailure`."""
        with self.register.transaction() as transaction:
            return self._record(transaction, lease_id, facts)

    def insist(self, lease_id: str, *facts: LeaseEvent) -> Entry:
        """The same, once more where it fails: a failure may have come after its commit, which a second one settles."""
        try:
            return self.record(lease_id, *facts)
        except Refused:
            raise
        except RentrollError:
            return self.record(lease_id, *facts)

    def bind(self, lease_id: str, fact: InstanceIdBound, *, because: CandidateTried | None = None) -> Entry:
        """Appends the binding of an id, unless another lease holds it: that raises `HeldElsewhere`.

        `because` is the proof that it rests on, appended with it: neither stands without the other.
        """
        with self.register.transaction() as transaction:
            holder = transaction.instance_holder(fact.instance_id)
            if holder is not None and holder != lease_id:
                raise HeldElsewhere(f"instance {fact.instance_id}, which lease {holder} holds", lease_id=holder)
            return self._record(transaction, lease_id, (fact,) if because is None else (because, fact))

    def _record(self, transaction: Transaction, lease_id: str, facts: Sequence[LeaseEvent]) -> Entry:
        # The clock is read when it is our turn: others may have appended while we waited for it.
        now = self._clock.now()
        lease = transaction.load(lease_id)
        appended = False
        for wanted in facts:
            fact = masked(wanted, self._secrets)
            new = decide(lease, fact, now)
            if new:
                _require_clock(fact, lease, transaction.head(), format_time(now))
                lease = transaction.append(lease, new, at=now, actor=self._actor)
                appended = True
        return Entry(lease, appended)

    def request(
        self, lease_id: str, slug: str, make: Callable[[str], CreateRequested], *, slug_is_explicit: bool
    ) -> Lease:
        """Appends `create-requested` under a slug that no open lease holds.

        An explicit slug that is held is a `UsageFailure` naming its holder; a generated one gets a suffix.
        """
        with self.register.transaction() as transaction:
            now = self._clock.now()
            holder = transaction.slug_holder(slug)
            if slug_is_explicit and holder is not None:
                raise UsageFailure(
                    f"the slug {slug} is held by lease {holder}",
                    hint="choose another slug, or give that lease back first",
                    next_step=f"rentroll status {slug}",
                    lease_id=holder,
                )
            free = suffixed_slug(slug, lease_id, lambda name: transaction.slug_holder(name) is not None)
            lease = transaction.load(lease_id)
            return transaction.append(
                lease, decide(lease, masked(make(free), self._secrets), now), at=now, actor=self._actor
            )

    def reopen(self, lease_id: str, fact: Reopened) -> Entry:
        """Appends `reopened`, under a suffixed slug where its own has been given to another lease meanwhile."""
        with self.register.transaction() as transaction:
            slug = suffixed_slug(
                fact.slug, lease_id, lambda name: transaction.slug_holder(name) not in (None, lease_id)
            )
            return self._record(transaction, lease_id, (replace(fact, slug=slug),))

    def twin(self, lease_id: str, fact: InstanceIdBound, *, because: CandidateTried | None = None) -> Lease:
        """Appends a lease that only holds a second box of `lease_id`, its binding and its proof, in one step.

        Nothing is ever sent for it. Its id follows from the first lease's and the box's, so that two processes that
        learn of one box make one twin. Raises `HeldElsewhere` where a lease is bound to the box already.
        """
        with self.register.transaction() as transaction:
            holder = transaction.instance_holder(fact.instance_id)
            if holder is not None:
                raise HeldElsewhere(f"instance {fact.instance_id}, which lease {holder} holds", lease_id=holder)
            if because is not None:
                self._record(transaction, lease_id, (because,))
            first = transaction.load(lease_id)
            if first.request is None:
                raise Conflict(f"no lease {lease_id} was ever requested", lease_id=lease_id)
            new_id = twin_id(lease_id, fact.instance_id)
            slug = f"{first.slug[: SLUG_MAX - len(TWIN)]}{TWIN}"
            free = suffixed_slug(slug, new_id, lambda name: transaction.slug_holder(name) is not None)
            of_first = first.request.twin_of or lease_id
            request = replace(first.request, slug=free, twin_of=of_first, keep=None)
            return self._record(transaction, new_id, (request, fact)).lease

    def bind_answer(self, lease_id: str, fact: InstanceIdBound) -> Lease:
        """Appends an id that a create of the lease was answered: as its box, or as a second one's twin.

        Gives the lease that holds it. Raises `HeldElsewhere`.
        """
        try:
            return self.bind(lease_id, fact).lease
        except Refused as refusal:
            if refusal.name != "bound-to-another":
                raise
            return self.twin(lease_id, fact)

    def is_bound(self, instance_id: str) -> bool:
        """Whether any lease, open or released, is bound to this instance."""
        return any(claim.instance_id == instance_id for claim in self.register.find(instance_id))

    def inventories_since_create(self, lease_id: str) -> list[Seen]:
        """The inventories recorded since a lease was requested, of whatever account."""
        return self.register.inventories(after=self.register.first_position(lease_id))

    def record_account(self, fact: AccountEvent) -> int:
        """Appends a fact of the account; gives its position."""
        with self.register.transaction() as transaction:
            return transaction.append_account(fact, at=self._clock.now(), actor=self._actor)


def _require_clock(fact: LeaseEvent, lease: Lease, head: Head, now: str) -> None:
    """A wall clock behind the newest event is not believed: no replay, no expiry, no never-created."""
    match fact:
        case CreateSent():
            depends = bool(lease.attempts)
        case DeleteRequested():
            depends = fact.reason == "expired"
        case Rollback():
            depends = fact.stage == "expired"
        case Released():
            depends = fact.outcome == Outcome.NEVER_CREATED
        case _:
            depends = False
    if depends and head.recorded_at is not None and now < head.recorded_at:
        raise Conflict(
            f"this machine's clock ({now}) is behind the newest event of the ledger ({head.recorded_at})",
            hint="set the clock; until then nothing that depends on time is done",
            lease_id=lease.lease_id,
        )
