"""What may happen to a lease: which facts may be appended, when, and the name of each refusal.

A command is the fact that somebody wants to append. `decide` answers with the facts that follow: none where the
fact is recorded already, a named refusal where it may not happen. Pure: the state, the fact and the time decide.
`docs/lifecycle.md` draws the same rules.
"""

from datetime import datetime
from typing import assert_never

from ledger.domain import events as e
from ledger.domain.errors import Conflict, CredentialsFailure, NotFound, RentrollError, UsageFailure
from ledger.domain.state import Attempt, Lease, Outcome, Phase
from ledger.domain.units import DURATION_MAX_MS, after_ms, milliseconds_between

WINDOW_MS = 540_000
"""A create is replayed only so long after its first POST: fal caches the answer to a key for 10 minutes (its OpenAPI
document of 2026-08-21), and one minute of those is margin."""
IN_FLIGHT_MS = 90_000
"""A POST without an answer may still be running: its own limit of 30 s and a minute."""
DELETE_SETTLE_MS = 60_000
"""An accepted DELETE whose box stays is sent again, not before this."""
UNSHOWN_ABSENCE_MS = 30 * 60_000
"""An id that no read has ever shown counts as absent only so long after it was bound."""
KEEP_MAX_MS = 7 * 86_400_000
"""A keep, however often renewed, ends at most so far ahead."""
NEVER_CREATED_INVENTORIES = 5
"""So many complete inventories, begun after the window closed, show that nothing was made."""
INVENTORY_SPACING_MS = 5 * 60_000
"""Two inventories nearer than this count as one look."""

REFUSALS: dict[str, type[RentrollError]] = {
    "exists": Conflict,
    "no-such-lease": NotFound,
    "released": NotFound,
    "not-ready": NotFound,
    "deleting": NotFound,
    "bad-limits": UsageFailure,
    "bound-to-another": UsageFailure,
    "not-new": UsageFailure,
    "already-bound": Conflict,
    "never-sent": UsageFailure,
    "stop-requested": Conflict,
    "rebound": CredentialsFailure,
    "fenced": Conflict,
    "past-deadline": Conflict,
    "window-closed": Conflict,
    "in-flight": Conflict,
    "settled": Conflict,
    "wrong-attempt": Conflict,
    "not-acquiring": Conflict,
    "past-end": Conflict,
    "not-expired": Conflict,
    "bad-keep": UsageFailure,
    "no-such-run": NotFound,
    "roll-back-first": Conflict,
    "settling": Conflict,
    "not-deleting": Conflict,
    "no-evidence": Conflict,
    "may-exist": Conflict,
    "not-released": Conflict,
}
"""Each refusal by name, and the error that it is to a user."""


class Refused(RentrollError):
    """A fact may not be appended to this lease now. `name` is a key of `REFUSALS`."""

    def __init__(self, lease: Lease, name: str, message: str) -> None:
        super().__init__(f"lease {lease.slug or lease.lease_id}: {message}", lease_id=lease.lease_id)
        self.name = name
        kind = REFUSALS[name]
        self.code = kind.code  # type: ignore[misc]
        self.exit_code = kind.exit_code  # type: ignore[misc]
        self.remedy = kind.remedy  # type: ignore[misc]


def decide(lease: Lease, fact: e.LeaseEvent, now: datetime) -> list[e.LeaseEvent]:
    """The facts that follow from a wanted one; none if it is recorded already. Raises `Refused`."""
    if isinstance(fact, e.CreateRequested):
        return _first(lease, fact, now)
    if lease.phase is None:
        raise Refused(lease, "no-such-lease", "nothing was ever asked for under this id")
    return [fact] if _is_new(lease, fact, now) else []


def _first(lease: Lease, fact: e.CreateRequested, now: datetime) -> list[e.LeaseEvent]:
    if lease.request == fact:
        return []
    if lease.phase is not None:
        raise Refused(lease, "exists", "this lease id is in use")
    _require_limits(lease, fact.ttl_ms, fact.idle_timeout_ms)
    if fact.keep is not None:
        _require_good_keep(lease, fact.keep, now)
    return [fact]


