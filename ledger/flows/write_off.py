"""The last way out for a lease that no evidence can settle: a person says that it is over, and why."""

from ledger.domain import events as e
from ledger.domain.errors import Conflict
from ledger.domain.ports import Instance
from ledger.domain.state import Lease, Outcome
from ledger.domain.suspects import new_boxes
from ledger.flows.observe import observe
from ledger.flows.rebind import own_account
from ledger.flows.services import Services, Stage
from ledger.flows.takeover import take_over


def possible_boxes(services: Services, lease_id: str) -> list[Instance]:
    """What the provider shows now that could be the lease's box, or is: what a person must know before writing it off.

    Raises what the provider raises, and `CredentialsFailure` for a key of another account.
    """
    lease = own_account(services, services.book.load(lease_id))
    instances = observe(services).instances
    if lease.instance_id is not None:
        return [instance for instance in instances if instance.id == lease.instance_id]
    return new_boxes(lease, instances, services.book.is_bound)


def write_off(services: Services, lease_id: str, *, reason: str, token: str) -> Lease:
    """Releases a lease as `written-off`; what it may have cost stays a range, and a box of it is still looked for.

    Raises `Refused` while the create may still be replayed, `Conflict` where somebody is working on it.
    """
    lock = services.locks(lease_id)
    if not lock.try_acquire():
        raise Conflict("somebody is working on this lease", lease_id=lease_id)
    try:
        lease = services.book.load(lease_id)
        if lease.is_acquiring and not lease.is_taken_over:
            take_over(services, lease, token=token, holds_lock=True)
        fact = e.Released(outcome=Outcome.WRITTEN_OFF, reason=reason)
        lease = services.book.record(lease_id, fact).lease
        services.keys.destroy(lease_id)  # should we die before this, `recover` does it
    finally:
        lock.release()
    services.tell(Stage(lease_id=lease_id, slug=lease.slug, name="released", detail=f"written off: {reason}"))
    return lease
