"""Giving a box back: prove it is ours, announce, DELETE, confirm that it is gone, destroy the key, release."""

from datetime import timedelta
from typing import NamedTuple

from ledger.domain import events as e
from ledger.domain.ending import end_of
from ledger.domain.errors import ProviderFailure, RentrollError, UsageFailure
from ledger.domain.ports import CallFailed, Instance, InstanceAbsent, KeyRejected
from ledger.domain.refusals import Refused
from ledger.domain.state import Lease, Phase
from ledger.domain.units import after_ms, milliseconds_between
from ledger.domain.windows import DELETE_SETTLE_MS, RETRY_MAX_MS
from ledger.flows.hurry import Hurry
from ledger.flows.rebind import own_account
from ledger.flows.services import Services, Stage

CONFIRM_TIMEOUT_S = 60.0
CONFIRM_POLL_MAX_S = 3.0
_UNKEPT = {"expired": "its keep has ended"}
_DATE_RESOLUTION = timedelta(seconds=1)
BACKOFF_S = (2.0, 4.0, 8.0, 15.0)


class _Wish(NamedTuple):
    """Why a box is deleted, until when on the monotonic clock, and what a stop signal changes."""

    reason: str
    stop_at_s: float
    hurry: Hurry


def delete_box(
    services: Services, lease_id: str, *, reason: str, timeout_s: float = CONFIRM_TIMEOUT_S, may_hurry: bool = False
) -> Lease:
    """Deletes the box that a lease is bound to, confirms that it is gone and releases the lease.

    `timeout_s` bounds sending and confirming. `may_hurry` is for the process that leased the box itself: once it was
    told to stop, its first DELETE waits no longer than a moment for a look at the box and then rests on the lease's
    own binding. For everybody else an unreadable state blocks the DELETE (REL-07). Raises `ProviderFailure` where the
    absence could not be confirmed, `CredentialsFailure` or `UsageFailure` where this key or URL is not the lease's;
    the lease then stays open.
    """
    lease = services.book.load(lease_id)
    if lease.confirmed_at is None:
        lease = own_account(services, lease)
        wish = _Wish(reason, services.clock.monotonic_s() + timeout_s, Hurry(services, is_allowed=may_hurry))
        try:
            _delete_until_gone(services, lease, wish)
        except CallFailed as failure:
            failure.message += f"; {_left_open(lease)}"
            failure.lease_id, failure.next_step = lease_id, f"rentroll stop {lease.slug}"
            raise
    return finish(services, lease_id)


def _left_open(lease: Lease) -> str:
    return f"lease {lease.slug} stays open and its box {lease.instance_id} may still bill"


class _Seen(NamedTuple):
    """What a GET of the bound id says: the instance, or None for a 404; `answered` is False where it said nothing."""

    instance: Instance | None
    answered: bool = True


def _delete_until_gone(services: Services, lease: Lease, wish: _Wish) -> None:
    while True:
        seen = _look_until_readable(services, lease, wish)
        lease, must_send = _announce(services, lease, seen, wish.reason)
        if must_send:
            lease = _send(services, lease)
        lease = _confirm(services, lease, wish.stop_at_s)
        if lease.confirmed_at is not None:
            return
        _require_time(services, lease, wish.stop_at_s)


def _look_until_readable(services: Services, lease: Lease, wish: _Wish) -> _Seen:
    """Live identity right before the DELETE: an unreadable state blocks it (REL-07), but not at the first fault."""
    tries = 0
    while True:
        try:
            return _look(services, lease, timeout_s=wish.hurry.look_limit_s(lease, tries))
        except KeyRejected:
            raise
        except CallFailed as failure:
            if wish.hurry.left_s(lease) is not None:
                return _Seen(None, answered=False)
            tries += 1
            _remember_the_aim(services, lease, wish.reason)
            wait_s = max(_backoff_s(tries), failure.retry_after_s or 0)
            if services.clock.monotonic_s() + wait_s >= wish.stop_at_s:
                raise
            wish.hurry.rest(lease, wait_s)


def _remember_the_aim(services: Services, lease: Lease, reason: str) -> None:
    """That nobody wants the box is kept even if this process gets no further. An expiry is judged anew each time."""
    if lease.phase is Phase.READY and reason != "expired":
        services.book.record(lease.lease_id, e.StopRequested(reason=reason))


def _backoff_s(tries: int) -> float:
    return BACKOFF_S[min(max(tries, 1), len(BACKOFF_S)) - 1]


def _look(services: Services, lease: Lease, *, timeout_s: float | None = None) -> _Seen:
    try:
        return _Seen(services.provider.get(lease.instance_id or "", timeout_s=timeout_s))
    except InstanceAbsent:
        return _Seen(None)


def _announce(services: Services, lease: Lease, seen: _Seen, reason: str) -> tuple[Lease, bool]:
    """Appends `delete-requested` where a DELETE is due, and says whether this process has to send it.

    A box that a read has shown and that is gone needs none; an accepted DELETE is sent again only after it settled,
    and to a box that is seen.
    """
    if lease.delete_result == "accepted" and (seen.instance is None or not _settled(services, lease)):
        return lease, False
    if reason == "expired" and lease.phase in (Phase.READY, Phase.PROVISIONING):
        _require_agreeing_date(services, lease)
    if lease.phase is Phase.PROVISIONING:
        kept = e.Rollback(
            stage=reason, cause=_UNKEPT.get(reason, "it is not wanted any more"), shown=seen.instance is not None
        )
        lease = services.book.record(lease.lease_id, kept).lease
    fact = e.DeleteRequested(
        instance_id=lease.instance_id or "",
        attempt=lease.deletes + 1,
        reason=reason,
        shown=seen.instance is not None,
    )
    already_deleting = lease.phase is Phase.DELETING
    needed = seen.instance is not None or not (seen.answered and lease.shown)
    if already_deleting and not needed:
        return lease, False
    entry = services.book.record(lease.lease_id, fact)
    return entry.lease, entry.appended and needed


