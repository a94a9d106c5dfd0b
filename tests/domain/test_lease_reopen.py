"""The rules of a released box that shows up again: what opens its lease, and what is done with it then."""

import pytest
from msgspec.structs import replace

from ledger.domain import events as e
from tests.domain import histories as h
from tests.domain.histories import NOTHING, RECORDED, Past

REOPENED: Past = (*h.RELEASED, (900, h.reopened(890)))
MS_S = 0.001


def back(*looks: tuple[str, float]) -> e.Reopened:
    """The box seen again by these looks, each at its second."""
    seen = tuple(e.Observation(kind=kind, at=h.at(seconds)) for kind, seconds in looks)
    return e.Reopened(instance_id=h.BOX, credential_binding="c1", slug="amber-acre", evidence=seen)


REOPEN_RULES = [
    pytest.param(h.RELEASED, 900, h.reopened(890), RECORDED, id="a released box that shows up is open again (W-06)"),
    pytest.param(REOPENED, 901, h.reopened(890), NOTHING, id="one reopening is one fact"),
    pytest.param(
        h.RELEASED, 900, h.reopened(890, instance_id=h.OTHER_BOX), "bound-to-another", id="only by its own box"
    ),
    pytest.param(h.NEVER_CREATED, 9_000, h.reopened(8_990), "bound-to-another", id="without a box nothing shows up"),
    pytest.param(h.READY, 900, h.reopened(890), "not-released", id="an open lease is not reopened"),
    pytest.param(h.CONFIRMED, 900, h.reopened(890), "not-released", id="nor one about to be released"),
    pytest.param(h.RELEASED, 900, back(), "no-evidence", id="somebody has to have seen it"),
    pytest.param(h.RELEASED, 900, back(("inventory", 890)), "no-evidence", id="a listing alone may be a glitch"),
    pytest.param(h.RELEASED, 900, back(("get-200", 890)), "no-evidence", id="a GET alone too"),
    pytest.param(
        h.RELEASED, 900, back(("get-200", 890), ("inventory", 890)), "no-evidence", id="first the listing, then the GET"
    ),
    pytest.param(
        h.RELEASED, 900, back(("get-404", 890), ("inventory", 890), ("get-404", 890)), "no-evidence", id="no absence"
    ),
    pytest.param(
        h.RELEASED, 900, back(("inventory", 211 + MS_S), ("get-200", 211 + MS_S)), RECORDED, id="after the release"
    ),
    pytest.param(
        h.RELEASED,
        900,
        back(("inventory", 211), ("get-200", 890)),
        "no-evidence",
        id="a listing from the moment of the release is none",
    ),
    pytest.param(h.RELEASED, 900, back(("inventory", 890), ("get-200", 211)), "no-evidence", id="nor is such a GET"),
    pytest.param(
        h.RELEASED,
        900,
        replace(h.reopened(890), credential_binding="c2"),
        "rebound",
        id="under the key that owns the lease",
    ),
    pytest.param(REOPENED, 901, h.delete_requested(2), RECORDED, id="a reopened box is deleted again"),
    pytest.param(REOPENED, 901, h.ready(), "not-acquiring", id="and never worked on"),
    pytest.param(REOPENED, 901, h.released("completed"), "may-exist", id="nor released before it is gone again"),
]


@pytest.mark.parametrize(("past", "when_s", "wanted", "verdict"), REOPEN_RULES)
def test_a_rule_of_reopening(past: Past, when_s: float, wanted: e.LeaseEvent, verdict: str) -> None:
    """Each line is one rule: given a past, wanting this fact at that second comes to this verdict."""
    assert h.verdict(h.tell(past), wanted, h.at(when_s)) == verdict
