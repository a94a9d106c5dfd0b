"""Which boxes could be a lease's own, when one of them is not, and when its key is offered: each rule by itself."""

import pytest
from msgspec.structs import replace

from ledger.domain import events as e
from ledger.domain.instance import Instance
from ledger.domain.state import Lease
from ledger.domain.suspects import Seen, has_refused, may_be_tried, new_boxes, of_owner, unsettled
from tests.domain import histories as h
from tests.domain.histories import Past
from tests.domain.looks import (
    BOX,
    MOVED,
    MS_S,
    NEIGHBOUR,
    OLD,
    OTHER_ADDRESS,
    OTHER_KEY,
    PENDING,
    READY,
    THRICE,
    look,
    minutes,
    nobody,
    placed,
    refused,
    tried,
)


def test_only_inventories_of_the_owning_account_count() -> None:
    """Another endpoint's and another key's say nothing of a lease, whoever else they show."""
    observed = placed([look(1), look(2, scope="https://other.example"), look(3, key="c9"), look(4)])
    assert [seen.position for seen in of_owner(h.tell(h.UNANSWERED), observed)] == [11, 14]


def test_a_rebound_lease_is_seen_by_both_its_keys() -> None:
    observed = placed([look(1), look(2, key="c2"), look(3, key="c3")])
    lease = h.tell((*h.UNANSWERED, (60, h.rebound("c2"))))
    assert [seen.position for seen in of_owner(lease, observed)] == [11, 12]


def test_a_lease_that_was_never_asked_for_has_no_account_and_no_boxes() -> None:
    lease = Lease(lease_id=h.LEASE_ID)
    assert (of_owner(lease, [look(1)]), new_boxes(lease, [BOX], nobody)) == ([], [])


def test_a_box_that_was_there_before_or_is_bound_is_no_candidate() -> None:
    bound = {"i-4"}
    found = new_boxes(h.tell(h.UNANSWERED), [OLD, BOX, h.instance("i-4"), h.instance("i-3")], bound.__contains__)
    assert found == [BOX, h.instance("i-3")]


def test_the_box_that_fits_the_request_best_is_tried_first() -> None:
    """By type, then by sector where one was asked for, then by id; none is left out."""
    lease = h.tell(((0, replace(h.requested(), sector="sector_2")), *h.UNANSWERED[1:]))
    fits = [
        replace(h.instance("i-7"), sector="sector_2"),
        h.instance("i-8"),
        replace(h.instance("i-1"), sector="sector_1"),
        replace(h.instance("i-2"), sector="sector_3"),
        replace(h.instance("i-0"), instance_type="gpu_8x_h100_sxm5", sector="sector_2"),
    ]
    assert [new_boxes(lease, boxes, nobody) for boxes in (fits, fits[::-1])] == [fits, fits]


def test_a_request_for_any_sector_prefers_none() -> None:
    boxes = [replace(h.instance("i-1"), sector="sector_1"), h.instance("i-2")]
    assert new_boxes(h.tell(h.UNANSWERED), boxes[::-1], nobody) == boxes


