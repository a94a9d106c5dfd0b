"""When it is proven that a create made nothing, and when another look brings that nearer: each rule by itself."""

import pytest

from ledger.domain.state import Lease
from ledger.domain.suspects import Seen, has_refused, never_created_evidence, next_look_at, still_looked_at
from tests.domain import histories as h
from tests.domain.histories import Past
from tests.domain.looks import BOX, CLOSED_S, MS_S, OLD, PENDING, THRICE, look, nobody, placed, tried

FIVE_S = tuple(CLOSED_S + 300 * n for n in range(5))
FIVE = (11, 12, 13, 14, 15)


def empty(*seconds: float) -> list[Seen]:
    """An inventory that shows only what was there before, at each of those seconds."""
    return [look(second, OLD) for second in seconds]


def shown(*seconds: float) -> list[Seen]:
    """An inventory that shows a new box too, at each of those seconds."""
    return [look(second, OLD, BOX) for second in seconds]


EVIDENCE = [
    pytest.param(empty(*FIVE_S), FIVE, id="five looks after the window, five minutes apart, prove it"),
    pytest.param(empty(*FIVE_S[:4]), (), id="four do not"),
    pytest.param(
        empty(*FIVE_S, FIVE_S[-1] + 300), (12, 13, 14, 15, 16), id="of more than five the newest five are named"
    ),
    pytest.param(
        empty(CLOSED_S - MS_S, *(second + 1 for second in FIVE_S[1:])), (), id="one begun before it closed counts not"
    ),
    pytest.param(
        [look(CLOSED_S - MS_S, recorded_s=CLOSED_S), *empty(*FIVE_S[1:])], (), id="even where it was recorded after"
    ),
    pytest.param(
        [look(CLOSED_S + 9, recorded_s=CLOSED_S - 1), *empty(*FIVE_S[1:])],
        (),
        id="nor one recorded before, by a clock that was set back",
    ),
    pytest.param(
        empty(*FIVE_S[:4], FIVE_S[4] - MS_S), (), id="one a millisecond too near to the one before is the same look"
    ),
    pytest.param(
        empty(*FIVE_S[:4], FIVE_S[4] - MS_S, FIVE_S[4]), (11, 12, 13, 14, 16), id="the next one far enough counts"
    ),
    pytest.param(
        [look(CLOSED_S + n, recorded_s=second) for n, second in enumerate(FIVE_S)],
        (),
        id="what was read together and recorded apart, after a sleep, is one look",
    ),
    pytest.param(
        [look(second, recorded_s=FIVE_S[4] + n) for n, second in enumerate(FIVE_S)],
        (),
        id="spacing is by when they were recorded",
    ),
    pytest.param(
        [*empty(*FIVE_S[:4]), look(FIVE_S[4], key="c9")], (), id="another key's look never counts"
    ),
    pytest.param(
        [*empty(*FIVE_S[:4]), look(FIVE_S[4], scope="https://other.example")], (), id="nor another endpoint's"
    ),
    pytest.param(
        [*empty(*FIVE_S[:2]), look(FIVE_S[2], BOX, key="c9"), *empty(*FIVE_S[2:])],
        (11, 12, 14, 15, 16),
        id="what another account has is not ours",
    ),
    pytest.param([*empty(*FIVE_S[:4]), look(FIVE_S[4], BOX)], (), id="a look that shows a new box proves nothing"),
    pytest.param(
        [*empty(*FIVE_S), look(FIVE_S[4] + 1, PENDING)], (), id="and takes the proof away from those before it"
    ),
    pytest.param(
        [*empty(*FIVE_S[:4]), look(FIVE_S[3] + 1, BOX), *empty(FIVE_S[4])],
        (),
        id="one look without a box that was there does not say that it is gone",
    ),
    pytest.param(
        [*shown(*FIVE_S[:3]), *empty(*FIVE_S[3:])],
        FIVE,
        id="two do, five minutes apart: then those that showed it show nothing of ours",
    ),
    pytest.param(
        [*shown(*FIVE_S[:4]), *empty(FIVE_S[4], FIVE_S[4] + 300 - MS_S)],
        (),
        id="two a millisecond nearer are one look, and the one before them showed it",
    ),
    pytest.param(
        [*shown(*FIVE_S[:4]), *empty(FIVE_S[4], FIVE_S[4] + 100, FIVE_S[4] + 299)],
        (),
        id="as are many within five minutes",
    ),
    pytest.param(
        [*shown(*FIVE_S[:4]), look(FIVE_S[4], OLD), look(FIVE_S[4] + 9, OLD, recorded_s=FIVE_S[4] + 300)],
        (),
        id="as are two read together and recorded apart",
    ),
    pytest.param(
        [*shown(*FIVE_S[:4]), *empty(FIVE_S[4]), *shown(FIVE_S[4] + 100), *empty(FIVE_S[4] + 300)],
        (),
        id="a box that comes and goes is not gone",
    ),
    pytest.param(
        [*shown(*FIVE_S[:3]), *empty(*FIVE_S[3:], FIVE_S[4] + 300), *shown(FIVE_S[4] + 600)],
        (),
        id="one that is back spoils every look that ever showed it, and those before",
    ),
    pytest.param(
        [look(second, h.instance(f"i-new-{second}")) for second in FIVE_S[:3]] + empty(*FIVE_S[3:]),
        FIVE,
        id="in a busy account a doubt ends once what was new is gone",
    ),
    pytest.param(
        [*empty(*FIVE_S[:3]), look(FIVE_S[2] + 9, PENDING, recorded_s=CLOSED_S + 1), *empty(*FIVE_S[3:])],
        (11, 12, 13, 15, 16),
        id="a box that is gone is, in whatever order the clocks put its look",
    ),
    pytest.param(
        [*shown(*FIVE_S[:4]), look(CLOSED_S + 300, OLD, recorded_s=FIVE_S[4]), *empty(FIVE_S[4] + 300)],
        (),
        id="a look that was begun before the box was last shown does not say that it is gone",
    ),
    pytest.param(empty(*FIVE_S[:4], 100, 200), (), id="a clock that was set back brings none nearer"),
    pytest.param([], (), id="without a look nothing is proven"),
]  # fmt: skip