def _is_new(lease: Lease, fact: e.LeaseEvent, now: datetime) -> bool:
    match fact:
        case e.CreateRequested():
            return False
        case e.CreateSent():
            return _create_sent(lease, fact, now)
        case e.CreateRejected():
            return _create_rejected(lease, fact)
        case e.CreateInDoubt():
            return _attempt(lease, fact.attempt).result == "open"
        case e.InstanceIdBound():
            return _bound(lease, fact)
        case e.Ready():
            return _ready(lease, fact, now)
        case e.Touched():
            return _touched(lease, fact, now)
        case e.KeepGranted():
            return _keep_granted(lease, fact, now)
        case e.KeepEnded():
            _require_open(lease)
            return lease.keep is not None
        case e.SyncFinished():
            _require_ready(lease)
            return lease.last_sync != fact or lease.touched_at != now
        case e.RunStarted():
            _require_ready(lease)
            return fact.run_id not in (*lease.open_runs, lease.finished_run)
        case e.RunFinished():
            return _run_finished(lease, fact)
        case e.ClaimMoved():
            _require_open(lease)
            return (lease.repository, lease.host) != (fact.repository, fact.host)
        case e.CredentialRebound():
            _require_open(lease)
            return lease.credential_binding != fact.credential_binding
        case e.AcquireFenced():
            return _fenced(lease, fact, now)
        case e.StopRequested():
            return _stop_requested(lease)
        case e.Rollback():
            return _rollback(lease)
        case e.DeleteRequested():
            return _delete_requested(lease, fact, now)
        case e.DeleteAccepted() | e.DeleteDeferred():
            return _delete_answered(lease, fact)
        case e.DeletionConfirmed():
            return _deletion_confirmed(lease, fact, now)
        case e.Released():
            return _released(lease, fact, now)
        case e.Reopened():
            return _reopened(lease, fact)
        case _ as never:
            assert_never(never)


def _require_limits(lease: Lease, *limits_ms: int) -> None:
    if not all(0 < limit_ms <= DURATION_MAX_MS for limit_ms in limits_ms):
        raise Refused(lease, "bad-limits", "its times are longer than zero and not absurd")


def _require_good_keep(lease: Lease, keep: e.Keep, now: datetime) -> None:
    if not keep.reason.strip():
        raise Refused(lease, "bad-keep", "keep needs a reason")
    if not 0 < milliseconds_between(now, keep.until) <= KEEP_MAX_MS:
        raise Refused(lease, "bad-keep", "keep ends in the future, at most seven days ahead")


def _require_open(lease: Lease) -> None:
    if lease.phase is Phase.RELEASED:
        raise Refused(lease, "released", f"it is released ({lease.outcome})")


def _require_ready(lease: Lease) -> None:
    _require_open(lease)
    if lease.phase is Phase.DELETING:
        raise Refused(lease, "deleting", "its deletion has begun")
    if lease.phase is not Phase.READY:
        raise Refused(lease, "not-ready", f"it is {lease.phase}, not ready")


def _require_acquirer(lease: Lease, acquirer: str, now: datetime) -> None:
    if acquirer != lease.acquirer:
        raise Refused(lease, "fenced", "another process has taken it over")
    if lease.acquire_deadline is not None and now > lease.acquire_deadline:
        raise Refused(lease, "past-deadline", "the deadline of its acquisition has passed")


def _require_same_box(lease: Lease, instance_id: str) -> None:
    if instance_id != lease.instance_id:
        raise Refused(lease, "bound-to-another", f"its box is {lease.instance_id or 'not known'}, not {instance_id}")


def _attempt(lease: Lease, number: int) -> Attempt:
    if not 1 <= number <= len(lease.attempts):
        raise Refused(lease, "wrong-attempt", f"attempt {number} was never announced")
    return lease.attempts[number - 1]


def _create_sent(lease: Lease, fact: e.CreateSent, now: datetime) -> bool:
    _require_open(lease)
    if lease.instance_id is not None:
        raise Refused(lease, "already-bound", f"its box is {lease.instance_id}")
    if lease.rejected or (lease.attempts and lease.nothing_sent):
        raise Refused(lease, "settled", "its create is settled: nothing was made")
    if _is_twin(lease):
        raise Refused(lease, "settled", "it only holds a second box of another lease: nothing is created for it")
    if lease.request is not None and lease.credential_binding != lease.request.credential_binding:
        raise Refused(lease, "rebound", "another key owns it now: its create is not repeated under that")
    _require_acquirer(lease, fact.acquirer, now)
    if 0 < fact.attempt == len(lease.attempts):
        return False
    if fact.attempt != len(lease.attempts) + 1:
        raise Refused(lease, "wrong-attempt", f"the next attempt is {len(lease.attempts) + 1}")
    if not lease.attempts:
        if lease.stop_reason is not None:
            raise Refused(lease, "stop-requested", f"a stop was asked for: {lease.stop_reason}")
        _require_time_left(lease, now)
        return True
    last = lease.attempts[-1]
    if last.result in ("open", "unanswered") and milliseconds_between(last.sent_at, now) < IN_FLIGHT_MS:
        raise Refused(lease, "in-flight", "its last request may still be running")
    if not window_open(
        lease, now=now, boot_id=fact.boot_id, uptime_ms=fact.uptime_ms, provider_date=fact.provider_date
    ):
        raise Refused(lease, "window-closed", "the nine minutes in which a create may be replayed are over")
    return True


