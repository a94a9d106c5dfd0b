"""What may happen to a lease that is held: its limits, its keep, its runs.

Each judge says whether the wanted fact is new; it raises `Refused` where it may not happen.
"""

from datetime import datetime

from ledger.domain import events as e
from ledger.domain.acquiring import require_acquirer, require_not_taken_over
from ledger.domain.refusals import Refused, require_open, require_ready
from ledger.domain.state import Lease, Phase
from ledger.domain.units import DURATION_MAX_MS, milliseconds_between
from ledger.domain.windows import KEEP_MAX_MS


def require_limits(lease: Lease, *limits_ms: int) -> None:
    if not all(0 < limit_ms <= DURATION_MAX_MS for limit_ms in limits_ms):
        raise Refused(lease, "bad-limits", "its times are longer than zero and not absurd")


def require_good_keep(lease: Lease, keep: e.Keep, now: datetime) -> None:
    if not keep.reason.strip():
        raise Refused(lease, "bad-keep", "keep needs a reason")
    if not 0 < milliseconds_between(now, keep.until) <= KEEP_MAX_MS:
        raise Refused(lease, "bad-keep", "keep ends in the future, at most seven days ahead")


def touched(lease: Lease, fact: e.Touched, now: datetime) -> bool:
    require_ready(lease)
    ttl_ms = lease.ttl_ms if fact.ttl_ms is None else fact.ttl_ms
    idle_timeout_ms = lease.idle_timeout_ms if fact.idle_timeout_ms is None else fact.idle_timeout_ms
    require_limits(lease, ttl_ms, idle_timeout_ms)
    return (lease.touched_at, lease.ttl_ms, lease.idle_timeout_ms) != (now, ttl_ms, idle_timeout_ms)


def keep_granted(lease: Lease, fact: e.KeepGranted, now: datetime) -> bool:
    require_open(lease)
    if fact.cause == "failed-acquire":
        if lease.phase is not Phase.PROVISIONING:
            raise Refused(lease, "not-acquiring", f"it is {lease.phase}, not being acquired")
        require_acquirer(lease, fact.acquirer or "", now)
        require_not_taken_over(lease)
        if lease.stop_reason is not None:
            raise Refused(lease, "stop-requested", f"a stop was asked for: {lease.stop_reason}")
        if not fact.stage:
            raise Refused(lease, "bad-keep", "a failed acquisition is kept with the stage that it failed at")
    elif not (lease.phase is Phase.PROVISIONING and lease.failure is not None):
        require_ready(lease)
    require_good_keep(lease, fact.keep, now)
    return (lease.keep, lease.keep_cause) != (fact.keep, fact.cause)


def run_finished(lease: Lease, fact: e.RunFinished) -> bool:
    if lease.finished_run == fact.run_id and fact.run_id not in lease.open_runs:
        return False
    if fact.run_id not in lease.open_runs:
        raise Refused(lease, "no-such-run", f"no run {fact.run_id} is open on it")
    return True