@pytest.mark.holds("W-01")
@pytest.mark.parametrize(("looks", "positions"), EVIDENCE)
def test_when_it_is_proven_that_nothing_was_made(looks: list[Seen], positions: tuple[int, ...]) -> None:
    """Each line is one rule: these looks, in this order, are the proof or none."""
    assert never_created_evidence(h.tell(h.UNANSWERED), placed(looks), nobody) == positions


STILL_LOOKED_AT = [
    pytest.param([], (), id="of no looks none"),
    pytest.param([look(0)], (11,), id="of one that one"),
    pytest.param([look(0), look(300), look(600)], (12, 13), id="the newest and one five minutes before"),
    pytest.param([look(0), look(300 + MS_S), look(600)], FIVE[:3], id="not one a millisecond nearer"),
    pytest.param([look(0), look(100), look(200), look(299)], FIVE[:4], id="all of many within five minutes"),
    pytest.param([look(0), look(300), look(400), look(500), look(600)], FIVE[1:], id="and all between the two"),
    pytest.param(
        [look(0), look(300, recorded_s=590), look(600)], FIVE[:3], id="five minutes apart by when they were recorded"
    ),
    pytest.param(
        [look(0), look(300), look(310, recorded_s=600)], FIVE[:3], id="and by when they were begun"
    ),
    pytest.param([look(600), look(900), look(100)], FIVE[:3], id="a look by a clock set back has none before it"),
    pytest.param([look(600), look(900), look(100), look(400)], FIVE[:4], id="nor has that which it may be older than"),
    pytest.param([look(600), look(900), look(100), look(400), look(700)], (14, 15), id="two by that clock have"),
    pytest.param(
        [look(0), look(9_000), look(300), look(600)],
        (12, 13, 14),
        id="one recorded by a clock ahead might be newer than the one behind it",
    ),
    pytest.param([look(0), look(9_000), look(300), look(600), look(900)], (14, 15), id="but not than those after"),
    pytest.param(
        [look(0), look(5), look(359), look(5 - MS_S, recorded_s=360), look(660)],
        (12, 13, 14, 15),
        id="what was recorded while a slow look was under way saw no less than it",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("looks", "positions"), STILL_LOOKED_AT)
def test_which_looks_a_box_must_be_missing_from_to_be_gone(looks: list[Seen], positions: tuple[int, ...]) -> None:
    """Each line is one rule."""
    assert tuple(seen.position for seen in still_looked_at(placed(looks))) == positions


BOX_ALWAYS = [look(second, BOX) for second in (60.0, *FIVE_S, FIVE_S[-1] + 300)]


def test_a_box_that_has_refused_is_in_nobodys_way() -> None:
    """Also of the looks from before it was settled: it never was the lease's."""
    lease = tried(*((second / 60, h.tried()) for second in (*FIVE_S[1:4],)))
    observed = placed(BOX_ALWAYS)
    assert has_refused(lease, h.OTHER_BOX, observed)
    assert never_created_evidence(lease, observed, nobody) == (13, 14, 15, 16, 17)


def test_a_box_that_another_lease_is_bound_to_is_in_nobodys_way() -> None:
    """A colleague's by this ledger, or a twin of this very lease."""
    lease, observed = h.tell(h.UNANSWERED), placed(BOX_ALWAYS)
    assert [never_created_evidence(lease, observed, is_bound) for is_bound in (nobody, {h.OTHER_BOX}.__contains__)] == [
        (),
        (13, 14, 15, 16, 17),
    ]


def test_an_unproven_box_keeps_the_create_in_doubt_until_it_is_gone() -> None:
    lease = tried((10, h.tried(verdict="unproven")), *THRICE)
    gone = empty(*(FIVE_S[-1] + 600 + 300 * n for n in range(5)))
    assert never_created_evidence(lease, placed(BOX_ALWAYS), nobody) == ()
    assert never_created_evidence(lease, placed([*BOX_ALWAYS, *gone]), nobody) == (18, 19, 20, 21, 22)


@pytest.mark.parametrize(
    "lease",
    [
        pytest.param(h.tell(h.REQUESTED), id="of which nothing was sent"),
        pytest.param(h.tell(h.PROVISIONING), id="that is bound"),
        pytest.param(
            h.tell((*h.UNANSWERED, (3_000, h.bound(evidence="key-proof", attempt=None)))), id="bound meanwhile"
        ),
        pytest.param(tried((10, h.tried(verdict="accepted"))), id="whose key a box has accepted, bound or not yet"),
        pytest.param(h.tell(h.TWIN), id="that only holds a second box"),
    ],
)
def test_nothing_is_proven_of_a_lease(lease: Lease) -> None:
    assert never_created_evidence(lease, placed(empty(*FIVE_S)), nobody) == ()


LOOKS_NEXT = [
    pytest.param([], CLOSED_S, id="not before the window has closed"),
    pytest.param(empty(60, CLOSED_S - MS_S), CLOSED_S, id="a look before that brings none nearer"),
    pytest.param(empty(*FIVE_S[:2]), FIVE_S[2], id="five minutes after the last one that counts"),
    pytest.param(empty(*FIVE_S[:2], FIVE_S[1] + 9), FIVE_S[2], id="one that is too near does not put it off"),
    pytest.param([*empty(CLOSED_S), look(CLOSED_S + 9, BOX)], CLOSED_S + 309, id="nor sooner after one with a new box"),
    pytest.param([*empty(CLOSED_S), look(CLOSED_S + 9, key="c9")], CLOSED_S + 300, id="another key's is no look"),
    pytest.param([look(CLOSED_S, recorded_s=CLOSED_S + 9)], CLOSED_S + 309, id="counted from when it was recorded"),
    pytest.param([look(9_000, recorded_s=100)], CLOSED_S, id="never inside the window, whatever a clock says"),
]


@pytest.mark.parametrize(("looks", "seconds"), LOOKS_NEXT)
def test_when_to_look_next(looks: list[Seen], seconds: float) -> None:
    """Each line is one rule: after these looks another one helps from that second on."""
    assert next_look_at(h.tell(h.UNANSWERED), placed(looks), nobody) == h.at(seconds)


@pytest.mark.parametrize("past", [h.REQUESTED, h.PROVISIONING, h.TWIN], ids=["unsent", "bound", "twin"])
def test_where_nothing_is_in_doubt_no_look_helps(past: Past) -> None:
    assert next_look_at(h.tell(past), placed(empty(*FIVE_S)), nobody) is None
