"""The rules of a lease that is held: ready, signs of life, keep, runs, moves, keys and take-over."""

import pytest

from ledger.domain import events as e
from ledger.domain.windows import is_expired
from tests.domain import histories as h
from tests.domain.histories import NOTHING, RECORDED, Past

DAY_S = 86_400
TTL_S, IDLE_S = 5_400, 1_800

READY_RULES = [
    pytest.param(h.PROVISIONING, 120, h.ready(), RECORDED, id="a box that answers is ready (RDY-07)"),
    pytest.param(h.READY, 121, h.ready(), NOTHING, id="ready is told once (RDY-11)"),
    pytest.param(h.READY, 121, h.ready(acquirer=h.RIVAL), "not-acquiring", id="a ready lease is not made ready anew"),
    pytest.param(h.SENT, 120, h.ready(), "not-acquiring", id="no box is ready before it is bound"),
    pytest.param(h.PROVISIONING, 120, h.ready(acquirer=h.RIVAL), "fenced", id="only its acquirer hands a box out"),
    pytest.param(h.PROVISIONING, 120, h.ready(h.OTHER_BOX), "bound-to-another", id="another box is not it (RDY-03)"),
    pytest.param(h.PROVISIONING, 1_021, h.ready(), "past-deadline", id="a hung acquirer hands nothing out (W-37)"),
    pytest.param(
        (*h.PROVISIONING, (100, h.fenced())), 120, h.ready(), "fenced", id="a fenced acquirer hands nothing out"
    ),
    pytest.param(
        (*h.PROVISIONING, (100, h.fenced())),
        120,
        h.ready(acquirer=h.RIVAL),
        "not-acquiring",
        id="recovery never completes an acquisition",
    ),
    pytest.param(
        (*h.PROVISIONING, (100, h.stop_requested())),
        120,
        h.ready(),
        "stop-requested",
        id="a stopped lease is not ready",
    ),
    pytest.param(
        ((0, h.requested(ttl_ms=60_000)), (1, h.sent()), (2, h.bound())),
        60,
        h.ready(),
        "past-end",
        id="a box is not handed out after its own end (W-18)",
    ),
    pytest.param(
        ((0, h.requested(kept=h.keep(60))), (1, h.sent()), (2, h.bound())),
        60,
        h.ready(),
        "past-end",
        id="nor after the end of its keep",
    ),
    pytest.param(h.KEPT_FAILED, 700, h.ready(), "not-acquiring", id="a kept failure does not become ready"),
    pytest.param(
        h.ROLLING_BACK, 700, h.ready(), "not-acquiring", id="a box to be deleted does not become ready (RDY-12)"
    ),
    pytest.param(h.RELEASED, 700, h.ready(), "released", id="a handle cannot resurrect a released lease (RDY-13)"),
]

LIFE_RULES = [
    pytest.param(h.READY, 300, h.touched(), RECORDED, id="a sign of life is recorded (TCH-01)"),
    pytest.param(h.READY, 120, h.touched(), NOTHING, id="two signs in one instant are one"),
    pytest.param(h.READY, 120, h.touched(ttl_ms=60_000), RECORDED, id="new limits are new (W-35)"),
    pytest.param(h.READY, 300, h.touched(ttl_ms=0), "bad-limits", id="a TTL of nothing is no limit (CFG-19)"),
    pytest.param(h.READY, 300, h.touched(idle_timeout_ms=-1), "bad-limits", id="idle time is not negative"),
    pytest.param(h.PROVISIONING, 300, h.touched(), "not-ready", id="only a ready lease is touched (TCH-04)"),
    pytest.param(h.DELETING, 300, h.touched(), "deleting", id="a lease being deleted is not touched (DEL-02)"),
    pytest.param(h.RELEASED, 300, h.touched(), "released", id="a released lease is not touched"),
    pytest.param(h.READY, 300, h.synced(), RECORDED, id="a copied tree is recorded"),
    pytest.param((*h.READY, (300, h.synced())), 300, h.synced(), NOTHING, id="one copy is one fact"),
    pytest.param((*h.READY, (300, h.synced())), 301, h.synced(), RECORDED, id="copying again is another"),
    pytest.param(h.DELETING, 300, h.synced(), "deleting", id="nothing is copied to a box being deleted"),
    pytest.param(h.READY, 300, h.run_started(), RECORDED, id="a command starts on a ready box"),
    pytest.param(h.RUNNING, 300, h.run_started(), NOTHING, id="one run starts once"),
    pytest.param(
        (*h.RUNNING, (140, h.run_finished())), 300, h.run_started(), NOTHING, id="a finished run does not start again"
    ),
    pytest.param(h.KEPT_FAILED, 700, h.run_started(), "not-ready", id="nothing runs on a box that never was ready"),
    pytest.param(h.RUNNING, 300, h.run_finished(), RECORDED, id="a run ends"),
    pytest.param((*h.RUNNING, (140, h.run_finished())), 300, h.run_finished(), NOTHING, id="a run ends once"),
    pytest.param(
        (*h.RUNNING, (140, h.run_detached())), 300, h.run_finished(), RECORDED, id="a run that was left ends later"
    ),
    pytest.param((*h.RUNNING, (140, h.run_detached())), 300, h.run_started(), NOTHING, id="nor one that was left"),
    pytest.param(h.READY, 300, h.run_finished(), "no-such-run", id="a run that never began does not end"),
    pytest.param(
        (*h.RUNNING, (200, h.delete_requested())), 300, h.run_finished(), RECORDED, id="a run may end during deletion"
    ),
]

