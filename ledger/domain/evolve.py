"""The fold: what each fact makes of a lease. It never refuses; what may happen is decided in `lease.py`."""

from collections.abc import Iterable
from typing import Any, assert_never

from msgspec.structs import replace

from ledger.domain import events as e
from ledger.domain.state import Attempt, Failure, Lease, Outcome, Phase, Recorded, Try


def replay(lease_id: str, facts: Iterable[Recorded]) -> Lease:
    """The lease that its facts, in order, say there is."""
    lease = Lease(lease_id=lease_id)
    for fact in facts:
        lease = evolve(lease, fact)
    return lease


def evolve(lease: Lease, fact: Recorded) -> Lease:
    """The lease after one more fact."""
    at, newest = fact.recorded_at, lease.recorded_at
    changes = _changes(lease, fact)
    changes["sequence"] = fact.sequence
    changes["recorded_at"] = at if newest is None or at > newest else newest
    return replace(lease, **changes)


def _changes(lease: Lease, fact: Recorded) -> dict[str, Any]:
    """A new dictionary each time: `evolve` adds to it."""
    at = fact.recorded_at
    match fact.event:
        # Signs of life first: most facts are such, and the cases are tried in turn.
        case e.SyncFinished() as event:
            return {"last_sync": event, "touched_at": at}
        case e.RunStarted() as event:
            return {"open_runs": (*lease.open_runs, event.run_id), "touched_at": at}
        case e.RunFinished() as event:
            if event.detached:
                return {"touched_at": at}
            runs = tuple(run for run in lease.open_runs if run != event.run_id)
            return {"open_runs": runs, "finished_run": event.run_id, "touched_at": at}
        case e.Touched() as event:
            changes: dict[str, Any] = {"touched_at": at}
            if event.ttl_ms is not None:
                changes["ttl_ms"] = event.ttl_ms
            if event.idle_timeout_ms is not None:
                changes["idle_timeout_ms"] = event.idle_timeout_ms
            return changes
        case e.CreateRequested() as event:
            return _requested(event, fact)
        case e.CreateSent() as event:
            attempt = Attempt(
                number=event.attempt,
                sent_at=at,
                boot_id=event.boot_id,
                uptime_ms=event.uptime_ms,
                provider_date=event.provider_date,
            )
            return {"phase": Phase.IN_DOUBT, "attempts": (*lease.attempts, attempt)}
        case e.CreateRejected() as event:
            return {
                "phase": Phase.ROLLING_BACK,
                "rejected": True,
                "attempts": _with_result(lease, event.attempt, "rejected"),
                "failure": Failure(stage="create", cause=event.message),
            }
        case e.CreateInDoubt() as event:
            return _in_doubt(lease, event)
        case e.CandidateTried() as event:
            tried = Try(
                instance_id=event.instance_id, at=at, host=event.host, verdict=event.verdict, host_key=event.host_key
            )
            return {"tries": (*lease.tries, tried)}
        case e.CandidatesSettled():
            return {"candidates_settled": True}
        case e.InstanceIdBound() as event:
            return _bound(lease, event, fact)
        case e.Ready() as event:
            keep = lease.request.keep if lease.request else None
            return {
                "phase": Phase.READY,
                "ready": event,
                "ready_at": at,
                "touched_at": at,
                "instance": event.instance,
                "shown": True,
                "keep": keep,
                "keep_cause": "user" if keep else None,
            }
        case e.KeepGranted() as event:
            granted: dict[str, Any] = {"keep": event.keep, "keep_cause": event.cause}
            if event.cause == "failed-acquire":
                granted["failure"] = Failure(stage=event.stage or "", cause=event.failure or "")
            return granted
        case e.KeepEnded():
            return {"keep": None, "keep_cause": None}
        case e.ClaimMoved() as event:
            return {"repository": event.repository, "host": event.host, "purpose": HELD}
        case e.CredentialRebound() as event:
            name = event.account_name or lease.account_name
            return {"credential_binding": event.credential_binding, "account_name": name}
        case e.AcquireFenced() as event:
            return {"acquirer": event.acquirer, "acquire_deadline": event.deadline, "host": event.host}
        case e.StopRequested() as event:
            return {"stop_reason": event.reason}
        case e.Rollback() as event:
            return {
                "phase": Phase.ROLLING_BACK,
                "failure": Failure(stage=event.stage, cause=event.cause),
                "shown": lease.shown or event.shown,
                "keep": None,
                "keep_cause": None,
            }
        case e.DeleteRequested() as event:
            return {
                "phase": Phase.DELETING,
                "deletes": event.attempt,
                "delete_reason": event.reason,
                "delete_result": "open",
                "delete_cause": None,
                "retry_at": None,
                "shown": lease.shown or event.shown,
                "keep": None,
                "keep_cause": None,
            }
        case e.DeleteAccepted():
            return {"delete_result": "accepted", "delete_accepted_at": at, "delete_answered": True}
        case e.DeleteDeferred() as event:
            return {
                "delete_result": "deferred",
                "delete_cause": event.cause,
                "delete_answered": lease.delete_answered or event.status is not None,
                "retry_at": event.retry_at,
            }
        case e.DeletionConfirmed():
            return {"confirmed_at": at}
        case e.Released() as event:
            return {"phase": Phase.RELEASED, "outcome": _OUTCOMES.get(event.outcome), "released_at": at}
        case e.Reopened() as event:
            return {**_REOPENED, "slug": event.slug, "shown": True}
        case _ as never:
            assert_never(never)