def window_open(lease: Lease, *, now: datetime, boot_id: str, uptime_ms: int, provider_date: datetime | None) -> bool:
    """Whether the create may be replayed: the wall clock, the clock through sleep and fal's `Date` all say so."""
    if not lease.attempts:
        return True
    first, newest = lease.attempts[0], lease.recorded_at
    if boot_id != first.boot_id or (newest is not None and now < newest):
        return False
    ages = [milliseconds_between(first.sent_at, now), uptime_ms - first.uptime_ms]
    if first.provider_date is not None and provider_date is not None:
        ages.append(milliseconds_between(first.provider_date, provider_date))
    return all(0 <= age < WINDOW_MS for age in ages)


def _create_rejected(lease: Lease, fact: e.CreateRejected) -> bool:
    attempt = _attempt(lease, fact.attempt)
    if attempt.result == "rejected":
        return False
    _require_open(lease)
    if lease.instance_id is not None:
        raise Refused(lease, "already-bound", f"its box is {lease.instance_id}")
    if fact.attempt != 1 or len(lease.attempts) != 1 or attempt.result != "open":
        raise Refused(lease, "may-exist", "a refused replay says nothing about the attempts before it")
    return True


def _bound(lease: Lease, fact: e.InstanceIdBound) -> bool:
    if lease.instance_id == fact.instance_id:
        return False
    if lease.instance_id is not None:
        raise Refused(lease, "bound-to-another", f"its box is {lease.instance_id}, not {fact.instance_id}")
    if not fact.instance_id.strip():
        raise Refused(lease, "no-evidence", "an empty instance id names no box")
    if lease.request is not None and fact.instance_id in lease.request.ids_before:
        raise Refused(lease, "not-new", f"{fact.instance_id} was there before its create")
    if not lease.attempts and not _is_twin(lease):
        raise Refused(lease, "never-sent", "no create of it was ever announced")
    return True


def _is_twin(lease: Lease) -> bool:
    return lease.request is not None and lease.request.twin_of is not None


def _require_time_left(lease: Lease, now: datetime) -> None:
    """keep does not lengthen an acquisition, but a requested keep that ends sooner shortens it."""
    request, created_at = lease.request, lease.created_at
    if request is None or created_at is None:
        return
    ends = [after_ms(created_at, lease.ttl_ms)] + ([request.keep.until] if request.keep else [])
    if now >= min(ends):
        raise Refused(lease, "past-end", "its time is over")


def _ready(lease: Lease, fact: e.Ready, now: datetime) -> bool:
    if lease.ready == fact and lease.phase is Phase.READY:
        return False
    _require_open(lease)
    if lease.phase is not Phase.PROVISIONING or lease.failure is not None:
        raise Refused(lease, "not-acquiring", f"it is {lease.phase}, not being acquired")
    _require_acquirer(lease, fact.acquirer, now)
    _require_not_taken_over(lease)
    _require_same_box(lease, fact.instance.id)
    if lease.stop_reason is not None:
        raise Refused(lease, "stop-requested", f"a stop was asked for: {lease.stop_reason}")
    _require_time_left(lease, now)
    return True


def _require_not_taken_over(lease: Lease) -> None:
    if lease.is_taken_over:
        raise Refused(lease, "not-acquiring", "its acquisition was taken over: it is only given back")


def _touched(lease: Lease, fact: e.Touched, now: datetime) -> bool:
    _require_ready(lease)
    ttl_ms = lease.ttl_ms if fact.ttl_ms is None else fact.ttl_ms
    idle_timeout_ms = lease.idle_timeout_ms if fact.idle_timeout_ms is None else fact.idle_timeout_ms
    _require_limits(lease, ttl_ms, idle_timeout_ms)
    return (lease.touched_at, lease.ttl_ms, lease.idle_timeout_ms) != (now, ttl_ms, idle_timeout_ms)


