"""What may happen to a lease: which facts may be appended, when, and the name of each refusal.

A command is the fact that somebody wants to append. `decide` answers with the facts that follow: none where the
fact is recorded already, a named refusal where it may not happen. Pure: the state, the fact and the time decide.
`docs/lifecycle.md` draws the same rules.
"""

from datetime import datetime
from typing import assert_never

from ledger.domain import events as e
from ledger.domain.acquiring import (
    attempt_of,
    bound,
    candidate_tried,
    candidates_settled,
    create_rejected,
    create_sent,
    fenced,
    ready,
    rollback,
    stop_requested,
)
from ledger.domain.ending import delete_answered, delete_requested, deletion_confirmed, released, reopened
from ledger.domain.evolve import HELD
from ledger.domain.holding import keep_granted, require_good_keep, require_limits, run_finished, touched
from ledger.domain.refusals import Refused, require_open, require_ready
from ledger.domain.state import Lease


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
    require_limits(lease, fact.ttl_ms, fact.idle_timeout_ms)
    if fact.keep is not None:
        require_good_keep(lease, fact.keep, now)
    return [fact]


def _is_new(lease: Lease, fact: e.LeaseEvent, now: datetime) -> bool:
    match fact:
        case e.CreateRequested():
            return False
        case e.CreateSent():
            return create_sent(lease, fact, now)
        case e.CreateRejected():
            return create_rejected(lease, fact)
        case e.CreateInDoubt():
            return attempt_of(lease, fact.attempt).result == "open"
        case e.CandidateTried():
            return candidate_tried(lease, fact, now)
        case e.CandidatesSettled():
            return candidates_settled(lease, fact)
        case e.InstanceIdBound():
            return bound(lease, fact)
        case e.Ready():
            return ready(lease, fact, now)
        case e.Touched():
            return touched(lease, fact, now)
        case e.KeepGranted():
            return keep_granted(lease, fact, now)
        case e.KeepEnded():
            require_open(lease)
            return lease.keep is not None
        case e.SyncFinished():
            require_ready(lease)
            return lease.last_sync != fact or lease.touched_at != now
        case e.RunStarted():
            require_ready(lease)
            return fact.run_id not in (*lease.open_runs, lease.finished_run)
        case e.RunFinished():
            return run_finished(lease, fact)
        case e.ClaimMoved():
            require_open(lease)
            return (lease.repository, lease.host, lease.purpose) != (fact.repository, fact.host, HELD)
        case e.CredentialRebound():
            # Also of a released lease: its box is still looked for, and only the owning key's looks count.
            return lease.credential_binding != fact.credential_binding
        case e.AcquireFenced():
            return fenced(lease, fact, now)
        case e.StopRequested():
            return stop_requested(lease)
        case e.Rollback():
            return rollback(lease, fact, now)
        case e.DeleteRequested():
            return delete_requested(lease, fact, now)
        case e.DeleteAccepted() | e.DeleteDeferred():
            return delete_answered(lease, fact)
        case e.DeletionConfirmed():
            return deletion_confirmed(lease, fact, now)
        case e.Released():
            return released(lease, fact, now)
        case e.Reopened():
            return reopened(lease, fact)
        case _ as never:
            assert_never(never)
