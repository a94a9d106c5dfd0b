"""The rules of looking for a box that could be a lease's: its tries, and that nothing is left to try."""

import pytest
from msgspec.structs import replace

from ledger.domain import events as e
from tests.domain import histories as h
from tests.domain.histories import NOTHING, RECORDED, Past

CANDIDATE_RULES = [
    pytest.param(h.UNANSWERED, 600, h.tried(), RECORDED, id="a box that could be ours is offered the key"),
    pytest.param(h.TRIED, 600, h.tried(), NOTHING, id="one try is one fact"),
    pytest.param(h.TRIED, 900, h.tried(), RECORDED, id="the same answer later is another try"),
    pytest.param(h.TRIED, 600, h.tried(verdict="accepted"), RECORDED, id="another answer at once is another try"),
    pytest.param(h.TRIED, 600, h.tried("i-3"), RECORDED, id="so is another box"),
    pytest.param(h.TRIED, 600, h.tried(host="203.0.113.21"), RECORDED, id="another address"),
    pytest.param(h.TRIED, 600, h.tried(host_key="ssh-ed25519 LLLL"), RECORDED, id="another host key"),
    pytest.param(h.TRIED, 600, h.tried(host_key=None), RECORDED, id="and none at all"),
    pytest.param(
        h.TRIED, 600, replace(h.tried(), detail="no such key"), NOTHING, id="other words for it make no other try"
    ),
    pytest.param(
        (*h.TRIED, (600, h.tried("i-3"))), 600, h.tried(), NOTHING, id="one try is one fact, whatever was tried since"
    ),
    pytest.param(h.REQUESTED, 600, h.tried(), "never-sent", id="without a create there is no box to try"),
    pytest.param(h.TWIN, 600, h.tried(), "never-sent", id="nothing is tried for a twin, whose box is known"),
    pytest.param(h.UNANSWERED, 600, h.tried(h.OLD_BOX), "not-new", id="a box that was there before is not tried"),
    pytest.param(h.UNANSWERED, 600, h.tried(verdict="maybe"), "no-evidence", id="a box answers in one of four ways"),
    pytest.param(h.SENT_TWICE, 600, h.tried(), RECORDED, id="a second box is looked for while the first is held"),
    pytest.param(h.NEVER_CREATED, 9_000, h.tried(), RECORDED, id="a box may show up after its lease was given up"),
    pytest.param(h.WRITTEN_OFF, 9_000, h.tried(), RECORDED, id="or after it was written off"),
    pytest.param(h.SENT_TWICE, 600, h.settled(), RECORDED, id="no second box is left"),
    pytest.param((*h.SENT_TWICE, (600, h.settled())), 700, h.settled(22), NOTHING, id="that is settled once"),
    pytest.param(
        h.SENT_TWICE, 600, e.CandidatesSettled(inventories=()), "no-evidence", id="that rests on at least one inventory"
    ),
    pytest.param(h.UNANSWERED, 600, h.settled(), "may-exist", id="not before its own box is known"),
    pytest.param(
        (*h.RELEASED, (900, h.tried())), 901, h.settled(), RECORDED, id="a second box is looked for after the release"
    ),
]


@pytest.mark.parametrize(("past", "when_s", "wanted", "verdict"), CANDIDATE_RULES)
def test_a_rule_of_looking_for_a_box(past: Past, when_s: float, wanted: e.LeaseEvent, verdict: str) -> None:
    """Each line is one rule: given a past, wanting this fact at that second comes to this verdict."""
    assert h.verdict(h.tell(past), wanted, h.at(when_s)) == verdict
