"""The create: attempts announced before they are sent, and what each answer means."""

from typing import NoReturn

from ledger.domain import events as e
from ledger.domain.credentials import request_digest
from ledger.domain.errors import Conflict, InDoubt, ProviderFailure, RentrollError
from ledger.domain.ports import CallFailed, CreateRequest, Instance, KeyRejected, LeaseLock
from ledger.domain.state import Lease, Phase
from ledger.domain.units import milliseconds_between
from ledger.domain.windows import WINDOW_MS, in_flight_left_ms, is_held_up, window_open
from ledger.flows.book import HeldElsewhere
from ledger.flows.release import delete_box, delete_unrecorded
from ledger.flows.services import Services, Stage
from ledger.flows.spool import SpooledId
from ledger.flows.waiting import CALL_TIMEOUT_S, pause, require_wanted, time_left_s

POST_TIMEOUT_S = 30.0
BIND_TRIES = 4
BIND_PAUSE_S = 0.25
BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0)


class NotAsAsked(ProviderFailure):
    """The provider made a box of another type or sector than was asked for: it is never used (W-16)."""


class IdNotRecorded(ProviderFailure):
    """The ledger did not take the id of a box that was made; the message says where it is kept."""


def create_box(services: Services, lease: Lease, lock: LeaseLock, *, stop_at_s: float) -> Lease:
    """Sends the lease's create until its outcome is known, the window closes or the time is over.

    `lock` is the lease's, which the caller holds: once it is lost nothing is sent. `stop_at_s` is on the monotonic
    clock. Gives the lease with its box bound. Raises what the provider refused, or `InDoubt`; the ledger then says
    which.
    """
    number = 0
    while True:
        number += 1
        if services.clock.monotonic_s() >= stop_at_s:
            raise ProviderFailure(f"the time for leasing {lease.slug} was over before its create was sent")
        lease = _announce(services, lease, number)
        failure = _attempt(services, lease, number, stop_at_s, lock)
        lease = services.book.load(lease.lease_id)
        if failure is None:
            _require_usable(services, lease)
            return lease
        if not lock.is_held or not _may_be_replayed(lease, failure):
            raise failure
        _wait_for_replay(services, lease, failure, number, stop_at_s)


def _announce(services: Services, lease: Lease, number: int) -> Lease:
    """Appends `create-sent`; only the process whose own append it was sends."""
    boot = services.clock.boot()
    body = _body(lease)
    fact = e.CreateSent(
        attempt=number,
        acquirer=lease.acquirer,
        credential_binding=services.credential_binding,
        request_digest=request_digest(body.instance_type, body.sector, body.ssh_key),
        boot_id=boot.boot_id,
        uptime_ms=boot.uptime_ms,
        provider_date=services.provider.server_date,
    )
    entry = services.book.record(lease.lease_id, fact)
    if not entry.appended:
        raise Conflict("another process is sending this create", lease_id=lease.lease_id)
    return entry.lease


def _request(lease: Lease) -> e.CreateRequested:
    if lease.request is None:
        raise ValueError("a lease that is created was requested")
    return lease.request


def _body(lease: Lease) -> CreateRequest:
    """The create's body, from the ledger alone."""
    request = _request(lease)
    return CreateRequest(instance_type=request.instance_type, ssh_key=request.public_key, sector=request.sector)


def _attempt(
    services: Services, lease: Lease, number: int, stop_at_s: float, lock: LeaseLock | None
) -> CallFailed | None:
    """One POST, shielded from the first Ctrl-C, and the fact of its outcome. None means that the box is bound.

    `lock` has to be held still when the first byte leaves. It is None for a process that goes on past the deadline of
    one that hangs and holds it: then its own fence has to stand still, as the last one.
    """
    body = _body(lease)
    services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name="creating", detail=f"attempt {number}"))
    with services.interrupts.shielded():
        try:
            _require_turn(services, lease, lock)
            timeout_s = min(POST_TIMEOUT_S, _replay_left_s(services, lease, stop_at_s))
            instance = services.provider.create(body, idempotency_key=lease.lease_id, timeout_s=timeout_s)
        except CallFailed as failure:
            _record_failure(services, lease, number, failure)
            return failure
        stranger = _bind(services, lease, number, instance)
        if stranger is not None:
            unusable = CallFailed(stranger, answered=True)
            _record_failure(services, lease, number, unusable, answer_instance_id=instance.id)
            return unusable
    return None


