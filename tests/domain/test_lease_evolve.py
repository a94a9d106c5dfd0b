"""What each fact makes of a lease: exactly the fields that change, and nothing else."""

from typing import Any

import pytest
from msgspec.structs import asdict

from ledger.domain import events as e
from ledger.domain.evolve import evolve
from ledger.domain.state import Attempt, Failure, Outcome, Phase, Try
from tests.domain import histories as h
from tests.domain.histories import Past


def changes(past: Past, seconds: float, fact: e.LeaseEvent) -> dict[str, Any]:
    """The fields in which the lease after the fact differs from the lease before it, but for its place and time."""
    before = h.tell(past)
    after = evolve(before, h.recorded(before, fact, h.at(seconds)))
    assert (after.sequence, after.recorded_at) == (len(past) + 1, h.at(seconds))
    old = asdict(before)
    differing = {name: value for name, value in asdict(after).items() if value != old[name]}
    return {name: value for name, value in differing.items() if name not in ("sequence", "recorded_at")}


def attempt(result: str) -> Attempt:
    return Attempt(number=1, sent_at=h.at(1), boot_id=h.BOOT, uptime_ms=5_001_000, provider_date=None, result=result)


FOLDS = [
    pytest.param(
        (),
        0,
        h.requested(),
        {
            "actor": h.ACTOR,
            "phase": Phase.REQUESTED,
            "slug": "amber-acre",
            "request": h.requested(),
            "created_at": h.START,
            "acquirer": h.ACQUIRER,
            "acquire_deadline": h.at(1_020),
            "credential_binding": "c1",
            "account_name": "acme",
            "ttl_ms": 5_400_000,
            "idle_timeout_ms": 1_800_000,
            "repository": h.REPOSITORY,
            "host": "desk",
            "purpose": "warmup",
        },
        id="create-requested",
    ),
    pytest.param(h.REQUESTED, 1, h.sent(), {"phase": Phase.IN_DOUBT, "attempts": (attempt("open"),)}, id="create-sent"),
    pytest.param(
        h.SENT,
        2,
        h.rejected(),
        {
            "phase": Phase.ROLLING_BACK,
            "rejected": True,
            "attempts": (attempt("rejected"),),
            "failure": Failure(stage="create", cause="no capacity"),
        },
        id="create-rejected",
    ),
    pytest.param(h.SENT, 31, h.in_doubt(), {"attempts": (attempt("unanswered"),)}, id="create-in-doubt"),
    pytest.param(
        h.SENT, 2, h.in_doubt(answered=True), {"attempts": (attempt("answered"),)}, id="create-in-doubt answered"
    ),
    pytest.param(
        h.SENT,
        2,
        h.in_doubt(sent=False),
        {
            "phase": Phase.ROLLING_BACK,
            "attempts": (attempt("not-sent"),),
            "failure": Failure(stage="create", cause="connection reset"),
        },
        id="create-in-doubt not sent",
    ),
    pytest.param(
        (*h.SENT, (3_600, h.released("written-off", reason="x"))),
        3_700,
        h.in_doubt(sent=False),
        {"attempts": (attempt("not-sent"),)},
        id="create-in-doubt after the release",
    ),
    pytest.param(
        h.TRIED,
        900,
        h.tried(h.BOX, "no-answer", host="203.0.113.21", host_key=None),
        {
            "tries": (
                Try(
                    instance_id=h.OTHER_BOX,
                    at=h.at(600),
                    host="203.0.113.20",
                    verdict="refused",
                    host_key="ssh-ed25519 KKKK",
                ),
                Try(instance_id=h.BOX, at=h.at(900), host="203.0.113.21", verdict="no-answer", host_key=None),
            )
        },
        id="candidate-tried",
    ),
    pytest.param(h.SENT_TWICE, 600, h.settled(), {"candidates_settled": True}, id="candidates-settled"),
    pytest.param(
        h.SENT,
        2,
        h.bound(),
        {
            "phase": Phase.PROVISIONING,
            "attempts": (attempt("bound"),),
            "instance_id": h.BOX,
            "instance": h.instance(),
            "evidence": "create-answer",
            "bound_at": h.at(2),
        },
        id="instance-id-bound",
    ),
    pytest.param(
        h.WRITTEN_OFF,
        4_000,
        h.bound(evidence="key-proof", attempt=None),
        {
            "phase": Phase.ROLLING_BACK,
            "outcome": None,
            "released_at": None,
            "instance_id": h.BOX,
            "instance": h.instance(),
            "evidence": "key-proof",
            "bound_at": h.at(4_000),
            "shown": True,
        },
        id="instance-id-bound after the release",
    ),
    pytest.param(
        ((0, h.requested(kept=h.keep())), *h.PROVISIONING[1:]),
        120,
        h.ready(),
        {
            "phase": Phase.READY,
            "ready": h.ready(),
            "ready_at": h.at(120),
            "touched_at": h.at(120),
            "instance": h.instance(status="ready", ip="203.0.113.9"),
            "shown": True,
            "keep": h.keep(),
            "keep_cause": "user",
        },
        id="ready",
    ),
    pytest.param(
        h.KEPT,
        300,
        h.touched(ttl_ms=60_000, idle_timeout_ms=30_000),
        {"touched_at": h.at(300), "ttl_ms": 60_000, "idle_timeout_ms": 30_000},
        id="touched (W-34)",
    ),
    pytest.param(h.READY, 300, h.kept(), {"keep": h.keep(), "keep_cause": "user"}, id="keep-granted"),
    pytest.param(
        h.PROVISIONING,
        300,
        h.kept_failed(),
        {
            "keep": h.keep(),
            "keep_cause": "failed-acquire",
            "failure": Failure(stage="ssh", cause="no answer on port 22"),
        },
        id="keep-granted of a failed acquisition",
    ),
    pytest.param(h.KEPT, 300, e.KeepEnded(reason="done"), {"keep": None, "keep_cause": None}, id="keep-ended"),
    pytest.param(h.READY, 300, h.synced(), {"last_sync": h.synced(), "touched_at": h.at(300)}, id="sync-finished"),
    pytest.param(
        h.RUNNING,
        300,
        h.run_started("run-2"),
        {"open_runs": ("run-1", "run-2"), "touched_at": h.at(300)},
        id="run-started",
    ),
    pytest.param(
        h.RUNNING,
        300,
        h.run_finished(),
        {"open_runs": (), "finished_run": "run-1", "touched_at": h.at(300)},
        id="run-finished",
    ),
    pytest.param(
        h.RUNNING,
        300,
        h.run_detached(),
        {"touched_at": h.at(300)},
        id="run-finished of one that was left to itself: it stays open",
    ),
    pytest.param(h.READY, 300, h.moved(), {"host": "laptop", "purpose": "held"}, id="claim-moved"),
    pytest.param(h.READY, 300, h.rebound(), {"credential_binding": "c2"}, id="credential-rebound"),
    pytest.param(
        h.UNANSWERED,
        300,
        h.fenced(),
        {"acquirer": h.RIVAL, "acquire_deadline": h.at(9_000), "host": "rack"},
        id="acquire-fenced",
    ),
    pytest.param(h.UNANSWERED, 300, h.stop_requested(), {"stop_reason": "not wanted"}, id="stop-requested"),
    pytest.param(
        h.KEPT_FAILED,
        700,
        e.Rollback(stage="stop", cause="not wanted", shown=True),
        {
            "phase": Phase.ROLLING_BACK,
            "failure": Failure(stage="stop", cause="not wanted"),
            "shown": True,
            "keep": None,
            "keep_cause": None,
        },
        id="rollback",
    ),
    pytest.param(
        h.KEPT,
        300,
        h.delete_requested(),
        {
            "phase": Phase.DELETING,
            "deletes": 1,
            "delete_reason": "stop",
            "delete_result": "open",
            "keep": None,
            "keep_cause": None,
        },
        id="delete-requested",
    ),
    pytest.param(
        (*h.DELETING, (201, h.delete_deferred(retry_s=900))),
        300,
        h.delete_requested(2),
        {"deletes": 2, "delete_result": "open", "delete_cause": None, "retry_at": None},
        id="delete-requested again",
    ),
    pytest.param(
        h.DELETING,
        201,
        h.delete_accepted(),
        {"delete_result": "accepted", "delete_accepted_at": h.at(201), "delete_answered": True},
        id="delete-accepted",
    ),
    pytest.param(
        h.DELETING,
        201,
        h.delete_deferred(retry_s=900),
        {
            "delete_result": "deferred",
            "delete_cause": "server_error",
            "delete_answered": True,
            "retry_at": h.at(900),
        },
        id="delete-deferred",
    ),
    pytest.param(
        h.DELETING,
        201,
        h.delete_deferred(status=None),
        {"delete_result": "deferred", "delete_cause": "server_error"},
        id="delete-deferred without an answer",
    ),
    pytest.param(h.ACCEPTED, 210, h.confirmed(205), {"confirmed_at": h.at(210)}, id="deletion-confirmed"),
    pytest.param(
        h.CONFIRMED,
        211,
        h.released(),
        {"phase": Phase.RELEASED, "outcome": Outcome.COMPLETED, "released_at": h.at(211)},
        id="released",
    ),
    pytest.param(
        h.CONFIRMED,
        211,
        h.released("new-way"),
        {"phase": Phase.RELEASED, "released_at": h.at(211)},
        id="released unknown",
    ),
    pytest.param(
        (*h.DEFERRED, (300, h.confirmed(299)), (301, h.released())),
        900,
        h.reopened(890),
        {
            "phase": Phase.ROLLING_BACK,
            "outcome": None,
            "released_at": None,
            "confirmed_at": None,
            "delete_result": None,
            "delete_cause": None,
            "slug": "amber-acre-0001",
        },
        id="reopened",
    ),
]


@pytest.mark.holds("CRD-07", "CRD-08", "TCH-05")
@pytest.mark.parametrize(("past", "seconds", "fact", "expected"), FOLDS)
def test_a_fact_changes_exactly_these_fields(
    past: Past, seconds: float, fact: e.LeaseEvent, expected: dict[str, Any]
) -> None:
    """Each line is one fold: given a past, this fact leaves every field but these as it was."""
    assert changes(past, seconds, fact) == expected


def test_every_event_type_has_a_fold() -> None:
    """No fact is left out of the table above."""
    assert {fold.values[2].TYPE for fold in FOLDS} == {kind.TYPE for kind in e.LeaseEvent.__args__}  # type: ignore[union-attr]


def test_a_clock_set_back_does_not_make_the_newest_time_earlier() -> None:
    """`recorded_at` of a lease is the latest time of its facts, whatever the order of its clocks."""
    lease = h.tell((*h.READY, (5_000, h.moved()), (300, h.moved("rack"))))
    assert (lease.sequence, lease.host, lease.recorded_at) == (6, "rack", h.at(5_000))
