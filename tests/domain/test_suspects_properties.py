"""What holds for any story of looks and tries, under clocks that also run backwards: the rules told a second time.

The second telling is naive, and shares nothing with the first but its words: it tries every triple of refusals.
"""

from collections.abc import Sequence
from datetime import timedelta
from itertools import combinations, pairwise
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger.domain.evolve import evolve
from ledger.domain.state import Lease, Try
from ledger.domain.suspects import Seen, has_refused, never_created_evidence, next_look_at, still_looked_at
from tests.domain import histories as h
from tests.domain.looks import BOX, CLOSED_S, MOVED, NEIGHBOUR, OLD, OTHER_ADDRESS, OTHER_KEY, PENDING, look, placed

FIVE, TEN = timedelta(minutes=5), timedelta(minutes=10)
STEPS = 24
FORWARD_S = (0.0, 60.0, 299.999, 300.0, 300.0, 300.0, 301.0, 600.0)
ANY_S = (*FORWARD_S, -1.0, -300.0, -2_000.0)
SHOWN = {
    "ready": ((BOX,),) * 12 + ((BOX, OLD), (PENDING,), (MOVED,), (), (BOX, NEIGHBOUR)),
    "gone": ((OLD,),) * 9 + ((),) * 9 + ((BOX,), (h.instance("i-9"),)),
}
ANSWERS = (*[h.tried()] * 12, h.tried(verdict="no-answer", host_key=None), h.tried(host_key=None))
ODD_ANSWERS = (
    h.tried(host_key=OTHER_KEY),
    h.tried(host=OTHER_ADDRESS),
    h.tried(verdict="no-answer", host_key=OTHER_KEY),
    h.tried(verdict="unproven"),
    h.tried("i-9"),
)


class Story(NamedTuple):
    """A lease in doubt and the inventories since; `is_steady` where no clock was ever wrong and no process slept."""

    lease: Lease
    observed: list[Seen]
    is_steady: bool


def story(seed: int) -> Story:
    """A walk of looks and tries, mostly regular ones, so that it comes to a proof often enough."""
    draw = Random(seed)
    is_steady, is_odd, shown = seed % 2 == 0, draw.random() < 0.5, SHOWN[draw.choice(sorted(SHOWN))]
    lease, looks, now_s = h.tell(h.UNANSWERED), [], 60.0
    for _ in range(STEPS):
        now_s += draw.choice(FORWARD_S if is_steady else ANY_S)
        slept_s = 0.0 if is_steady else draw.choice((0.0, 0.0, 0.0, 9.0, 700.0, -30.0))
        key, scope = draw.choice((("c1", None),) * 9 + (("c9", None), ("c1", "https://other.example")))
        looks.append(look(now_s - slept_s, *draw.choice(shown), recorded_s=now_s, key=key, scope=scope))
        if draw.random() < 0.7:
            fact = draw.choice(ODD_ANSWERS if is_odd and draw.random() < 0.1 else ANSWERS)
            lease = evolve(lease, h.recorded(lease, fact, h.at(now_s + draw.choice((0.0, 1.0)))))
    return Story(lease, placed(looks), is_steady)


STORY = st.integers(0, 1_000_000).map(story)


def is_bound(instance_id: str) -> bool:
    """One of the boxes that come and go is another lease's."""
    return instance_id == "i-9"


def own(observed: Sequence[Seen]) -> list[Seen]:
    return [s for s in observed if (s.fact.scope, s.fact.credential_binding) == (h.requested().scope, "c1")]


def counts(refusal: Try, observed: Sequence[Seen]) -> bool:
    def is_ready(seen: Seen) -> bool:
        at = [box for box in seen.fact.instances if box.ip == refusal.host]
        return [box.id for box in at] == [refusal.instance_id] and at[0].status == "ready"

    before = [seen for seen in observed if seen.fact.begun_at <= refusal.at]
    after = [seen for seen in observed if before and seen.position > before[-1].position]
    return any(
        all(is_ready(seen) for seen in (*before[n:], *after[:1]))
        and bool(after)
        and refusal.at - before[n].recorded_at >= TEN
        for n in range(len(before))
    )


def naively_refused(lease: Lease, instance_id: str, observed: Sequence[Seen]) -> bool:
    tries = [tried for tried in lease.tries if tried.instance_id == instance_id]
    if {"accepted", "unproven"} & {tried.verdict for tried in tries}:
        return False
    good = {n for n, t in enumerate(tries) if t.verdict == "refused" and t.host_key and counts(t, own(observed))}
    for triple in combinations(sorted(good), 3):
        one, two, three = (tries[n] for n in triple)
        between = tries[triple[0] : triple[2] + 1]
        if (
            two.at - one.at >= FIVE
            and three.at - two.at >= FIVE
            and {tried.host for tried in between} == {one.host}
            and {tried.host_key for tried in between} - {None} == {one.host_key}
        ):
            return True
    return False


@h.EXAMPLES
@given(STORY)
def test_a_box_has_refused_only_where_three_refusals_that_count_say_so(told: Story) -> None:
    """And, where no clock was ever wrong, wherever three do."""
    found = has_refused(told.lease, h.OTHER_BOX, told.observed)
    naive = naively_refused(told.lease, h.OTHER_BOX, told.observed)
    assert found is naive if told.is_steady else naive or not found