def _keep_granted(lease: Lease, fact: e.KeepGranted, now: datetime) -> bool:
    _require_open(lease)
    if fact.cause == "failed-acquire":
        if lease.phase is not Phase.PROVISIONING:
            raise Refused(lease, "not-acquiring", f"it is {lease.phase}, not being acquired")
        if fact.acquirer != lease.acquirer:
            raise Refused(lease, "fenced", "another process has taken it over")
        _require_not_taken_over(lease)
        if lease.stop_reason is not None:
            raise Refused(lease, "stop-requested", f"a stop was asked for: {lease.stop_reason}")
        if not fact.stage:
            raise Refused(lease, "bad-keep", "a failed acquisition is kept with the stage that it failed at")
    elif not (lease.phase is Phase.PROVISIONING and lease.failure is not None):
        _require_ready(lease)
    _require_good_keep(lease, fact.keep, now)
    return (lease.keep, lease.keep_cause) != (fact.keep, fact.cause)


def _run_finished(lease: Lease, fact: e.RunFinished) -> bool:
    if lease.finished_run == fact.run_id and fact.run_id not in lease.open_runs:
        return False
    if fact.run_id not in lease.open_runs:
        raise Refused(lease, "no-such-run", f"no run {fact.run_id} is open on it")
    return True


def _fenced(lease: Lease, fact: e.AcquireFenced, now: datetime) -> bool:
    if lease.acquirer == fact.acquirer:
        return False
    _require_open(lease)
    if fact.evidence != "lock-free" and lease.acquire_deadline is not None and now <= lease.acquire_deadline:
        raise Refused(lease, "not-expired", "its acquirer is inside its deadline")
    return True


def _stop_requested(lease: Lease) -> bool:
    _require_open(lease)
    if lease.stop_reason is not None or lease.phase in (Phase.ROLLING_BACK, Phase.DELETING):
        return False
    if lease.phase is Phase.READY:
        raise Refused(lease, "not-acquiring", "it is ready: it is deleted, not asked to stop")
    return True


def _rollback(lease: Lease) -> bool:
    _require_open(lease)
    if lease.phase in (Phase.ROLLING_BACK, Phase.DELETING):
        return False
    if lease.phase is not Phase.PROVISIONING:
        raise Refused(lease, "not-acquiring", f"it is {lease.phase}, not provisioning")
    return True


def is_expired(lease: Lease, now: datetime) -> bool:
    """Whether its own time is over: TTL, idle time or the end of keep. A clock behind the newest fact cannot tell."""
    return lease.expires_at is not None and now >= lease.expires_at and not _is_behind(lease, now)


def _is_behind(lease: Lease, now: datetime) -> bool:
    return lease.recorded_at is not None and now < lease.recorded_at


def _delete_requested(lease: Lease, fact: e.DeleteRequested, now: datetime) -> bool:
    _require_open(lease)
    if lease.instance_id is None:
        raise Refused(lease, "may-exist", "its box is not known, so nothing can be deleted")
    _require_same_box(lease, fact.instance_id)
    if lease.phase is Phase.PROVISIONING:
        raise Refused(lease, "roll-back-first", "it is provisioning: roll it back first")
    if fact.reason == "expired" and lease.phase is Phase.READY and not is_expired(lease, now):
        raise Refused(lease, "not-expired", "it has time left")
    if fact.attempt == lease.deletes and lease.phase is Phase.DELETING:
        return False
    if fact.attempt != lease.deletes + 1:
        raise Refused(lease, "wrong-attempt", f"the next attempt is {lease.deletes + 1}")
    if lease.confirmed_at is not None:
        raise Refused(lease, "settled", "its box is gone")
    if (
        lease.delete_result == "accepted"
        and lease.delete_accepted_at is not None
        and 0 <= milliseconds_between(lease.delete_accepted_at, now) < DELETE_SETTLE_MS
    ):
        raise Refused(lease, "settling", "its deletion was accepted a moment ago")
    return True


def _delete_answered(lease: Lease, fact: e.DeleteAccepted | e.DeleteDeferred) -> bool:
    _require_same_box(lease, fact.instance_id)
    if not 1 <= fact.attempt <= lease.deletes:
        raise Refused(lease, "wrong-attempt", f"DELETE {fact.attempt} was never announced")
    return fact.attempt == lease.deletes and lease.delete_result == "open" and lease.phase is Phase.DELETING