HELD = "held"
"""The purpose of a lease that somebody has taken: it ends with no run."""
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_REOPENED: dict[str, Any] = {
    "phase": Phase.ROLLING_BACK,
    "outcome": None,
    "released_at": None,
    "confirmed_at": None,
    "delete_result": None,
    "delete_cause": None,
    "retry_at": None,
    "keep": None,
    "keep_cause": None,
}


def _requested(event: e.CreateRequested, fact: Recorded) -> dict[str, Any]:
    return {
        "actor": fact.actor,
        "phase": Phase.REQUESTED,
        "slug": event.slug,
        "request": event,
        "created_at": fact.recorded_at,
        "acquirer": event.acquirer,
        "acquire_deadline": event.deadline,
        "credential_binding": event.credential_binding,
        "account_name": event.account_name,
        "ttl_ms": event.ttl_ms,
        "idle_timeout_ms": event.idle_timeout_ms,
        "purpose": event.purpose,
        "repository": event.repository,
        "host": event.host,
    }


def _in_doubt(lease: Lease, event: e.CreateInDoubt) -> dict[str, Any]:
    result = "not-sent" if not event.sent else "answered" if event.answered else "unanswered"
    attempts = _with_result(lease, event.attempt, result)
    if lease.phase is Phase.IN_DOUBT and all(attempt.result == "not-sent" for attempt in attempts):
        return {
            "phase": Phase.ROLLING_BACK,
            "attempts": attempts,
            "failure": Failure(stage="create", cause=event.cause),
        }
    return {"attempts": attempts}


def _bound(lease: Lease, event: e.InstanceIdBound, fact: Recorded) -> dict[str, Any]:
    """An id answered to the process that asked for it is worked on; one learnt in any other way is only deleted."""
    ours = (
        lease.phase is Phase.IN_DOUBT
        and event.evidence == "create-answer"
        and event.acquirer == lease.acquirer
        and not lease.is_taken_over
        and lease.stop_reason is None
    )
    changes: dict[str, Any] = {} if ours else dict(_REOPENED)
    if event.attempt is not None:
        changes["attempts"] = _with_result(lease, event.attempt, "bound")
    return changes | {
        "phase": Phase.PROVISIONING if ours else Phase.ROLLING_BACK,
        "instance_id": event.instance_id,
        "instance": event.instance,
        "evidence": event.evidence,
        "bound_at": fact.recorded_at,
        "shown": lease.shown or event.evidence == "key-proof",
    }


def _with_result(lease: Lease, number: int, result: str) -> tuple[Attempt, ...]:
    return tuple(replace(attempt, result=result) if attempt.number == number else attempt for attempt in lease.attempts)
