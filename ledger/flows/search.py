"""Looking for a box that no lease is bound to: a second one of a create that was sent twice, or a late one (W-14)."""

from collections.abc import Sequence
from datetime import datetime

from ledger.domain import events as e
from ledger.domain.errors import InDoubt
from ledger.domain.ports import Instance, Inventory
from ledger.domain.state import Lease
from ledger.domain.suspects import Seen, of_owner, still_looked_at, unsettled
from ledger.domain.units import after_ms
from ledger.domain.windows import IN_FLIGHT_MS, UNSHOWN_ABSENCE_MS
from ledger.flows.observe import observe
from ledger.flows.prove import prove
from ledger.flows.rebind import own_account
from ledger.flows.release import delete_box
from ledger.flows.services import Services


def search(services: Services, lease_id: str, *, inventory: Inventory | None = None) -> list[Lease]:
    """Offers the lease's key to every new box that nobody holds, and deletes those that accept it.

    `inventory` is one that was just read and recorded; without it one is. Gives the leases that were given back: this
    one, or twins of it. Raises `InDoubt` where a box may be a second one of the lease. The caller holds the lease's
    lock.
    """
    lease = own_account(services, services.book.load(lease_id))
    seen = inventory or observe(services)
    bound = prove(services, lease_id, _suspects(services, lease, seen.instances, _looks(services, lease)), seen)
    ended = [delete_box(services, holder.lease_id, reason="rollback") for holder in bound]
    left = _settle(services, services.book.load(lease_id), seen)
    if left and not ended:
        raise _second_box(lease, left)
    return ended


def _looks(services: Services, lease: Lease) -> list[Seen]:
    return of_owner(lease, services.book.inventories_since_create(lease.lease_id))


def _suspects(services: Services, lease: Lease, instances: Sequence[Instance], looks: Sequence[Seen]) -> list[Instance]:
    """The new boxes that could still be this lease's, of those that count."""
    suspects = unsettled(lease, instances, looks, services.book.is_bound)
    if lease.instance_id is None:
        return suspects
    in_time = _shown_in_time(lease, looks)
    return [box for box in suspects if box.id in in_time]


def _shown_in_time(lease: Lease, looks: Sequence[Seen]) -> frozenset[str]:
    """The ids that a second box of this create can have: what shows up long after it was made by somebody else.

    A box may be as slow to appear as one that no read has ever shown; the first look after that time still counts.
    """
    shown_by = _shown_by(lease)
    counting = [seen for seen in looks if seen.fact.begun_at <= shown_by]
    counting += [seen for seen in looks if seen.fact.begun_at > shown_by][:1]
    return frozenset(box.id for seen in counting for box in seen.fact.instances)


def _settle(services: Services, lease: Lease, seen: Inventory) -> list[Instance]:
    """Appends `candidates-settled` where the looks since the last POST leave nothing that could be ours.

    A box that was shown in the meantime has to be missing from more than one look to be gone. Gives what is left.
    """
    if lease.instance_id is None or not lease.is_suspect:
        return []
    looks = _looks(services, lease)
    newest = still_looked_at(looks)
    shown = {box.id: box for look in newest for box in look.fact.instances} | {box.id: box for box in seen.instances}
    left = _suspects(services, lease, [*shown.values()], looks)
    if newest and not left and newest[-1].fact.begun_at >= _shown_by(lease):
        services.book.record(lease.lease_id, e.CandidatesSettled(inventories=tuple(look.position for look in newest)))
    return left


def _second_box(lease: Lease, left: Sequence[Instance]) -> InDoubt:
    said = {tried.instance_id: tried.verdict for tried in lease.tries}
    named = ", ".join(f"{box.id} ({said.get(box.id, 'no address yet')})" for box in left)
    return InDoubt(
        f"a second box of lease {lease.slug} may exist: {named}",
        hint="its create was sent more than once; each is offered the lease's key again, and `rentroll watch` goes on",
        next_step=f"rentroll recover --only {lease.lease_id}",
        lease_id=lease.lease_id,
    )


def _shown_by(lease: Lease) -> datetime:
    """When every box that its POSTs can have made must have shown up: one without an answer may have run on."""
    return max(
        after_ms(
            attempt.sent_at, UNSHOWN_ABSENCE_MS + (IN_FLIGHT_MS if attempt.result in ("open", "unanswered") else 0)
        )
        for attempt in lease.attempts
    )
