"""The account against the ledger, both ways: one complete inventory, and everything that was ever leased (W-23).

Read-only: the inventory was recorded as evidence before, and earlier ones say since when something was there or gone.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from msgspec.structs import asdict

from ledger.domain.audited import Audit, Candidate, Elsewhere, Foreign, Gone, Held, InDoubt, Overdue, Owned, Returned
from ledger.domain.claim import Claim, accrued, is_overdue, moment, short_time
from ledger.domain.instance import Instance
from ledger.domain.plan import Around, is_live, judge, looked_for_since, may_cost
from ledger.domain.register import Register
from ledger.domain.state import Lease
from ledger.domain.suspects import Seen, of_owner, unsettled
from ledger.domain.units import format_time


def audit(register: Register, position: int, around: Callable[[list[Claim]], Around]) -> Audit:
    """Compares the inventory that was recorded at `position` with the whole ledger.

    `around` says who is at work and what time it is (`ledger.domain.plan`). Raises `ValueError` where no inventory
    stands at that position.
    """
    return _Comparison(register, position, around).result()


class _Comparison:
    """One inventory, all claims, and every inventory before it."""

    def __init__(self, register: Register, position: int, around: Callable[[list[Claim]], Around]) -> None:
        self._register = register
        self._history = [seen for seen in register.inventories(after=0) if seen.position <= position]
        if not self._history or self._history[-1].position != position:
            raise ValueError(f"no inventory stands at position {position}")
        self._shown = self._history[-1].fact
        self._sightings = _Sightings(self._history)
        self._side = (self._shown.scope, self._shown.credential_binding)
        self._listed = {instance.id: instance for instance in self._shown.instances}
        claims = sorted(register.claims(include_released=True), key=lambda claim: claim.position)
        self._open = [claim for claim in claims if claim.is_open]
        self._bound = [claim for claim in claims if claim.scope == self._shown.scope and claim.instance_id is not None]
        self._bound_ids = {claim.instance_id for claim in claims}
        self._around = around(self._open)

    def result(self) -> Audit:
        in_doubt = tuple(map(self._in_doubt, self._placed("in-doubt")))
        candidates = {box.instance_id for lease in in_doubt for box in lease.candidates}
        return Audit(
            as_of=_text(self._around.now),
            position=self._history[-1].position,
            begun_at=_text(self._shown.begun_at),
            scope=self._shown.scope,
            owned=tuple(map(self._owned, self._placed("owned"))),
            overdue=tuple(map(self._overdue, self._placed("overdue"))),
            gone=tuple(map(self._gone, self._placed("gone"))),
            returned=tuple(map(self._returned, self._listed_again())),
            in_doubt=in_doubt,
            foreign=self._foreign(candidates),
            elsewhere=tuple(map(self._elsewhere, self._placed("elsewhere"))),
            unsent=tuple(map(self._held, self._placed("unsent"))),
        )

    def _placed(self, place: str) -> list[Claim]:
        return [claim for claim in self._open if self._place(claim) == place]

    def _place(self, claim: Claim) -> str:
        """Where an open lease belongs: each has one place. That this key sees its box makes it this account's."""
        if claim.scope == self._shown.scope and claim.instance_id in self._listed:
            in_hand = claim.phase in ("ready", "provisioning")  # a deletion that was begun has no time any more
            return "overdue" if in_hand and is_overdue(claim, self._around.now) else "owned"
        if (claim.scope, claim.credential_binding) != self._side:
            return "elsewhere"
        if claim.instance_id is not None:
            return "gone"
        return "in-doubt" if claim.phase == "in-doubt" else "unsent"

    def _held(self, claim: Claim, *, is_amiss: bool = False) -> Held:
        """What is told of every open lease. While somebody is at work on it, a create is not amiss."""
        wanting = claim.contradiction is not None or may_cost(claim, self._around)
        return Held(
            lease_id=claim.lease_id,
            slug=claim.slug,
            instance_id=claim.instance_id,
            instance_type=claim.instance_type,
            phase=claim.phase,
            expires_at=short_time(claim.expires_at),
            reason=judge(claim, self._around).reason,
            is_difference=wanting or (is_amiss and not is_live(claim, self._around)),
        )

    def _owned(self, claim: Claim) -> Owned:
        return Owned(
            **asdict(self._held(claim)),
            provider_status=self._listed[claim.instance_id or ""].status,
            is_other_key=claim.credential_binding != self._side[1],
        )

    def _overdue(self, claim: Claim) -> Overdue:
        return Overdue(
            **asdict(self._owned(claim)) | {"is_difference": True},
            accrued=accrued(claim, self._around.now),
            rate_per_hour=claim.rate_per_hour,
            currency=claim.currency,
        )

    def _gone(self, claim: Claim) -> Gone:
        known = [moment(at) for at in (claim.billed_from, claim.ready_at) if at is not None]
        seen = self._sightings.last.get(claim.instance_id or "")
        last = max([*known, *([seen] if seen else [])], default=None)
        missed = self._sightings.oldest_after(last) or self._shown.begun_at
        is_newer = claim.billed_from is not None and moment(claim.billed_from) > self._shown.begun_at
        return Gone(
            **asdict(self._held(claim, is_amiss=not is_newer)),  # bound since: this inventory could not show it
            last_seen_at=_text(last) if last is not None else None,
            missing_since=_text(missed),
        )

    def _listed_again(self) -> list[Claim]:
        """The released leases whose box is in an inventory that was begun after their end."""
        return [
            claim
            for claim in self._bound
            if claim.released_at is not None
            and claim.instance_id in self._listed
            and moment(claim.released_at) < self._shown.begun_at
        ]

    def _returned(self, claim: Claim) -> Returned:
        return Returned(
            lease_id=claim.lease_id,
            slug=claim.slug,
            instance_id=claim.instance_id or "",
            outcome=claim.outcome,
            released_at=short_time(claim.released_at or ""),
            provider_status=self._listed[claim.instance_id or ""].status,
        )

    def _in_doubt(self, claim: Claim) -> InDoubt:
        lease = self._register.load(claim.lease_id)
        candidates = tuple(_candidate(lease, box) for box in self._could_be(lease))
        return InDoubt(**asdict(self._held(claim, is_amiss=True)), candidates=candidates)

    def _could_be(self, lease: Lease) -> list[Instance]:
        """The listed boxes that could be a lease's own: bound to none, and not proven to be another's."""
        since = self._register.first_position(lease.lease_id)
        observed = of_owner(lease, [seen for seen in self._history if seen.position > since])
        return unsettled(lease, self._shown.instances, observed, self._bound_ids.__contains__)

    def _foreign(self, candidates: set[str]) -> tuple[Foreign, ...]:
        """What is bound to no lease here and is no candidate of a create in doubt."""
        bound = {claim.instance_id for claim in self._bound}
        suspects = [
            self._register.load(claim.lease_id)
            for claim in self._register.suspects(looked_for_since(self._around.now))
            if (claim.scope, claim.credential_binding) == self._side
        ]
        could_be: dict[str, list[str]] = {}
        for lease in suspects:
            for box in self._could_be(lease):
                could_be.setdefault(box.id, []).append(lease.lease_id)
        strangers = [box for box in self._shown.instances if box.id not in bound and box.id not in candidates]
        return tuple(self._stranger(box, sorted(could_be.get(box.id, []))) for box in strangers)

    def _stranger(self, box: Instance, could_be_of: Sequence[str]) -> Foreign:
        first = self._sightings.first[box.id]
        before = self._sightings.newest_before(first)
        return Foreign(
            instance_id=box.id,
            instance_type=box.instance_type,
            region=box.region,
            provider_status=box.status,
            creator=box.creator_user_nickname,
            first_seen_at=_text(first),
            absent_at=_text(before) if before is not None else None,
            could_be_of=tuple(could_be_of),
        )

    def _elsewhere(self, claim: Claim) -> Elsewhere:
        differs = "endpoint" if claim.scope != self._shown.scope else "key"
        return Elsewhere(**asdict(self._held(claim)), scope=claim.scope, differs=differs)