REFUSALS = [
    pytest.param(THRICE, READY, True, id="three refusals, spaced, by a box ready for ten minutes, settle it"),
    pytest.param([], READY, False, id="a box that was never tried has not refused"),
    pytest.param(refused(25, 30), READY, False, id="two refusals do not"),
    pytest.param(
        refused(20, 25 - MS_S / 60, 30), READY, False, id="two that are a millisecond too near count as one"
    ),
    pytest.param(
        refused(20, 24, 26, 30, 34), minutes(10, 20, 30, 40), True, id="those between do not spoil the spacing"
    ),
    pytest.param(
        refused(20 - MS_S / 60, 25, 30), READY, False, id="a box ready a millisecond short of ten minutes counts not"
    ),
    pytest.param(refused(10, 15, 20), READY, False, id="a refusal while the box was fresh counts for nothing"),
    pytest.param(refused(10, 15, 20, 25, 30), READY, True, id="and takes nothing from later ones"),
    pytest.param(THRICE, minutes(35), False, id="a box that was not seen before its tries has refused nothing"),
    pytest.param(THRICE, [], False, id="nor has one that was never seen"),
    pytest.param(THRICE, READY[:-1], False, id="the last refusal counts only once a later look confirms its address"),
    pytest.param(
        THRICE, [*READY[:-1], look(2_100, MOVED)], False, id="an address that has changed by then was another's"
    ),
    pytest.param(THRICE, [*READY[:-1], look(2_100)], False, id="a box that is gone by then proves nothing"),
    pytest.param(
        THRICE,
        [*READY[:-1], look(2_100, BOX, NEIGHBOUR)],
        False,
        id="an address that two boxes claim is nobody's",
    ),
    pytest.param(
        THRICE,
        [*minutes(10), *minutes(15, boxes=(PENDING,)), *minutes(20, 25, 30, 35)],
        False,
        id="not ready in between breaks the ten minutes",
    ),
    pytest.param(
        THRICE,
        [*minutes(10), *minutes(15, boxes=(replace(BOX, status="stopped"),)), *minutes(20, 25, 30, 35)],
        False,
        id="whatever it keeps of its address",
    ),
    pytest.param(
        refused(25, 30, 35),
        [*minutes(10), *minutes(14, boxes=(PENDING,)), *minutes(15, 20, 25, 30, 35, 40)],
        True,
        id="they begin anew from there",
    ),
    pytest.param(
        THRICE,
        [*minutes(10), *minutes(15, boxes=(MOVED,)), *minutes(20, 25, 30, 35)],
        False,
        id="another address in between breaks them too",
    ),
    pytest.param(
        THRICE, [*minutes(10), *minutes(15, boxes=()), *minutes(20, 25, 30, 35)], False, id="and so does its absence"
    ),
    pytest.param(
        THRICE,
        [look(600, BOX, key="c9"), look(900, BOX, scope="https://other.example"), *minutes(20, 25, 30, 35)],
        False,
        id="another account's looks do not make it ready",
    ),
    pytest.param(
        THRICE,
        [*READY[:2], look(1_000, key="c9"), *READY[2:]],
        True,
        id="and do not break the ten minutes",
    ),
    pytest.param([*refused(20, 25), (30, h.tried(verdict="no-answer", host_key=None))], READY, False, id="no answer"),
    pytest.param([*refused(20, 25), (30, h.tried(verdict="no-answer"))], READY, False, id="even under its host key"),
    pytest.param(
        [*refused(20, 25), (27, h.tried(verdict="no-answer", host_key=None)), *refused(30)],
        READY,
        True,
        id="no answer in between refuses nothing and spoils nothing",
    ),
    pytest.param(
        [*refused(20, 25), (30, h.tried(host_key=None))], READY, False, id="a refusal without a host key is none"
    ),
    pytest.param(
        [*refused(20, 25), (30, h.tried(host_key=OTHER_KEY))], READY, False, id="another host key begins anew"
    ),
    pytest.param(
        [*refused(20, 25), (27, h.tried(host_key=OTHER_KEY)), *refused(30)],
        READY,
        False,
        id="also where the first comes back: it was not one server all the time",
    ),
    pytest.param(
        [*refused(20, 25), (27, h.tried(verdict="no-answer", host_key=OTHER_KEY)), *refused(30)],
        READY,
        False,
        id="whatever the other server said",
    ),
    pytest.param(
        [*refused(20, 25), (30, h.tried(host=OTHER_ADDRESS))], READY, False, id="another address begins anew"
    ),
    pytest.param(
        [*refused(20, 25), (27, h.tried(verdict="no-answer", host=OTHER_ADDRESS, host_key=None)), *refused(30)],
        READY,
        False,
        id="even where nothing answered there",
    ),
    pytest.param(
        [(15, h.tried(verdict="unproven")), *THRICE], READY, False, id="an unproven answer spoils those after it"
    ),
    pytest.param(
        [*THRICE, (35, h.tried(verdict="unproven"))], READY, False, id="and those before it: only a person can tell"
    ),
    pytest.param([(15, h.tried(verdict="accepted")), *THRICE], READY, False, id="a box that has accepted is ours"),
    pytest.param(
        [*THRICE, (35, h.tried(host_key=OTHER_KEY))], READY, True, id="a box that is settled stays settled"
    ),
    pytest.param([*THRICE, (21, h.tried("i-3", "unproven"))], READY, True, id="another box's answers are its own"),
    pytest.param(
        refused(85, 25, 30, 35),
        [*READY, *minutes(40, 90)],
        True,
        id="a try by a clock that was ahead takes nothing from the others",
    ),
    pytest.param(
        [*refused(80, 85), *refused(20)], [*READY, *minutes(80, 85, 90)], False, id="and one set back spaces nothing"
    ),
    pytest.param(
        THRICE,
        [look(600, BOX, recorded_s=600 + MS_S), *READY[1:]],
        False,
        id="a box is ready from when the look that shows it is recorded",
    ),
    pytest.param(
        THRICE,
        [*minutes(10), look(5_000, BOX, recorded_s=900), *minutes(16, boxes=(PENDING,)), *minutes(20, 25, 30, 35)],
        False,
        id="a look by a clock that was ahead hides none behind it",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("tries", "looks", "verdict"), REFUSALS)
def test_when_a_box_has_refused(tries: list[tuple[float, e.CandidateTried]], looks: list[Seen], verdict: bool) -> None:
    """Each line is one rule: after these tries and looks, at these minutes, the box is settled or could be ours."""
    lease, observed = tried(*tries), placed(looks)
    assert has_refused(lease, h.OTHER_BOX, observed) is verdict
    assert unsettled(lease, [BOX, OLD], observed, nobody) == ([] if verdict else [BOX])


TRIES = [
    pytest.param((), BOX, 0, True, id="a new box is tried at once"),
    pytest.param((), PENDING, 0, False, id="one without an address is not"),
    pytest.param((), replace(BOX, ip=""), 0, False, id="nor one with an empty address"),
    pytest.param(refused(20), BOX, 25, True, id="again after five minutes"),
    pytest.param(refused(20), BOX, 25 - MS_S / 60, False, id="not a millisecond sooner"),
    pytest.param(refused(20), MOVED, 20, True, id="at another address at once"),
    pytest.param(refused(20), NEIGHBOUR, 20, True, id="another box at once"),
    pytest.param([*refused(20), (22, h.tried(host=OTHER_ADDRESS))], BOX, 25, True, id="an address has its own spacing"),
    pytest.param(refused(20), BOX, 19, True, id="a clock that was set back stops no try"),
    pytest.param([*refused(60), *refused(20)], BOX, 21, False, id="and spaces them from there on"),
    pytest.param(refused(20, 25, 30, 35, 40, 45), BOX, 50, True, id="the first six are five minutes apart"),
    pytest.param(refused(20, 25, 30, 35, 40, 45, 50), BOX, 60 - MS_S / 60, False, id="then each wait is twice as long"),
    pytest.param(refused(20, 25, 30, 35, 40, 45, 50), BOX, 60, True, id="ten minutes"),
    pytest.param(refused(20, 25, 30, 35, 40, 45, 50, 60), BOX, 79, False, id="twenty minutes"),
    pytest.param(refused(*range(1_000)), BOX, 999 + 60 - MS_S / 60, False, id="never more often than hourly at last"),
    pytest.param(refused(*range(1_000)), BOX, 999 + 60, True, id="and never less often"),
]


@pytest.mark.parametrize(("tries", "box", "minute", "verdict"), TRIES)
def test_when_a_box_may_be_tried(
    tries: list[tuple[float, e.CandidateTried]],
    box: Instance,
    minute: float,
    verdict: bool,
) -> None:
    """Few, spaced tries: each line is one rule."""
    assert may_be_tried(tried(*tries), box, h.at(minute * 60)) is verdict


SUSPECTS = [
    pytest.param(h.REQUESTED, False, id="nothing was sent"),
    pytest.param(h.UNANSWERED, False, id="in doubt, it asks for more itself"),
    pytest.param((*h.ANSWERED, (3, h.sent(2, up_s=3))), False, id="also when it was sent twice"),
    pytest.param(h.READY, False, id="one POST makes one box"),
    pytest.param(h.SENT_TWICE, True, id="two may have made two"),
    pytest.param((*h.SENT_TWICE, (600, h.settled())), False, id="until it is settled that they have not"),
    pytest.param(
        (*h.ANSWERED, (3, h.sent(2, up_s=3)), (4, h.in_doubt(2, sent=False)), (5, h.bound())),
        False,
        id="one of which no byte left makes none",
    ),
    pytest.param(h.RELEASED, False, id="released with its one box gone"),
    pytest.param(
        (
            *h.SENT_TWICE,
            (9, h.rollback()),
            (10, h.delete_requested()),
            (11, h.confirmed(10)),
            (12, h.released("rolled-back")),
        ),
        True,
        id="released while a second one may be there",
    ),
    pytest.param(h.REJECTED_RELEASED, False, id="a rejected create made nothing"),
    pytest.param((*h.UNSENT, (9, h.released("cancelled"))), False, id="a cancelled one sent nothing"),
    pytest.param(h.NEVER_CREATED, True, id="one that was never created may have been, late"),
    pytest.param(h.WRITTEN_OFF, True, id="one that was written off may be anywhere"),
    pytest.param(
        (*h.DEFERRED, (600, h.released("written-off", reason="key revoked"))),
        False,
        id="where its box is known, that is looked for by its id",
    ),
    pytest.param(
        (*h.NEVER_CREATED, (9_000, h.bound(evidence="key-proof", attempt=None))), False, id="one that was found is held"
    ),
]


@pytest.mark.parametrize(("past", "verdict"), SUSPECTS)
def test_of_which_leases_an_unbound_box_may_exist(past: Past, verdict: bool) -> None:
    """Each line is one rule: the leases whose key is offered to new boxes although they ask for nothing."""
    assert h.tell(past).is_suspect is verdict
