"""What an audit finds, as data: every listed box and every open lease, each in one place."""

from collections.abc import Sequence

from msgspec import Struct


class Held(Struct, frozen=True, kw_only=True):
    """An open lease. `reason` is what recovery says of it; `is_difference` whether somebody has to do something."""

    lease_id: str
    slug: str
    instance_id: str | None
    instance_type: str
    phase: str
    expires_at: str
    reason: str
    is_difference: bool


class Owned(Held, frozen=True, kw_only=True):
    """Its box is listed. `is_other_key` says that the lease was made with another key of what must be this account."""

    provider_status: str
    is_other_key: bool


class Overdue(Owned, frozen=True, kw_only=True):
    """Its box is listed although its time is over; what it has cost so far, None where no rate is known."""

    accrued: str | None
    rate_per_hour: str | None
    currency: str | None


class Gone(Held, frozen=True, kw_only=True):
    """Its box is not listed: when something last showed it, and which inventory missed it first.

    A single one proves nothing; `recover` asks for the box itself.
    """

    last_seen_at: str | None
    missing_since: str


class Candidate(Struct, frozen=True, kw_only=True):
    """A listed box that could be that of a create in doubt; `verdict` is its newest answer to the lease's key."""

    instance_id: str
    instance_type: str
    provider_status: str
    verdict: str | None
    tried_at: str | None


class InDoubt(Held, frozen=True, kw_only=True):
    """Its create may or may not have made a box."""

    candidates: tuple[Candidate, ...]


class Elsewhere(Held, frozen=True, kw_only=True):
    """It is of another `endpoint` or another `key`, as `differs` says: this inventory says nothing of it (W-38)."""

    scope: str
    differs: str


class Returned(Struct, frozen=True, kw_only=True):
    """A released lease whose box is listed again. `recover` opens those again that were released in the last week."""

    lease_id: str
    slug: str
    instance_id: str
    outcome: str | None
    released_at: str
    provider_status: str


class Foreign(Struct, frozen=True, kw_only=True):
    """A listed box that no lease is bound to. It has been there since `first_seen_at` at the latest.

    `absent_at` is the last inventory before that without it: it bills since then at the earliest. `could_be_of` are
    leases that ended without proof of what they made.
    """

    instance_id: str
    instance_type: str
    region: str
    provider_status: str
    creator: str | None
    first_seen_at: str
    absent_at: str | None
    could_be_of: tuple[str, ...]


class Audit(Struct, frozen=True, kw_only=True):
    """The whole comparison. `position` is where its inventory stands in the ledger, `scope` the endpoint asked."""

    as_of: str
    position: int
    begun_at: str
    scope: str
    owned: tuple[Owned, ...]
    overdue: tuple[Overdue, ...]
    gone: tuple[Gone, ...]
    returned: tuple[Returned, ...]
    in_doubt: tuple[InDoubt, ...]
    foreign: tuple[Foreign, ...]
    elsewhere: tuple[Elsewhere, ...]
    unsent: tuple[Held, ...]

    def differences(self, *, allow_foreign: bool) -> int:
        """How many entries are not as they should be. A box that could be ours is no stranger's."""
        open_leases: Sequence[Held] = (
            *self.owned, *self.overdue, *self.gone, *self.in_doubt, *self.elsewhere, *self.unsent,
        )  # fmt: skip
        foreign = [box for box in self.foreign if box.could_be_of or not allow_foreign]
        return sum(held.is_difference for held in open_leases) + len(self.returned) + len(foreign)