KEEP_RULES = [
    pytest.param(h.READY, 300, h.kept(), RECORDED, id="a ready box may be kept"),
    pytest.param(h.KEPT, 300, h.kept(), NOTHING, id="the same keep is one fact"),
    pytest.param(h.KEPT, 300, h.kept(90_000), RECORDED, id="a keep may be renewed"),
    pytest.param(h.READY, 300, h.kept(reason=""), "bad-keep", id="a keep has a reason"),
    pytest.param(h.READY, 300, h.kept(300), "bad-keep", id="a keep ends in the future"),
    pytest.param(h.READY, 300, h.kept(7 * DAY_S + 301), "bad-keep", id="a keep ends within seven days (W-25)"),
    pytest.param(h.SENT, 300, h.kept(), "not-ready", id="keep never shields a create (W-03)"),
    pytest.param(h.PROVISIONING, 300, h.kept(), "not-ready", id="keep never shields a box before ready (W-03)"),
    pytest.param(h.ROLLING_BACK, 700, h.kept(), "not-ready", id="keep does not stop a rollback (KEEP-05)"),
    pytest.param(
        (*h.KEPT, (200, h.delete_requested())), 300, h.kept(), "deleting", id="keep does not stop a deletion (DEL-17)"
    ),
    pytest.param(h.RELEASED, 300, h.kept(), "released", id="a released lease is not kept"),
    pytest.param(h.PROVISIONING, 300, h.kept_failed(), RECORDED, id="a failed acquisition may be kept (KEEP-01)"),
    pytest.param(h.KEPT_FAILED, 601, h.kept_failed(), NOTHING, id="one kept failure is one fact"),
    pytest.param(h.KEPT_FAILED, 700, h.kept(90_000), RECORDED, id="a kept failure may be kept longer"),
    pytest.param((*h.KEPT_FAILED, (700, h.kept(90_000))), 800, h.kept(95_000), RECORDED, id="and longer still"),
    pytest.param(h.PROVISIONING, 300, h.kept_failed(stage=None), "bad-keep", id="a kept failure says its stage"),
    pytest.param(h.SENT, 300, h.kept_failed(), "not-acquiring", id="without a box there is nothing to keep"),
    pytest.param(h.READY, 300, h.kept_failed(), "not-acquiring", id="a ready lease did not fail"),
    pytest.param(
        h.PROVISIONING, 300, h.kept_failed(acquirer=h.RIVAL), "fenced", id="only its acquirer keeps a failure"
    ),
    pytest.param(
        (*h.PROVISIONING, (100, h.fenced())),
        300,
        h.kept_failed(acquirer=h.RIVAL),
        "not-acquiring",
        id="recovery keeps nothing (KEEP-07)",
    ),
    pytest.param(
        (*h.PROVISIONING, (100, h.stop_requested())),
        300,
        h.kept_failed(),
        "stop-requested",
        id="a stopped acquisition is not kept (KEEP-08)",
    ),
    pytest.param(h.KEPT, 300, e.KeepEnded(reason="done"), RECORDED, id="a keep may be ended"),
    pytest.param(h.READY, 300, e.KeepEnded(reason="done"), NOTHING, id="what is not kept need not be ended"),
    pytest.param(h.RELEASED, 300, e.KeepEnded(reason="done"), "released", id="a released lease has no keep to end"),
]