def _require_turn(services: Services, lease: Lease, lock: LeaseLock | None) -> None:
    """The last look before the first byte: this process may have been stopped since it announced the attempt."""
    if lock is not None and not lock.is_held:
        raise CallFailed("the create was announced, but its lease's lock was lost before it was sent", sent=False)
    if lock is None and services.book.load(lease.lease_id).acquirer != lease.acquirer:
        raise CallFailed("the create was announced, but its lease was taken over before it was sent", sent=False)
    boot, now = services.clock.boot(), services.clock.now()
    is_open = window_open(
        lease,
        now=now,
        boot_id=boot.boot_id,
        uptime_ms=boot.uptime_ms,
        provider_date=services.provider.server_date,
    )
    if not is_open or (lease.acquire_deadline is not None and now > lease.acquire_deadline):
        raise CallFailed("the create was announced, but its time was over before it was sent", sent=False)
    if is_held_up(lease.attempts[-1], now=now, uptime_ms=boot.uptime_ms):
        raise CallFailed("the create was announced, but this process was held up before it was sent", sent=False)


def window_left_s(services: Services, lease: Lease) -> float:
    """How long the create may still be replayed, by the wall clock and by the clock through sleep."""
    if not lease.attempts:
        return WINDOW_MS / 1000
    first = lease.attempts[0]
    age_ms = milliseconds_between(first.sent_at, services.clock.now())
    return (WINDOW_MS - max(age_ms, services.clock.boot().uptime_ms - first.uptime_ms)) / 1000


def _replay_left_s(services: Services, lease: Lease, stop_at_s: float) -> float:
    """How long a replay may still be sent: inside the window and inside the time for leasing."""
    return min(window_left_s(services, lease), time_left_s(services, stop_at_s))


def _record_failure(
    services: Services, lease: Lease, number: int, failure: CallFailed, answer_instance_id: str | None = None
) -> None:
    if failure.settles and number == 1:
        fact: e.LeaseEvent = e.CreateRejected(
            attempt=number,
            status=failure.status or 0,
            error_type=failure.error_type or "",
            message=failure.message,
            request_id=failure.request_id,
        )
    else:
        fact = e.CreateInDoubt(
            attempt=number,
            cause=failure.message,
            sent=failure.sent,
            answered=failure.answered,
            status=failure.status,
            request_id=failure.request_id,
            answer_instance_id=answer_instance_id,
        )
    services.book.record(lease.lease_id, fact)


def _bind(services: Services, lease: Lease, number: int, instance: Instance) -> str | None:
    """Appends the id before anything else is tried; if the ledger will not take it, spools it and deletes the box.

    Gives why an answered id may not be bound, where it was there before we asked or another lease holds it.
    """
    if instance.id in _request(lease).ids_before:
        return f"fal answered with instance {instance.id}, which was there before"
    fact = e.InstanceIdBound(
        instance_id=instance.id,
        evidence="create-answer",
        acquirer=lease.acquirer,
        attempt=number,
        instance=instance,
    )
    for tries_left in reversed(range(BIND_TRIES)):
        try:
            bound = services.book.bind_answer(lease.lease_id, fact)
        except HeldElsewhere as held:
            return f"fal answered with {held.message}"
        except Exception as failure:  # noqa: BLE001 - not even a bug of ours may lose the id of a box that bills
            if not tries_left:
                _lose_no_id(services, lease, number, instance.id, failure)
            services.clock.sleep(BIND_PAUSE_S)
        else:
            services.tell(Stage(lease_id=bound.lease_id, slug=bound.slug, name="bound", detail=instance.id))
            return None if bound.lease_id == lease.lease_id else _give_second_back(services, bound)
    raise AssertionError("the last try binds the id or raises")


def _give_second_back(services: Services, twin: Lease) -> str:
    """A box that came when the lease had one already is deleted at once; what fails is left to `recover`."""
    try:
        delete_box(services, twin.lease_id, reason="rollback")
    except RentrollError as failure:
        services.tell(Stage(lease_id=twin.lease_id, slug=twin.slug, name="not deleted", detail=failure.message))
    return f"fal answered with a second box, {twin.instance_id}, which lease {twin.slug} holds"


