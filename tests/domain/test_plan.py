"""What is to be done with a lease, and what may cost money although nobody is to have it: each rule by itself."""

from typing import Any

import pytest

from ledger.domain import events as e
from ledger.domain.claim import Claim
from ledger.domain.plan import Action, Around, is_suspect, judge, looked_for_since, may_cost, plan
from tests.domain import histories as h
from tests.domain.histories import Past
from tests.domain.test_claim import claimed

DEADLINE_S, IDLE_END_S, KEEP_END_S, WEEK_S, MS_S = 1_020, 1_920, 86_400, 7 * 86_400, 0.001
RETRIED: Past = (*h.DELETING, (201, h.delete_deferred(retry_s=300)))
KEEP_GONE: Past = (*h.KEPT_FAILED, (700, e.KeepEnded(reason="enough")))
TWICE_READY: Past = (*h.SENT_TWICE, (120, h.ready()))
TWIN_BOUND: Past = (*h.TWIN, (1, h.bound(evidence="key-proof", attempt=None)))
STOPPED: Past = (*h.READY, (130, h.stop_requested()))
HELD, ATTENDED = frozenset({h.LEASE_ID}), frozenset({h.LEASE_ID})


def around(seconds: float, **told: Any) -> Around:
    return Around(now=h.at(seconds), **told)


def of_run(past: Past) -> Claim:
    return claimed(past)._replace(purpose="run")


def contradictory(past: Past) -> Claim:
    return claimed(past)._replace(contradiction="two leases claim one box")


EXPIRED = "expired at 2026-09-20T02:32:00Z"
KEEP_OVER = "expired at 2026-09-21T02:00:00Z"
JUDGED = [
    pytest.param(claimed(h.REQUESTED), around(9), "cancel", "nothing was sent", id="requested"),
    pytest.param(claimed(h.UNANSWERED), around(40), "settle", "its create may have made a box", id="in doubt"),
    pytest.param(claimed(h.PROVISIONING), around(40), "roll-back", "its acquirer is gone", id="provisioning"),
    pytest.param(
        claimed(h.PROVISIONING),
        around(DEADLINE_S, worked_on=HELD),
        "none",
        "somebody is working on it",
        id="an acquirer that lives is left alone",
    ),
    pytest.param(
        claimed(h.PROVISIONING),
        around(DEADLINE_S + MS_S, worked_on=HELD),
        "roll-back",
        "its acquirer is gone",
        id="until its deadline",
    ),
    pytest.param(claimed(h.KEPT_FAILED), around(700), "none", "kept", id="a failed acquire that is kept"),
    pytest.param(claimed(h.KEPT_FAILED), around(KEEP_END_S), "delete", KEEP_OVER, id="until the end of its keep"),
    pytest.param(
        claimed(KEEP_GONE), around(700), "roll-back", "its acquirer is gone", id="and no longer than it is kept"
    ),
    pytest.param(
        claimed((*h.KEPT_FAILED, (700, h.stop_requested()))),
        around(700),
        "delete",
        "it was to be given back (not wanted)",
        id="nor than it is wanted",
    ),
    pytest.param(claimed(h.READY), around(IDLE_END_S - MS_S), "none", "inside its time", id="ready"),
    pytest.param(claimed(h.READY), around(IDLE_END_S), "delete", EXPIRED, id="ready, at its end"),
    pytest.param(
        claimed(h.READY), around(IDLE_END_S, worked_on=HELD), "delete", EXPIRED, id="whoever works on a ready box"
    ),
    pytest.param(
        claimed(h.READY),
        around(IDLE_END_S, expires=False),
        "none",
        f"{EXPIRED}: `rentroll cleanup` deletes it",
        id="`recover` deletes nothing for its end",
    ),
    pytest.param(claimed(h.KEPT), around(9_000), "none", "kept", id="a kept box is left past its time"),
    pytest.param(
        claimed(STOPPED), around(140), "delete", "it was to be given back (not wanted)", id="what was to be given back"
    ),
    pytest.param(
        of_run(h.READY), around(140), "delete", "the run that leased it is gone", id="a run's box ends with it"
    ),
    pytest.param(
        of_run(h.READY), around(140, attended=ATTENDED), "none", "inside its time", id="not while it is attended"
    ),
    pytest.param(of_run(h.KEPT), around(140), "none", "kept", id="nor while it is kept"),
    pytest.param(
        of_run(h.READY),
        around(IDLE_END_S, attended=ATTENDED),
        "delete",
        EXPIRED,
        id="its own time ends it all the same",
    ),
    pytest.param(
        claimed(TWICE_READY),
        around(140),
        "search",
        "its create was sent more than once: a second box may exist",
        id="a second box is looked for while the first is held",
    ),
    pytest.param(claimed(TWICE_READY), around(IDLE_END_S), "delete", EXPIRED, id="the end of the first comes first"),
    pytest.param(
        claimed(h.ROLLING_BACK), around(601), "delete", "its deletion is not finished (rolling-back)", id="rolling back"
    ),
    pytest.param(
        claimed(h.DELETING), around(201), "delete", "its deletion is not finished (deleting)", id="a DELETE left behind"
    ),
    pytest.param(
        claimed(RETRIED),
        around(300 - MS_S, waits=True),
        "none",
        "it is tried again at 2026-09-20T02:05:00Z",
        id="`watch` waits for its next date",
    ),
    pytest.param(
        claimed(RETRIED),
        around(300, waits=True),
        "delete",
        "its deletion is not finished (deleting)",
        id="no longer",
    ),
    pytest.param(
        claimed(RETRIED),
        around(202),
        "delete",
        "its deletion is not finished (deleting)",
        id="a person's pass does not",
    ),
    pytest.param(claimed(h.CONFIRMED), around(300), "finish", "nothing of it exists", id="a box that is gone"),
    pytest.param(claimed(h.REJECTED), around(9), "finish", "nothing of it exists", id="a create that was rejected"),
    pytest.param(claimed(h.UNSENT), around(9), "finish", "nothing of it exists", id="one that never left"),
    pytest.param(claimed(h.RELEASED), around(300), "none", "it is released (completed)", id="released"),
    pytest.param(
        claimed(h.NEVER_CREATED),
        around(3_600 + WEEK_S - MS_S),
        "search",
        "it was released as never-created: a box of it may still show up",
        id="a released suspect is looked for",
    ),
    pytest.param(
        claimed(h.NEVER_CREATED),
        around(3_600 + WEEK_S),
        "none",
        "it is released (never-created)",
        id="for seven days, and then no more",
    ),
    pytest.param(
        contradictory(h.READY), around(9_000), "none", "two leases claim one box", id="a contradiction is for a person"
    ),
    pytest.param(contradictory(h.NEVER_CREATED), around(9_000), "none", "two leases claim one box", id="also released"),
]


