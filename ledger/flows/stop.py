"""`stop`: gives a lease back whatever phase it is in, or records that it is not wanted and says who must finish."""

from msgspec import Struct

from ledger.domain import events as e
from ledger.domain.errors import Conflict, InDoubt, NotFound
from ledger.domain.ports import CallFailed, KeyRejected, LeaseLock
from ledger.domain.refusals import Refused
from ledger.domain.state import Lease, Phase
from ledger.flows.rebind import own_account
from ledger.flows.release import CONFIRM_TIMEOUT_S, delete_box, finish
from ledger.flows.services import Services
from ledger.flows.settle import settle
from ledger.flows.takeover import take_over

LOCK_WAIT_S = 10.0
LOOK_EVERY_S = 0.5


class Stop(Struct, frozen=True, kw_only=True):
    """A wish to give one lease back. `token` is this process's random name, should it have to take over.

    `cause` is what the DELETE is recorded under: stop or run-finished. `may_hurry` is for the process that leased the
    box itself, and for no other (`delete_box`).
    """

    lease_id: str
    reason: str
    token: str
    timeout_s: float = CONFIRM_TIMEOUT_S
    cause: str = "stop"
    may_hurry: bool = False


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
            return _stop_locked(services, wish, lock)
    finally:
        lock.release()


def _stop_locked(services: Services, wish: Stop, lock: LeaseLock | None) -> Lease:
    lease = services.book.load(wish.lease_id)
    if lease.is_open and lease.confirmed_at is None and not (lease.nothing_sent or lease.rejected):
        lease = own_account(services, lease)
    if lease.is_acquiring:
        lease = _take_over(services, wish, lease)
    match lease.phase:
        case Phase.RELEASED | None:
            return lease
        case Phase.IN_DOUBT:
            return _settle(services, wish, lease, lock)
        case Phase.PROVISIONING:
            fact = e.Rollback(stage="stop", cause=wish.reason, shown=lease.shown)
            services.book.record(lease.lease_id, fact)
        case _:
            pass
    if lease.instance_id is None:
        return finish(services, lease.lease_id)
    return delete_box(services, lease.lease_id, reason=wish.cause, timeout_s=wish.timeout_s, may_hurry=wish.may_hurry)


def _settle(services: Services, wish: Stop, lease: Lease, lock: LeaseLock | None) -> Lease:
    """One recovery pass. Where the provider cannot be asked the lease is as much in doubt as before."""
    try:
        return settle(services, lease.lease_id, lock=lock, token=wish.token)
    except KeyRejected:
        raise
    except CallFailed as failure:
        if services.book.load(lease.lease_id).phase is not Phase.IN_DOUBT:
            raise
        raise InDoubt(
            f"whether a box was made for lease {lease.slug} could not be found out, and it stays open: "
            f"{failure.message}",
            hint="that nobody wants it is recorded; `rentroll watch` goes on by itself",
            next_step=f"rentroll recover --only {lease.slug}",
            lease_id=lease.lease_id,
            retry_after_s=failure.retry_after_s,
        ) from failure


def _take_over(services: Services, wish: Stop, lease: Lease) -> Lease:
    """The acquirer is dead: its lock was free. Fences it, once, and records that the box is not wanted."""
    if not lease.is_taken_over:
        take_over(services, lease, token=wish.token, holds_lock=True)
    lease = services.book.record(lease.lease_id, e.StopRequested(reason=wish.reason)).lease
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
                    return _stop_locked(services, wish, lock)
            finally:
                lock.release()
        if lease.is_acquiring and lease.acquire_deadline is not None and lease.acquire_deadline < services.clock.now():
            with services.interrupts.shielded():  # it hangs: our own append takes it over
                take_over(services, lease, token=wish.token, holds_lock=False)
                return _stop_locked(services, wish, None)
        services.clock.sleep(LOOK_EVERY_S)
    raise Conflict(
        f"lease {lease.slug} is still being acquired by another process; the stop is recorded and met at its next step",
        hint=f"the acquirer ends by {lease.acquire_deadline:%H:%M:%SZ} at the latest",
        next_step=f"rentroll status {lease.slug}",
        lease_id=wish.lease_id,
    )