def _deletion_confirmed(lease: Lease, fact: e.DeletionConfirmed, now: datetime) -> bool:
    _require_open(lease)
    _require_same_box(lease, fact.instance_id)
    if lease.confirmed_at is not None:
        return False
    if lease.phase is not Phase.DELETING or lease.bound_at is None:
        raise Refused(lease, "not-deleting", f"it is {lease.phase}, not deleting")
    if [seen.kind for seen in fact.evidence] != ["get-404", "inventory", "get-404"]:
        raise Refused(lease, "no-evidence", "absence is GET 404, a complete inventory without it, GET 404")
    looked_at = [seen.at for seen in fact.evidence]
    if looked_at != sorted(looked_at):
        raise Refused(lease, "no-evidence", "the looks that its absence rests on are out of order")
    if lease.shown:
        return True
    if not lease.delete_answered:
        raise Refused(lease, "no-evidence", "no read has ever shown its box and no DELETE of it was answered")
    if milliseconds_between(lease.bound_at, min(looked_at[0], now)) < UNSHOWN_ABSENCE_MS:
        raise Refused(lease, "no-evidence", "no read has ever shown its box: it may still appear")
    return True


def _released(lease: Lease, fact: e.Released, now: datetime) -> bool:
    if lease.phase is Phase.RELEASED:
        if lease.outcome == fact.outcome:
            return False
        raise Refused(lease, "released", f"it is released ({lease.outcome})")
    if fact.outcome not in list(Outcome):
        raise Refused(lease, "no-evidence", f"{fact.outcome} is not how a lease ends")
    match Outcome(fact.outcome):
        case Outcome.COMPLETED:
            proven = lease.confirmed_at is not None and lease.ready_at is not None
        case Outcome.ROLLED_BACK:
            proven = lease.confirmed_at is not None and lease.ready_at is None
        case Outcome.REJECTED:
            proven = lease.rejected and lease.instance_id is None
        case Outcome.CANCELLED:
            proven = lease.nothing_sent and lease.instance_id is None
        case Outcome.NEVER_CREATED:
            proven = _never_created(lease, fact, now)
        case Outcome.WRITTEN_OFF:
            if not (fact.reason or "").strip():
                raise Refused(lease, "no-evidence", "writing off needs a reason")
            # A clock from before the first POST cannot replay it either, and must not take the last way out.
            since_ms = _since_first_sent_ms(lease, now)
            proven = lease.instance_id is not None or (since_ms is not None and not 0 <= since_ms < WINDOW_MS)
        case _ as never:
            assert_never(never)
    if not proven:
        raise Refused(lease, "may-exist", f"it cannot be released as {fact.outcome}: a box of it may exist")
    return True


def _never_created(lease: Lease, fact: e.Released, now: datetime) -> bool:
    """Whether enough inventories are named and enough time has passed for them to have been made apart."""
    since_ms = _since_first_sent_ms(lease, now)
    looking_ms = (NEVER_CREATED_INVENTORIES - 1) * INVENTORY_SPACING_MS
    return (
        lease.phase is Phase.IN_DOUBT
        and len(set(fact.inventories)) >= NEVER_CREATED_INVENTORIES
        and since_ms is not None
        and since_ms >= WINDOW_MS + looking_ms
        and not _is_behind(lease, now)
    )


def _since_first_sent_ms(lease: Lease, now: datetime) -> int | None:
    first = lease.first_sent_at
    return None if first is None else milliseconds_between(first, now)


def _reopened(lease: Lease, fact: e.Reopened) -> bool:
    _require_same_box(lease, fact.instance_id)
    if lease.phase is not Phase.RELEASED:
        if lease.confirmed_at is None and lease.phase is Phase.ROLLING_BACK:
            return False
        raise Refused(lease, "not-released", f"it is {lease.phase}")
    if not fact.evidence:
        raise Refused(lease, "no-evidence", "a released box is back only when somebody has seen it")
    return True


def end_of(lease: Lease) -> Outcome | None:
    """The outcome that the facts already prove, or None while something may exist or is unknown."""
    if lease.rejected and lease.instance_id is None:
        return Outcome.REJECTED
    if lease.instance_id is None:
        return Outcome.CANCELLED if lease.phase is not None and lease.nothing_sent else None
    if lease.confirmed_at is None:
        return None
    return Outcome.COMPLETED if lease.ready_at is not None else Outcome.ROLLED_BACK