def naively_gone(instance_id: str, looks: Sequence[Seen]) -> bool:
    """Missing from two looks in a row or more, five minutes apart, the first of them begun after it was last shown."""
    last = max(n for n, seen in enumerate(looks) if instance_id in {box.id for box in seen.fact.instances})
    newest = looks[-1]
    return any(
        newest.recorded_at - looks[n].recorded_at >= FIVE
        and newest.fact.begun_at - looks[n].fact.begun_at >= FIVE
        and any(seen.recorded_at <= looks[n].fact.begun_at for seen in looks[last:n])
        for n in range(last + 1, len(looks))
    )


def could_be_ours(told: Story, seen: Seen) -> bool:
    return any(
        box.id != h.OLD_BOX
        and not is_bound(box.id)
        and not naively_refused(told.lease, box.id, told.observed)
        and not naively_gone(box.id, own(told.observed))
        for box in seen.fact.instances
    )


@h.EXAMPLES
@given(STORY)
def test_a_box_is_gone_only_where_two_looks_after_it_say_so(told: Story) -> None:
    """And, where no clock was ever wrong, wherever two do."""
    looks = own(told.observed)
    shown = {box.id for seen in looks for box in seen.fact.instances}
    gone = shown - {box.id for seen in still_looked_at(looks) for box in seen.fact.instances}
    naive = {instance_id for instance_id in shown if naively_gone(instance_id, looks)}
    assert gone == naive if told.is_steady else gone <= naive


@pytest.mark.holds("W-01")
@h.EXAMPLES
@given(STORY)
def test_nothing_is_forgotten_that_could_be_ours(told: Story) -> None:
    """The proof is five looks of the owner after the window, spaced by both their times; none since shows a suspect."""
    places = never_created_evidence(told.lease, told.observed, is_bound)
    if not places:
        return
    looks = [seen for seen in own(told.observed) if seen.position in places]
    assert len(looks) == len(places) == 5
    assert all(min(seen.fact.begun_at, seen.recorded_at) >= h.at(CLOSED_S) for seen in looks)
    for earlier, later in pairwise(looks):
        assert later.recorded_at - earlier.recorded_at >= FIVE
        assert later.fact.begun_at - earlier.fact.begun_at >= FIVE
    since = [seen for seen in own(told.observed) if seen.position >= places[0]]
    assert [seen.position for seen in since if could_be_ours(told, seen)] == []


@h.EXAMPLES
@given(STORY)
def test_five_more_looks_that_show_nothing_always_end_the_doubt(told: Story) -> None:
    """Each taken no sooner than `next_look_at` says, whatever was seen and whatever the clocks said before."""
    lease, observed = told.lease, list(told.observed)
    for place in range(5):
        due = next_look_at(lease, observed, is_bound)
        assert due is not None
        assert due >= h.at(CLOSED_S)
        observed.append(replace(look((due - h.START).total_seconds(), OLD), position=100 + place))
    assert never_created_evidence(lease, observed, is_bound)[-1:] == (104,)


@h.EXAMPLES
@given(STORY)
def test_what_another_account_shows_changes_nothing(told: Story) -> None:
    def verdicts(observed: list[Seen]) -> tuple[object, ...]:
        return (
            has_refused(told.lease, h.OTHER_BOX, observed),
            never_created_evidence(told.lease, observed, is_bound),
            next_look_at(told.lease, observed, is_bound),
        )

    assert verdicts(told.observed) == verdicts(own(told.observed))


@h.EXAMPLES
@given(STORY)
def test_an_answer_that_proves_nothing_spoils_every_refusal(told: Story) -> None:
    for verdict in ("unproven", "accepted"):
        fact = h.tried(verdict=verdict)
        spoilt = evolve(told.lease, h.recorded(told.lease, fact, h.at(90_000)))
        assert has_refused(spoilt, h.OTHER_BOX, told.observed) is False


@h.EXAMPLES
@given(STORY)
def test_more_looks_and_tries_never_bring_a_settled_box_back(told: Story) -> None:
    """Unless one of them proves something: so that a box is not settled today and a suspect tomorrow."""
    fact = h.tried(verdict="no-answer", host=OTHER_ADDRESS, host_key=OTHER_KEY)
    tried = evolve(told.lease, h.recorded(told.lease, fact, h.at(90_000)))
    later = [*told.observed, replace(look(90_001, PENDING), position=100)]
    assert has_refused(tried, h.OTHER_BOX, later) >= has_refused(told.lease, h.OTHER_BOX, told.observed)


def test_the_stories_come_to_every_end_often_enough() -> None:
    """So that none of these properties is empty."""
    told = [story(seed) for seed in range(400)]
    refused = [one for one in told if has_refused(one.lease, h.OTHER_BOX, one.observed)]
    proven = [one for one in told if never_created_evidence(one.lease, one.observed, is_bound)]
    after_refusal = [one for one in proven if one in refused]
    ends = {"refused": len(refused), "proven": len(proven), "both": len(after_refusal)}
    assert {name: 20 <= count <= 300 for name, count in ends.items()} == dict.fromkeys(ends, True), ends