HOLDER_RULES = [
    pytest.param(h.READY, 300, h.moved(), RECORDED, id="a claim moves to another desk"),
    pytest.param(h.READY, 300, h.moved("desk"), RECORDED, id="a claim is taken where it is, and ends with no run"),
    pytest.param((*h.READY, (300, h.moved())), 301, h.moved(), NOTHING, id="a claim that is there does not move"),
    pytest.param(h.RELEASED, 300, h.moved(), "released", id="a released claim does not move"),
    pytest.param(h.READY, 300, h.rebound(), RECORDED, id="a proven key counts from now on (CRD-02)"),
    pytest.param((*h.READY, (300, h.rebound())), 301, h.rebound(), NOTHING, id="one rebinding is one fact"),
    pytest.param(h.RELEASED, 300, h.rebound(), RECORDED, id="also of a released lease, whose box is still looked for"),
    pytest.param(h.REQUESTED, 9, h.fenced(), RECORDED, id="a dead acquirer is fenced at once"),
    pytest.param(h.FENCED, 101, h.fenced(), NOTHING, id="one fence is one fact"),
    pytest.param(
        h.REQUESTED, 1_020, h.fenced(evidence="deadline-passed"), "not-expired", id="not inside its deadline (W-37)"
    ),
    pytest.param(h.REQUESTED, 1_021, h.fenced(evidence="deadline-passed"), RECORDED, id="past its deadline it is"),
    pytest.param(
        (*h.REQUESTED, (1_021, h.fenced(evidence="deadline-passed"))),
        1_022,
        h.fenced("acquirer-3", evidence="deadline-passed"),
        "not-expired",
        id="of two that take over by deadline one goes on",
    ),
    pytest.param(h.RELEASED, 300, h.fenced(), "released", id="nobody takes a released lease over"),
    pytest.param(h.REQUESTED, 9, h.stop_requested(), RECORDED, id="a lease may be stopped before its create (CRE-33)"),
    pytest.param(h.UNANSWERED, 99, h.stop_requested(), RECORDED, id="a create in doubt may be stopped"),
    pytest.param(h.PROVISIONING, 99, h.stop_requested(), RECORDED, id="an acquisition may be stopped (W-42)"),
    pytest.param((*h.REQUESTED, (9, h.stop_requested())), 10, h.stop_requested(), NOTHING, id="one stop is one fact"),
    pytest.param(h.ROLLING_BACK, 700, h.stop_requested(), NOTHING, id="what rolls back needs no stop"),
    pytest.param(h.DELETING, 700, h.stop_requested(), NOTHING, id="what is being deleted needs no stop"),
    pytest.param(
        h.READY,
        300,
        h.stop_requested(),
        RECORDED,
        id="that a ready box is not wanted is kept, should its DELETE not get out",
    ),
    pytest.param(h.RELEASED, 300, h.stop_requested(), "released", id="a released lease is not stopped"),
]


@pytest.mark.parametrize(
    ("past", "when_s", "wanted", "verdict"), [*READY_RULES, *LIFE_RULES, *KEEP_RULES, *HOLDER_RULES]
)
def test_a_rule_of_holding(past: Past, when_s: float, wanted: e.LeaseEvent, verdict: str) -> None:
    """Each line is one rule: given a past, wanting this fact at that second comes to this verdict."""
    assert h.verdict(h.tell(past), wanted, h.at(when_s)) == verdict


@pytest.mark.parametrize(
    ("past", "ends_s"),
    [
        pytest.param(h.REQUESTED, TTL_S, id="created and TTL (CRE-20)"),
        pytest.param(h.PROVISIONING, TTL_S, id="idle time counts from ready on (PEER-26)"),
        pytest.param(h.READY, 120 + IDLE_S, id="touched and idle time (CLN-05)"),
        pytest.param((*h.READY, (5_000, h.touched())), TTL_S, id="a touch does not outlive the TTL (TCH-02)"),
        pytest.param((*h.READY, (300, h.touched(ttl_ms=600_000))), 600, id="a shorter TTL"),
        pytest.param((*h.READY, (300, h.touched(idle_timeout_ms=60_000))), 360, id="a shorter idle time"),
        pytest.param((*h.READY, (300, h.synced())), 300 + IDLE_S, id="a copy is a sign of life (PEER-26)"),
        pytest.param((*h.READY, (300, h.run_started())), 300 + IDLE_S, id="a start is a sign of life (W-09)"),
        pytest.param((*h.RUNNING, (500, h.run_finished())), 500 + IDLE_S, id="an end is a sign of life (PEER-26)"),
        pytest.param(h.KEPT, DAY_S, id="the end of keep (KEEP-06)"),
        pytest.param((*h.READY, (130, h.kept(200))), 200, id="a keep may end sooner than the TTL"),
        pytest.param((*h.KEPT, (200, e.KeepEnded(reason="done"))), 120 + IDLE_S, id="the keep is over"),
        pytest.param(h.KEPT_FAILED, DAY_S, id="a kept failure"),
        pytest.param(((0, h.requested(kept=h.keep())), *h.READY[1:]), DAY_S, id="a keep asked for counts from ready"),
        pytest.param(
            ((0, h.requested(kept=h.keep())), *h.PROVISIONING[1:]),
            TTL_S,
            id="a keep asked for counts not before (W-03)",
        ),
    ],
)
def test_a_lease_expires_at_its_end_and_not_before(past: Past, ends_s: float) -> None:
    """`expires_at` is the end of keep while kept, else min(created + TTL, touched + idle); the end is inside."""
    lease = h.tell(past)
    assert (lease.expires_at, is_expired(lease, h.at(ends_s - 0.001)), is_expired(lease, h.at(ends_s))) == (
        h.at(ends_s),
        False,
        True,
    )


def test_a_clock_behind_the_newest_fact_expires_nothing() -> None:
    """A lease past its end is not expired for a clock that the ledger knows to be behind."""
    lease = h.tell((*h.READY, (9_000, h.moved())))
    assert [is_expired(lease, h.at(seconds)) for seconds in (8_999, 9_000)] == [False, True]