@pytest.mark.parametrize(("claim", "seen", "action", "reason"), JUDGED)
def test_what_is_to_be_done_with_a_lease(claim: Claim, seen: Around, action: str, reason: str) -> None:
    """Each line is one rule."""
    assert judge(claim, seen) == Action(
        lease_id=h.LEASE_ID, slug="amber-acre", instance_id=claim.instance_id, action=action, reason=reason
    )


COSTS = [
    pytest.param(claimed(h.REQUESTED), around(9_000), False, id="nothing was sent"),
    pytest.param(claimed(h.UNSENT), around(9_000), False, id="nothing left"),
    pytest.param(claimed(h.REJECTED), around(9_000), False, id="it was rejected"),
    pytest.param(claimed(h.CONFIRMED), around(9_000), False, id="its box is gone"),
    pytest.param(claimed(h.RELEASED), around(9_000), False, id="released"),
    pytest.param(claimed(h.WRITTEN_OFF), around(9_000), False, id="written off: a person has said so"),
    pytest.param(claimed(h.UNANSWERED), around(40), True, id="in doubt"),
    pytest.param(claimed(h.UNANSWERED), around(40, worked_on=HELD), False, id="not while its acquirer is at it"),
    pytest.param(claimed(h.UNANSWERED), around(DEADLINE_S + 1, worked_on=HELD), True, id="past its deadline"),
    pytest.param(contradictory(h.UNANSWERED), around(40, worked_on=HELD), True, id="a contradiction, whoever is at it"),
    pytest.param(claimed(h.PROVISIONING), around(40), True, id="an acquire left behind"),
    pytest.param(claimed(h.KEPT_FAILED), around(700), False, id="a failed acquire that is kept"),
    pytest.param(claimed(h.KEPT_FAILED), around(KEEP_END_S), True, id="past the end of its keep"),
    pytest.param(claimed(h.READY), around(140), False, id="ready, with time left"),
    pytest.param(claimed(h.READY), around(IDLE_END_S), True, id="ready, at its end"),
    pytest.param(claimed(h.KEPT), around(9_000), False, id="kept"),
    pytest.param(claimed(STOPPED), around(140), True, id="to be given back"),
    pytest.param(of_run(h.READY), around(140), True, id="of a run that is gone"),
    pytest.param(of_run(h.READY), around(140, attended=ATTENDED), False, id="not of one that lives"),
    pytest.param(claimed(h.ROLLING_BACK), around(601), True, id="rolling back"),
    pytest.param(claimed(h.TWIN), around(9), False, id="a twin without its box"),
    pytest.param(claimed(TWIN_BOUND), around(9), True, id="a second box, whose lease has sent nothing"),
    pytest.param(claimed(RETRIED), around(202, waits=True), True, id="a deletion that is put off"),
]


@pytest.mark.parametrize(("claim", "seen", "verdict"), COSTS)
def test_what_may_cost_money_although_nobody_is_to_have_it(claim: Claim, seen: Around, verdict: bool) -> None:
    """Each line is one rule."""
    assert may_cost(claim, seen) is verdict


def test_a_plan_names_each_open_lease_and_each_suspect_by_its_id() -> None:
    claims = [
        claimed(past)._replace(lease_id=name)
        for name, past in (("rl_d", h.READY), ("rl_c", h.NEVER_CREATED), ("rl_b", h.RELEASED), ("rl_a", h.UNANSWERED))
    ]
    actions = plan(claims, around(3_600 + WEEK_S - 1))
    assert [(action.lease_id, action.action) for action in actions] == [
        ("rl_a", "settle"),
        ("rl_c", "search"),
        ("rl_d", "delete"),
    ]


def test_a_released_lease_is_a_suspect_for_seven_days_to_the_millisecond() -> None:
    """As the stored times have it; one that is open as long as it is one."""
    assert looked_for_since(h.at(0)) == "2026-09-13T02:00:00.000000Z"
    released, open_one = claimed(h.NEVER_CREATED), claimed(TWICE_READY)
    assert [is_suspect(released, h.at(3_600 + WEEK_S + late)) for late in (-MS_S, 0)] == [True, False]
    assert (is_suspect(open_one, h.at(10 * WEEK_S)), is_suspect(claimed(h.RELEASED), h.at(300))) == (True, False)
