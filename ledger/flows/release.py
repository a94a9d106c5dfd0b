"""Giving a box back: prove it is ours, announce, DELETE, confirm that it is gone, destroy the key, release."""

from typing import NamedTuple

from ledger.domain import events as e
from ledger.domain.ending import end_of
from ledger.domain.errors import CredentialsFailure, NotFound, ProviderFailure, RentrollError, UsageFailure
from ledger.domain.ports import CallFailed, Instance, InstanceAbsent, KeyRejected
from ledger.domain.refusals import Refused
from ledger.domain.state import Lease, Phase
from ledger.domain.units import after_ms, milliseconds_between
from ledger.domain.windows import DELETE_SETTLE_MS
from ledger.flows.services import Services, Stage

CONFIRM_TIMEOUT_S = 60.0
CONFIRM_POLL_MAX_S = 3.0
BACKOFF_S = (2.0, 4.0, 8.0, 15.0)


def delete_box(services: Services, lease_id: str, *, reason: str, timeout_s: float = CONFIRM_TIMEOUT_S) -> Lease:
    """Deletes the box that a lease is bound to, confirms that it is gone and releases the lease.

    `timeout_s` bounds sending and confirming. Raises `ProviderFailure` where the absence could not be confirmed,
    `CredentialsFailure` or `UsageFailure` where this key or URL is not the lease's; the lease then stays open.
    """
    lease = services.book.load(lease_id)
    if lease.confirmed_at is None:
        require_own_account(services, lease)
        stop_at_s = services.clock.monotonic_s() + timeout_s
        try:
            _delete_until_gone(services, lease, reason, stop_at_s)
        except CallFailed as failure:
            failure.message += f"; {_left_open(lease)}"
            failure.lease_id, failure.next_step = lease_id, f"rentroll stop {lease.slug}"
            raise
    return finish(services, lease_id)


def _left_open(lease: Lease) -> str:
    return f"lease {lease.slug} stays open and its box {lease.instance_id} may still bill"


def require_own_account(services: Services, lease: Lease) -> None:
    """Refuses a lease of another endpoint or of another API key: what those do not show proves nothing."""
    if lease.request is None:
        raise NotFound(f"no lease {lease.lease_id} in this ledger")
    if lease.request.scope != services.provider.scope:
        raise UsageFailure(
            f"lease {lease.slug} was made at {lease.request.scope}, not at {services.provider.scope}",
            hint="set the API URL that it was made with",
            lease_id=lease.lease_id,
        )
    if lease.credential_binding != services.credential_binding:
        raise CredentialsFailure(
            f"lease {lease.slug} was made with another API key",
            hint="set the key that made it; nothing was sent",
            lease_id=lease.lease_id,
        )


class _Seen(NamedTuple):
    """What a GET of the bound id says: the instance, or None for a 404."""

    instance: Instance | None


def _delete_until_gone(services: Services, lease: Lease, reason: str, stop_at_s: float) -> None:
    while True:
        seen = _look_until_readable(services, lease, reason, stop_at_s)
        lease, must_send = _announce(services, lease, seen, reason)
        if must_send:
            lease = _send(services, lease)
        lease = _confirm(services, lease, stop_at_s)
        if lease.confirmed_at is not None:
            return
        _require_time(services, lease, stop_at_s)


def _look_until_readable(services: Services, lease: Lease, reason: str, stop_at_s: float) -> _Seen:
    """Live identity right before the DELETE: an unreadable state blocks it (REL-07), but not at the first fault."""
    tries = 0
    while True:
        try:
            return _look(services, lease)
        except KeyRejected:
            raise
        except CallFailed as failure:
            tries += 1
            _remember_the_aim(services, lease, reason)
            wait_s = max(_backoff_s(tries), failure.retry_after_s or 0)
            if services.clock.monotonic_s() + wait_s >= stop_at_s:
                raise
            services.clock.sleep(wait_s)


def _remember_the_aim(services: Services, lease: Lease, reason: str) -> None:
    """That nobody wants the box is kept even if this process gets no further."""
    if lease.phase is Phase.READY:
        services.book.record(lease.lease_id, e.StopRequested(reason=reason))


def _backoff_s(tries: int) -> float:
    return BACKOFF_S[min(max(tries, 1), len(BACKOFF_S)) - 1]


def _look(services: Services, lease: Lease) -> _Seen:
    try:
        return _Seen(services.provider.get(lease.instance_id or ""))
    except InstanceAbsent:
        return _Seen(None)


def _announce(services: Services, lease: Lease, seen: _Seen, reason: str) -> tuple[Lease, bool]:
    """Appends `delete-requested` where a DELETE is due, and says whether this process has to send it.

    A box that a read has shown and that is gone needs none; an accepted DELETE is sent again only after it settled.
    """
    if lease.delete_result == "accepted" and (seen.instance is None or not _settled(services, lease)):
        return lease, False
    fact = e.DeleteRequested(
        instance_id=lease.instance_id or "",
        attempt=lease.deletes + 1,
        reason=reason,
        shown=seen.instance is not None,
    )
    already_deleting = lease.phase is Phase.DELETING
    needed = seen.instance is not None or not lease.shown
    if already_deleting and not needed:
        return lease, False
    entry = services.book.record(lease.lease_id, fact)
    return entry.lease, entry.appended and needed


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
        wait_ms = (failure.retry_after_s or 0) * 1000
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
