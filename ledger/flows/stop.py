"""`stop`: gives a lease back whatever phase it is in, or records that it is not wanted and says who must finish."""

from msgspec import Struct

from ledger.domain import events as e
from ledger.domain.errors import Conflict, InDoubt, NotFound
from ledger.domain.ports import CallFailed, LeaseLock
from ledger.domain.refusals import Refused
from ledger.domain.state import Lease, Phase
from ledger.flows.release import CONFIRM_TIMEOUT_S, delete_box, finish, require_own_account
from ledger.flows.services import Services

LOCK_WAIT_S = 10.0
LOOK_EVERY_S = 0.5


class Stop(Struct, frozen=True, kw_only=True):
    """A wish to give one lease back. `token` is this process's random name, should it have to take over.

    `cause` is what the DELETE is recorded under: stop or run-finished.
    """

    lease_id: str
    reason: str
    token: str
    timeout_s: float = CONFIRM_TIMEOUT_S
    cause: str = "stop"


def stop(services: Services, wish: Stop) -> Lease:
    """Gives the lease back and returns it released.

    Raises `Conflict` where a live acquirer did not meet the request in time, `InDoubt` where the outcome of its
    create is unknown (the aim is recorded), and what `delete_box` raises.
    """
    lease = services.book.load(wish.lease_id)
    if lease.phase is None:
        raise NotFound(f"no lease {wish.lease_id} in this ledger", next_step="rentroll list --all")
    if not lease.is_open:
        return lease
    lock = services.locks(lease.lease_id)
    if lease.is_acquiring and not lock.try_acquire():
        return _ask_the_acquirer(services, wish, lock)
    if not lease.is_acquiring:
        lock.acquire(timeout_s=LOCK_WAIT_S)
    try:
        with services.interrupts.shielded():
            return _stop_locked(services, wish)
    finally:
        lock.release()


def _stop_locked(services: Services, wish: Stop) -> Lease:
    lease = services.book.load(wish.lease_id)
    if lease.is_open and lease.confirmed_at is None and not (lease.nothing_sent or lease.rejected):
        require_own_account(services, lease)
    if lease.is_acquiring:
        lease = _take_over(services, wish, lease)
    match lease.phase:
        case Phase.RELEASED | None:
            return lease
        case Phase.IN_DOUBT:
            raise InDoubt(
                f"whether a box was made for lease {lease.slug} is unknown; that it is not wanted is recorded",
                hint=_what_may_be_its_box(services, lease),
                next_step=f"rentroll status {lease.slug}",
                lease_id=lease.lease_id,
            )
        case Phase.PROVISIONING:
            fact = e.Rollback(stage="stop", cause=wish.reason, shown=lease.shown)
            services.book.record(lease.lease_id, fact)
        case _:
            pass
    if lease.instance_id is None:
        return finish(services, lease.lease_id)
    return delete_box(services, lease.lease_id, reason=wish.cause, timeout_s=wish.timeout_s)


def _take_over(services: Services, wish: Stop, lease: Lease) -> Lease:
    """The acquirer is dead: its lock was free. Fences it and records that the box is not wanted."""
    facts: list[e.LeaseEvent] = [
        e.AcquireFenced(
            acquirer=wish.token,
            deadline=services.clock.now(),
            evidence="lock-free",
            host=services.host,
            pid=services.pid,
        ),
        e.StopRequested(reason=wish.reason),
    ]
    lease = services.book.record(lease.lease_id, *facts).lease
    return finish(services, lease.lease_id) if lease.phase is Phase.REQUESTED else lease


def _ask_the_acquirer(services: Services, wish: Stop, lock: LeaseLock) -> Lease:
    """A live acquirer meets `stop-requested` at its next step; we wait for that."""
    try:
        lease = services.book.record(wish.lease_id, e.StopRequested(reason=wish.reason)).lease
    except Refused as refusal:
        if refusal.name not in ("not-acquiring", "released"):
            raise
        lease = services.book.load(wish.lease_id)
    stop_at_s = services.clock.monotonic_s() + wish.timeout_s
    while services.clock.monotonic_s() < stop_at_s:
        lease = services.book.load(wish.lease_id)
        if not lease.is_open:
            return lease
        if lock.try_acquire():
            try:
                with services.interrupts.shielded():
                    return _stop_locked(services, wish)
            finally:
                lock.release()
        services.clock.sleep(LOOK_EVERY_S)
    raise Conflict(
        f"lease {lease.slug} is still being acquired by another process; the stop is recorded and met at its next step",
        hint=f"the acquirer ends by {lease.acquire_deadline:%H:%M:%SZ} at the latest",
        next_step=f"rentroll status {lease.slug}",
        lease_id=wish.lease_id,
    )


def _what_may_be_its_box(services: Services, lease: Lease) -> str:
    """One look at the inventory: the instances that are new since the create and that no lease here holds."""
    before = lease.request.ids_before if lease.request else ()
    try:
        inventory = services.provider.inventory()
    except CallFailed as failure:
        return f"the lease stays open until it is settled; fal could not be asked what is there: {failure.message}"
    fact = e.InventoryObserved(
        scope=services.provider.scope,
        credential_binding=services.credential_binding,
        begun_at=inventory.begun_at,
        instances=inventory.instances,
    )
    services.book.record_account(fact)
    new = [i.id for i in inventory.instances if i.id not in before and not services.book.register.find(i.id)]
    if not new:
        return "the lease stays open until it is settled; fal shows no instance that could be its box now"
    return f"the lease stays open until it is settled; not known here, and new since its create: {', '.join(new)}"
