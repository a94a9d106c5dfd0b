"""What may happen from the first POST to `ready`: attempts, bindings, fences, stops and rollbacks.

Each function says whether the wanted fact is new; it raises `Refused` where it may not happen.
"""

from datetime import datetime

from ledger.domain import events as e
from ledger.domain.refusals import Refused, require_open, require_same_box
from ledger.domain.state import Attempt, Lease, Phase
from ledger.domain.units import after_ms
from ledger.domain.windows import in_flight_left_ms, is_expired, window_open


def attempt_of(lease: Lease, number: int) -> Attempt:
    if not 1 <= number <= len(lease.attempts):
        raise Refused(lease, "wrong-attempt", f"attempt {number} was never announced")
    return lease.attempts[number - 1]


def create_sent(lease: Lease, fact: e.CreateSent, now: datetime) -> bool:
    require_open(lease)
    if lease.instance_id is not None:
        raise Refused(lease, "already-bound", f"its box is {lease.instance_id}")
    if lease.rejected or (lease.attempts and lease.nothing_sent):
        raise Refused(lease, "settled", "its create is settled: nothing was made")
    if _is_twin(lease):
        raise Refused(lease, "settled", "it only holds a second box of another lease: nothing is created for it")
    _require_same_request(lease, fact)
    require_acquirer(lease, fact.acquirer, now)
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
    left_ms = in_flight_left_ms(last, now=now, boot_id=fact.boot_id, uptime_ms=fact.uptime_ms)
    if last.result in ("open", "unanswered") and left_ms > 0:
        raise Refused(lease, "in-flight", "its last request may still be running")
    if not window_open(
        lease, now=now, boot_id=fact.boot_id, uptime_ms=fact.uptime_ms, provider_date=fact.provider_date
    ):
        raise Refused(lease, "window-closed", "the nine minutes in which a create may be replayed are over")
    return True


def _require_same_request(lease: Lease, fact: e.CreateSent) -> None:
    """A create goes out under the key and with the body it was asked with, and never otherwise (CRE-22, CRE-23)."""
    request = lease.request
    if request is None:
        return
    if not fact.credential_binding == lease.credential_binding == request.credential_binding:
        raise Refused(lease, "rebound", "its create goes out only under the key that asked for it")
    if fact.request_digest != request.request_digest:
        raise Refused(lease, "request-changed", "its create goes out only with the body that was recorded")


def create_rejected(lease: Lease, fact: e.CreateRejected) -> bool:
    attempt = attempt_of(lease, fact.attempt)
    if attempt.result == "rejected":
        return False
    require_open(lease)
    if lease.instance_id is not None:
        raise Refused(lease, "already-bound", f"its box is {lease.instance_id}")
    if fact.attempt != 1 or len(lease.attempts) != 1 or attempt.result != "open":
        raise Refused(lease, "may-exist", "a refused replay says nothing about the attempts before it")
    return True


VERDICTS = ("accepted", "refused", "unproven", "no-answer")
"""What a box may say to a lease's key."""


def candidate_tried(lease: Lease, fact: e.CandidateTried, now: datetime) -> bool:
    """A box is tried whatever the lease's phase: it may show up after its lease was given up."""
    if not lease.attempts:
        raise Refused(lease, "never-sent", "no create of it was ever announced")
    if lease.request is not None and fact.instance_id in lease.request.ids_before:
        raise Refused(lease, "not-new", f"{fact.instance_id} was there before its create")
    if fact.verdict not in VERDICTS:
        raise Refused(lease, "no-evidence", f"{fact.verdict} is not what a box says to a key")
    last = next((tried for tried in reversed(lease.tries) if tried.instance_id == fact.instance_id), None)
    said = (now, fact.verdict, fact.host, fact.host_key)
    return last is None or (last.at, last.verdict, last.host, last.host_key) != said


def candidates_settled(lease: Lease, fact: e.CandidatesSettled) -> bool:
    if lease.candidates_settled:
        return False
    if not fact.inventories:
        raise Refused(lease, "no-evidence", "that nothing else was made rests on inventories")
    if lease.instance_id is None:
        raise Refused(lease, "may-exist", "its own box is not known yet")
    return True


def bound(lease: Lease, fact: e.InstanceIdBound) -> bool:
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


def ready(lease: Lease, fact: e.Ready, now: datetime) -> bool:
    if lease.ready == fact and lease.phase is Phase.READY:
        return False
    require_open(lease)
    if lease.phase is not Phase.PROVISIONING or lease.failure is not None:
        raise Refused(lease, "not-acquiring", f"it is {lease.phase}, not being acquired")
    require_acquirer(lease, fact.acquirer, now)
    require_not_taken_over(lease)
    require_same_box(lease, fact.instance.id)
    if lease.stop_reason is not None:
        raise Refused(lease, "stop-requested", f"a stop was asked for: {lease.stop_reason}")
    _require_time_left(lease, now)
    return True


def _require_time_left(lease: Lease, now: datetime) -> None:
    """keep does not lengthen an acquisition, but a requested keep that ends sooner shortens it."""
    request, created_at = lease.request, lease.created_at
    if request is None or created_at is None:
        return
    ends = [after_ms(created_at, lease.ttl_ms)] + ([request.keep.until] if request.keep else [])
    if now >= min(ends):
        raise Refused(lease, "past-end", "its time is over")


def require_acquirer(lease: Lease, acquirer: str, now: datetime) -> None:
    if acquirer != lease.acquirer:
        raise Refused(lease, "fenced", "another process has taken it over")
    if lease.acquire_deadline is not None and now > lease.acquire_deadline:
        raise Refused(lease, "past-deadline", "the deadline of its acquisition has passed")


def require_not_taken_over(lease: Lease) -> None:
    if lease.is_taken_over:
        raise Refused(lease, "not-acquiring", "its acquisition was taken over: it is only given back")


def fenced(lease: Lease, fact: e.AcquireFenced, now: datetime) -> bool:
    if lease.acquirer == fact.acquirer:
        return False
    require_open(lease)
    if fact.evidence != "lock-free" and lease.acquire_deadline is not None and now <= lease.acquire_deadline:
        raise Refused(lease, "not-expired", "its acquirer is inside its deadline")
    return True


def stop_requested(lease: Lease) -> bool:
    require_open(lease)
    return lease.stop_reason is None and lease.phase not in (Phase.ROLLING_BACK, Phase.DELETING)


def rollback(lease: Lease, fact: e.Rollback, now: datetime) -> bool:
    require_open(lease)
    if lease.phase in (Phase.ROLLING_BACK, Phase.DELETING):
        return False
    if fact.stage == "expired" and not is_expired(lease, now):
        raise Refused(lease, "not-expired", "it has time left")
    if lease.phase is not Phase.PROVISIONING:
        raise Refused(lease, "not-acquiring", f"it is {lease.phase}, not provisioning")
    return True