class _Sightings:
    """What the inventories so far say of when a box was there.

    To be seen is proof, whoever read it at this endpoint; only what this key has read misses what is not there.
    """

    def __init__(self, history: Sequence[Seen]) -> None:
        newest = history[-1].fact
        self.first: dict[str, datetime] = {}
        self.last: dict[str, datetime] = {}
        self.own = []
        for seen in history:
            if seen.fact.scope != newest.scope:
                continue
            if seen.fact.credential_binding == newest.credential_binding:
                self.own.append(seen.fact.begun_at)
            for box in seen.fact.instances:
                self.first.setdefault(box.id, seen.fact.begun_at)
                self.last[box.id] = seen.fact.begun_at

    def newest_before(self, at: datetime) -> datetime | None:
        """When this key read its last inventory before then."""
        return max((begun_at for begun_at in self.own if begun_at < at), default=None)

    def oldest_after(self, at: datetime | None) -> datetime | None:
        """When this key read its first inventory after then; the first of all where that is not known."""
        return min((begun_at for begun_at in self.own if at is None or begun_at > at), default=None)


def _candidate(lease: Lease, box: Instance) -> Candidate:
    last = next((tried for tried in reversed(lease.tries) if tried.instance_id == box.id), None)
    return Candidate(
        instance_id=box.id,
        instance_type=box.instance_type,
        provider_status=box.status,
        verdict=last.verdict if last is not None else None,
        tried_at=_text(last.at) if last is not None else None,
    )


def _text(at: datetime) -> str:
    return short_time(format_time(at))