def _require_agreeing_date(services: Services, lease: Lease) -> None:
    """Expiry is acted on only if the provider's clock says the same, by the `Date` (whole seconds) of that look."""
    date, end = services.provider.server_date, lease.expires_at
    if date is not None and end is not None and date + _DATE_RESOLUTION < end:
        raise ProviderFailure(
            f"lease {lease.slug} expired at {end:%H:%M:%SZ} by this machine's clock; by fal's it is {date:%H:%M:%SZ}",
            hint="set the clock; nothing was deleted",
            lease_id=lease.lease_id,
        )


def _settled(services: Services, lease: Lease) -> bool:
    if lease.delete_accepted_at is None:
        return True
    since_ms = milliseconds_between(lease.delete_accepted_at, services.clock.now())
    return not 0 <= since_ms < DELETE_SETTLE_MS


def _send(services: Services, lease: Lease) -> Lease:
    """One DELETE and the fact of its outcome. A 404 accepts nothing: only absence proves absence."""
    instance_id = lease.instance_id or ""
    services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name="deleting", detail=instance_id))
    try:
        services.provider.delete(instance_id)
    except CallFailed as failure:
        wait_ms = min((failure.retry_after_s or 0) * 1000, RETRY_MAX_MS)
        deferred = e.DeleteDeferred(
            instance_id=instance_id,
            attempt=lease.deletes,
            cause=failure.message,
            status=failure.status,
            retry_at=after_ms(services.clock.now(), wait_ms) if wait_ms else None,
        )
        lease = services.book.record(lease.lease_id, deferred).lease
        if isinstance(failure, KeyRejected):
            raise
        return lease
    accepted = e.DeleteAccepted(instance_id=instance_id, attempt=lease.deletes)
    return services.book.record(lease.lease_id, accepted).lease


def _confirm(services: Services, lease: Lease, stop_at_s: float) -> Lease:
    """Looks for a confirmed absence until it is found, another DELETE is due or the time is over."""
    while True:
        evidence = _absence(services, lease)
        if evidence is not None:
            try:
                fact = e.DeletionConfirmed(
                    instance_id=lease.instance_id or "",
                    credential_binding=services.credential_binding,
                    evidence=evidence,
                )
                return services.book.record(lease.lease_id, fact).lease
            except Refused as refusal:
                if refusal.name != "no-evidence":
                    raise
        another_is_due = lease.delete_result != "accepted" or _settled(services, lease)
        wait_s = _resend_in_s(services, lease) if another_is_due else min(services.poll_interval_s, CONFIRM_POLL_MAX_S)
        left_s = stop_at_s - services.clock.monotonic_s()
        if left_s <= 0:
            return lease
        services.clock.sleep(min(wait_s, left_s))
        if another_is_due and wait_s < left_s:
            return lease
        services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name="confirming", detail="still there"))


def _resend_in_s(services: Services, lease: Lease) -> float:
    """How long to wait before a DELETE is sent again: longer each time, and as long as the provider asked for."""
    asked_ms = milliseconds_between(services.clock.now(), lease.retry_at) if lease.retry_at else 0
    return max(_backoff_s(lease.deletes), asked_ms / 1000)


def _absence(services: Services, lease: Lease) -> tuple[e.Observation, ...] | None:
    """GET 404, a complete inventory without the id, GET 404; None where any of them does not say so."""
    instance_id = lease.instance_id or ""
    evidence = []
    try:
        for kind in ("get-404", "inventory", "get-404"):
            at = services.clock.now()
            if kind == "inventory":
                absent = all(instance.id != instance_id for instance in services.provider.inventory().instances)
            else:
                absent = _look(services, lease).instance is None
            if not absent:
                return None
            evidence.append(e.Observation(kind=kind, at=at))
    except KeyRejected:
        raise
    except CallFailed:
        return None
    return tuple(evidence)


def _require_time(services: Services, lease: Lease, stop_at_s: float) -> None:
    if services.clock.monotonic_s() < stop_at_s:
        return
    because = f"; its last DELETE failed: {lease.delete_cause}" if lease.delete_cause else ""
    raise ProviderFailure(
        f"could not confirm that instance {lease.instance_id} of lease {lease.slug} is gone{because}",
        hint="the lease stays open and the box may still bill",
        next_step=f"rentroll stop {lease.slug}",
        lease_id=lease.lease_id,
    )


def finish(services: Services, lease_id: str) -> Lease:
    """Destroys the key and appends `released`, where the facts prove that nothing of the lease exists."""
    lease = services.book.load(lease_id)
    outcome = end_of(lease)
    if outcome is None:
        raise UsageFailure(f"lease {lease.slug} cannot be released: a box of it may exist", lease_id=lease_id)
    services.keys.destroy(lease_id)
    released = services.book.record(lease_id, e.Released(outcome=outcome, reason=lease.delete_reason)).lease
    services.tell(Stage(lease_id=lease_id, slug=lease.slug, name="released", detail=str(outcome)))
    return released


def delete_unrecorded(services: Services, instance_id: str) -> RentrollError | None:
    """The one DELETE without a binding: by the process that was given the id in a 201 and could not append it.

    Gives the failure, or None where the DELETE was accepted or the instance is unknown to the provider.
    """
    try:
        services.provider.delete(instance_id)
    except InstanceAbsent:
        return None
    except CallFailed as failure:
        return failure
    return None