def _lose_no_id(services: Services, lease: Lease, number: int, instance_id: str, failure: Exception) -> NoReturn:
    """An id that the ledger will not take goes to the spool; this process, which was given it, deletes the box."""
    spooled = SpooledId(lease_id=lease.lease_id, instance_id=instance_id, acquirer=lease.acquirer, attempt=number)
    try:
        hint = f"the id is kept in {services.spool.put(spooled)} and is appended at the next start"
    except OSError:
        hint = "the id could not be kept in a file either: write it down"
    deleted = delete_unrecorded(services, instance_id)
    outcome = "its DELETE was accepted" if deleted is None else f"its DELETE failed: {deleted}"
    raise IdNotRecorded(
        f"the ledger did not take instance {instance_id} of lease {lease.slug}: {failure}; {outcome}",
        hint=hint,
        next_step=f"rentroll stop {lease.slug}",
        lease_id=lease.lease_id,
    )


def _require_usable(services: Services, lease: Lease) -> None:
    """A box that nobody wants any more is recorded and not worked on; one of another type or sector is never used."""
    request, instance = _request(lease), lease.instance
    if lease.phase is not Phase.PROVISIONING or instance is None:
        require_wanted(services, lease.lease_id)
        raise Conflict(f"lease {lease.slug} was taken over; its box {lease.instance_id} is recorded, not worked on")
    asked = (request.instance_type, request.sector)
    got = (instance.instance_type, instance.sector if request.sector and instance.sector else request.sector)
    if asked != got:
        made, wanted = (" ".join(filter(None, what)) for what in (got, asked))
        raise NotAsAsked(f"fal made {made} where {wanted} was asked for")


def _may_be_replayed(lease: Lease, failure: CallFailed) -> bool:
    """Whether another attempt may settle it: not after a rejection, a rejected key, or where nothing was sent."""
    if lease.phase is not Phase.IN_DOUBT or isinstance(failure, KeyRejected):
        return False
    return not failure.settles or failure.status == 429  # noqa: PLR2004 - the one refusal that asks to come back


def _wait_for_replay(services: Services, lease: Lease, failure: CallFailed, number: int, stop_at_s: float) -> None:
    """Waits until the last request is over and a little longer, and until the provider's clock could be read.

    Both of our clocks may have stood still, in a machine that was suspended; the `Date` of a read just before the
    replay tells. Gives up where the time or the window is over before that, also where such a read hangs.
    """
    while True:
        wait_s = float(failure.retry_after_s or BACKOFF_S[min(number, len(BACKOFF_S)) - 1])
        last = lease.attempts[-1]
        if last.result == "unanswered":
            boot, now = services.clock.boot(), services.clock.now()
            left_ms = in_flight_left_ms(last, now=now, boot_id=boot.boot_id, uptime_ms=boot.uptime_ms)
            wait_s = max(wait_s, left_ms / 1000)
        if wait_s >= _replay_left_s(services, lease, stop_at_s):
            raise InDoubt(f"the create of lease {lease.slug} had no reliable answer: {failure.message}")
        services.tell(
            Stage(lease_id=lease.lease_id, slug=lease.slug, name="in doubt", detail=f"replay in {wait_s:.0f} s")
        )
        pause(services, lease.lease_id, wait_s)
        try:
            services.provider.inventory(timeout_s=min(CALL_TIMEOUT_S, _replay_left_s(services, lease, stop_at_s)))
        except KeyRejected as rejected:
            raise InDoubt(f"the create of lease {lease.slug} had no reliable answer: {rejected.message}") from None
        except CallFailed:
            number += 1
        else:
            return


def replay_once(services: Services, lease: Lease, lock: LeaseLock | None) -> Lease:
    """One more POST of a create in doubt, by the process that has taken it over and wants its box deleted.

    For the box's id alone: it is bound and never worked on. `lock` is the lease's, which the caller holds; None where
    the holder hangs and was fenced, so that the fence guards. Gives the lease as that left it; raises `Refused` where
    the create may not be replayed (its window has closed, its last request may still run, another key asked for it).
    """
    number = len(lease.attempts) + 1
    announced = _announce(services, lease, number)
    _attempt(services, announced, number, services.clock.monotonic_s() + POST_TIMEOUT_S, lock)
    return services.book.load(lease.lease_id)
