"""Looking for a box that no lease is bound to: a second one of a create that was sent twice, or a late one (W-14)."""

from collections.abc import Sequence
from datetime import datetime

from ledger.domain import events as e
from ledger.domain.ports import Instance, Inventory
from ledger.domain.state import Lease
from ledger.domain.suspects import Seen, of_owner, still_looked_at, unsettled
from ledger.domain.units import after_ms
from ledger.domain.windows import IN_FLIGHT_MS
from ledger.flows.observe import observe
from ledger.flows.prove import prove
from ledger.flows.rebind import own_account
from ledger.flows.release import delete_box
from ledger.flows.services import Services


def search(services: Services, lease_id: str, *, inventory: Inventory | None = None) -> list[Lease]:
    """Offers the lease's key to every new box that nobody holds, and deletes those that accept it.

    `inventory` is one that was just read and recorded; without it one is. Gives the leases that were given back: this
    one, or twins of it. The caller holds the lease's lock.
    """
    lease = own_account(services, services.book.load(lease_id))
    seen = inventory or observe(services)
    bound = prove(services, lease_id, _suspects(services, lease, seen.instances, _looks(services, lease)))
    ended = [delete_box(services, holder.lease_id, reason="rollback") for holder in bound]
    _settle(services, services.book.load(lease_id))
    return ended


def _looks(services: Services, lease: Lease) -> list[Seen]:
    return of_owner(lease, services.book.inventories_since_create(lease.lease_id))


def _suspects(services: Services, lease: Lease, instances: Sequence[Instance], looks: Sequence[Seen]) -> list[Instance]:
    """The new boxes that could still be this lease's, of those that count."""
    suspects = unsettled(lease, instances, looks, services.book.is_bound)
    if lease.instance_id is None or lease.ready_at is None:
        return suspects
    early = _first_seen_before_ready(lease, looks)
    return [box for box in suspects if early is None or box.id in early]


def _first_seen_before_ready(lease: Lease, looks: Sequence[Seen]) -> frozenset[str] | None:
    """The ids that were there before the box was ready: a second one was made at the same time.

    None where no inventory was read between the last POST and `ready`: then every new one counts.
    """
    ready_at, last = lease.ready_at, lease.attempts[-1].sent_at
    before = [s for s in looks if ready_at is not None and last <= s.fact.begun_at and s.recorded_at <= ready_at]
    return frozenset(box.id for s in before for box in s.fact.instances) if before else None


def _settle(services: Services, lease: Lease) -> None:
    """Appends `candidates-settled` where the looks since the last POST leave nothing that could be ours.

    A box that was shown in the meantime has to be missing from more than one look to be gone.
    """
    if lease.instance_id is None or not lease.is_suspect:
        return
    looks = _looks(services, lease)
    newest = still_looked_at(looks)
    shown = {box.id: box for seen in newest for box in seen.fact.instances}
    is_later = bool(newest) and newest[-1].fact.begun_at >= _over_at(lease)
    if is_later and not _suspects(services, lease, [*shown.values()], looks):
        services.book.record(lease.lease_id, e.CandidatesSettled(inventories=tuple(seen.position for seen in newest)))


def _over_at(lease: Lease) -> datetime:
    """When the last of its POSTs was over for certain: one without an answer may have run on."""
    return max(
        after_ms(attempt.sent_at, IN_FLIGHT_MS if attempt.result in ("open", "unanswered") else 0)
        for attempt in lease.attempts
    )
