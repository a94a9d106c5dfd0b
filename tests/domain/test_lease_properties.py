"""What holds for every history: random wishes against random pasts, under a clock that also runs backwards.

A wish is a choice of fact and a pick of its fields; it becomes a fact for the lease as it then is, mostly fitting
and sometimes not, so that histories go deep and still meet every refusal.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict

from ledger.domain import events as e
from ledger.domain.claim import accrued, attention, lease_object
from ledger.domain.ending import end_of
from ledger.domain.evolve import evolve, replay
from ledger.domain.lease import decide
from ledger.domain.projection import claim_of
from ledger.domain.refusals import REFUSALS
from ledger.domain.state import Lease, Phase
from ledger.domain.windows import IN_FLIGHT_MS, WINDOW_MS
from tests.domain import histories as h

ACQUIRERS = (h.ACQUIRER, h.ACQUIRER, h.RIVAL, "acquirer-3")
BOXES = (h.BOX, h.BOX, h.OTHER_BOX, h.OLD_BOX, "")
VERDICTS = ("refused", "no-answer", "unproven", "accepted", "maybe")
OUTCOMES = ("completed", "rolled-back", "rejected", "cancelled", "never-created", "written-off", "lost")


class Wish(NamedTuple):
    """Wanting some fact, so many seconds after the last one: `fitting` the phase, `any`, or one of `creating`."""

    after_s: float
    among: str
    choice: int
    pick: int


def _who(lease: Lease, pick: int) -> str:
    return lease.acquirer if pick % 4 < 3 else ACQUIRERS[pick % len(ACQUIRERS)]


def _box(lease: Lease, pick: int) -> str:
    return (lease.instance_id or h.BOX) if pick % 4 < 3 else BOXES[pick % len(BOXES)]


def _number(count: int, pick: int) -> int:
    return count if pick % 5 < 4 else pick % 4


def _seconds(now: datetime) -> float:
    return (now - h.START).total_seconds()


def _sent(lease: Lease, now: datetime, pick: int) -> e.LeaseEvent:
    return h.sent(
        _number(len(lease.attempts) + 1, pick),
        up_s=_seconds(now) + (0, 0, 0, 0, 0, 0, 600, -900)[pick % 8],
        acquirer=_who(lease, pick),
        boot_id=h.OTHER_BOOT if pick % 7 == 6 else h.BOOT,
        date_s=(_seconds(now), None, _seconds(now), _seconds(now) + 600)[pick % 4],
    )


def _released(lease: Lease, now: datetime, pick: int) -> e.LeaseEvent:
    proven = end_of(lease)
    outcome = OUTCOMES[pick % len(OUTCOMES)]
    if proven is not None and pick % 3 < 2:
        outcome = str(proven)
    elif lease.phase is Phase.IN_DOUBT and pick % 4 < 3:
        outcome = "never-created"
    return h.released(outcome, reason="x" if pick % 2 else None, inventories=tuple(range(5 - pick % 3)))


def _deferred(lease: Lease, now: datetime, pick: int) -> e.LeaseEvent:
    return h.delete_deferred(_number(lease.deletes, pick), status=(None, 404, 500)[pick % 3])


WISHES: dict[str, Callable[[Lease, datetime, int], e.LeaseEvent]] = {
    "create-requested": lambda _lease, now, pick: h.requested(
        kept=h.keep(_seconds(now) + 4_000) if pick % 2 else None, twin_of="rl_twin" if pick % 11 == 10 else None
    ),
    "create-sent": _sent,
    "create-rejected": lambda lease, _now, pick: h.rejected(_number(len(lease.attempts), pick)),
    "create-in-doubt": lambda lease, _now, pick: h.in_doubt(
        _number(len(lease.attempts), pick), sent=pick % 5 < 4, answered=pick % 2 == 0
    ),
    "candidate-tried": lambda _lease, _now, pick: h.tried(
        (h.OTHER_BOX, "i-3", h.OLD_BOX)[pick % 3],
        VERDICTS[pick % len(VERDICTS)],
        host_key=None if pick % 4 == 0 else "ssh-ed25519 KKKK",
    ),
    "candidates-settled": lambda _lease, _now, pick: h.settled(pick),
    "instance-id-bound": lambda lease, _now, pick: h.bound(
        _box(lease, pick),
        evidence=("create-answer", "create-answer", "key-proof", "spool")[pick % 4],
        acquirer=_who(lease, pick),
        attempt=(len(lease.attempts), None)[pick % 2],
    ),
    "ready": lambda lease, _now, pick: h.ready(_box(lease, pick), acquirer=_who(lease, pick)),
    "touched": lambda _lease, _now, pick: h.touched(ttl_ms=(None, 9_000_000, 60_000, 0)[pick % 4]),
    "keep-granted": lambda _lease, now, pick: h.kept(_seconds(now) + (600, 86_400, -1)[pick % 3]),
    "keep-granted failed": lambda lease, now, pick: h.kept_failed(
        _seconds(now) + 600, acquirer=_who(lease, pick), stage=None if pick % 5 == 4 else "ssh"
    ),
    "keep-ended": lambda _lease, _now, _pick: e.KeepEnded(reason="done"),
    "sync-finished": lambda _lease, _now, _pick: h.synced(),
    "run-started": lambda _lease, _now, pick: h.run_started(f"run-{pick % 3}"),
    "run-finished": lambda _lease, _now, pick: h.run_finished(f"run-{pick % 3}"),
    "claim-moved": lambda _lease, _now, pick: h.moved(f"host-{pick % 2}"),
    "credential-rebound": lambda _lease, _now, pick: h.rebound(f"c{pick % 3}"),
    "acquire-fenced": lambda _lease, now, pick: h.fenced(
        ACQUIRERS[pick % len(ACQUIRERS)],
        evidence=("lock-free", "deadline-passed")[pick % 2],
        deadline_s=_seconds(now) + 900,
    ),
    "stop-requested": lambda _lease, _now, _pick: h.stop_requested(),
    "rollback": lambda _lease, _now, pick: h.rollback(shown=pick % 2 == 0),
    "delete-requested": lambda lease, _now, pick: h.delete_requested(
        _number(lease.deletes + 1, pick),
        instance_id=_box(lease, pick),
        reason=("stop", "expired", "rollback")[pick % 3],
        shown=pick % 2 == 0,
    ),
    "delete-accepted": lambda lease, _now, pick: h.delete_accepted(
        _number(lease.deletes, pick), instance_id=_box(lease, pick)
    ),
    "delete-deferred": _deferred,
    "deletion-confirmed": lambda lease, now, pick: h.confirmed(
        _seconds(now) - (1, 1, 1_900)[pick % 3], instance_id=_box(lease, pick)
    ),
    "released": _released,
    "reopened": lambda lease, now, pick: h.reopened(_seconds(now), instance_id=_box(lease, pick)),
}

ANY = tuple(sorted(WISHES))
CREATING = (*["create-sent"] * 4, *["create-in-doubt"] * 3, "acquire-fenced", "credential-rebound", "claim-moved")
FITTING: dict[Phase | None, tuple[str, ...]] = {
    None: ("create-requested",),
    Phase.REQUESTED: ("create-sent", "create-sent", "stop-requested", "acquire-fenced", "released"),
    Phase.IN_DOUBT: (
        "create-in-doubt",
        "create-sent",
        "create-sent",
        "create-rejected",
        "candidate-tried",
        "instance-id-bound",
        "released",
    ),
    Phase.PROVISIONING: ("ready", "ready", "rollback", "keep-granted failed", "acquire-fenced", "stop-requested"),
    Phase.READY: (
        "touched",
        "keep-granted",
        "run-started",
        "run-finished",
        "candidates-settled",
        "delete-requested",
        "delete-requested",
    ),
    Phase.ROLLING_BACK: ("delete-requested", "instance-id-bound", "candidate-tried", "released"),
    Phase.DELETING: ("delete-accepted", "delete-deferred", "delete-requested", "deletion-confirmed", "released"),
    Phase.RELEASED: ("reopened", "candidate-tried", "instance-id-bound", "create-rejected", "create-in-doubt"),
}
AFTER_S = (0.0, 1.0, 1.0, 1.0, 5.0, 5.0, 31.0, 61.0, 91.0, 91.0, 300.0, 541.0, 1_801.0, 5_400.0, -1.0, -30.0, -700.0)
PICKS, CHOICES, AMONG = 100, 120, ("fitting", "fitting", "fitting", "any")
WISH_NUMBERS = PICKS * CHOICES * len(AMONG) * len(AFTER_S)
LONG = 16
EARLY = ("nothing", "requested", "sent", "unanswered", "answered", "fenced", "provisioning", "ready")


def _wish(number: int) -> Wish:
    """A wish from one number, so that Hypothesis draws it in one step."""
    number, pick = divmod(number, PICKS)
    number, choice = divmod(number, CHOICES)
    after, among = divmod(number, len(AMONG))
    return Wish(AFTER_S[after], AMONG[among], choice, pick)


def _long_history(seed: int) -> "History":
    """Many wishes spread evenly: Hypothesis alone stays near small, similar histories."""
    draw = Random(seed)
    begin = draw.choice(EARLY if seed % 2 else tuple(h.PASTS))
    return begin, [_wish(draw.randrange(WISH_NUMBERS)) for _ in range(LONG)]


def _creating_history(seed: int) -> "History":
    """Replay upon replay, at times around the window's edges, under clocks that disagree."""
    draw = Random(seed)
    after_s = (1.0, 1.0, 5.0, 31.0, 91.0, 91.0, 180.0, 400.0, -1.0, -60.0)
    wishes = [
        Wish(draw.choice(after_s), "creating", draw.randrange(CHOICES), draw.randrange(PICKS)) for _ in range(LONG)
    ]
    return draw.choice(("sent", "unanswered", "answered")), wishes


CREATING_HISTORY = st.integers(0, 1_000_000).map(_creating_history)
WISHES_IN_A_ROW = st.lists(st.integers(0, WISH_NUMBERS - 1).map(_wish), max_size=12)
HISTORY = st.integers(0, 1_000_000).map(_long_history) | st.tuples(st.sampled_from(tuple(h.PASTS)), WISHES_IN_A_ROW)
History = tuple[str, list[Wish]]


def wanted(wish: Wish, lease: Lease, now: datetime) -> e.LeaseEvent:
    """The fact that a wish comes to for the lease as it now is."""
    kinds = {"fitting": FITTING[lease.phase], "any": ANY, "creating": CREATING}[wish.among]
    return WISHES[kinds[wish.choice % len(kinds)]](lease, now, wish.pick)


class Told(NamedTuple):
    """One fact that was wanted: the lease before, the fact, when, and whether it was recorded."""

    before: Lease
    fact: e.LeaseEvent
    now: datetime
    is_recorded: bool
    after: Lease


def play(history: History) -> list[Told]:
    """Wants each wish of a history in turn, on the lease as the accepted ones have made it."""
    name, wishes = history
    lease, told = Lease(lease_id=h.LEASE_ID), []
    now = h.START
    for seconds, fact in h.PASTS[name]:
        now = h.at(seconds)
        after = evolve(lease, h.recorded(lease, fact, now))
        told.append(Told(lease, fact, now, is_recorded=True, after=after))
        lease = after
    for wish in wishes:
        now += timedelta(seconds=wish.after_s)
        fact = wanted(wish, lease, now)
        is_recorded = h.verdict(lease, fact, now) == h.RECORDED
        after = evolve(lease, h.recorded(lease, fact, now)) if is_recorded else lease
        told.append(Told(lease, fact, now, is_recorded=is_recorded, after=after))
        lease = after
    return told


def accepted(history: History) -> list[Told]:
    return [told for told in play(history) if told.is_recorded]


def _newest(told: list[Told]) -> Lease:
    return told[-1].after if told else Lease(lease_id=h.LEASE_ID)


@h.EXAMPLES
@given(HISTORY, st.integers(0, 30))
def test_a_history_replays_to_the_same_lease_from_any_prefix(history: History, cut: int) -> None:
    """The state is the replay, whole or continued from wherever it was cut (rule 5)."""
    told = accepted(history)
    facts = [h.recorded(one.before, one.fact, one.now) for one in told]
    whole = replay(h.LEASE_ID, facts)
    continued = replay(h.LEASE_ID, facts[:cut])
    for fact in facts[cut:]:
        continued = evolve(continued, fact)
    assert (whole, continued) == (_newest(told), whole)


@pytest.mark.holds("LCK-08")
@h.EXAMPLES
@given(HISTORY)
def test_a_fact_is_never_recorded_twice_in_one_instant(history: History) -> None:
    """Wanting again what was just recorded yields nothing or a named refusal, so no effect is caused twice."""
    for told in accepted(history):
        assert h.verdict(told.after, told.fact, told.now) != h.RECORDED, told.fact


@h.EXAMPLES
@given(HISTORY)
def test_only_writing_off_releases_a_box_that_may_exist(history: History) -> None:
    """A model of what may exist, kept from the facts alone, agrees with every accepted `released` (rule 4)."""
    unsettled: set[int] = set()
    box_exists = False
    facts = accepted(history)
    for place, told in enumerate(facts):
        match told.fact:
            case e.CreateSent(attempt=number):
                unsettled.add(number)
            case e.CreateInDoubt(sent=False, attempt=number):
                unsettled.discard(number)
            case e.CreateRejected(attempt=number):
                assert unsettled <= {number} == {1}
                unsettled.discard(number)
            case e.InstanceIdBound():
                box_exists = True
            case e.Reopened():
                box_exists = True
            case e.DeletionConfirmed():
                box_exists = False
            case e.Released(outcome="never-created", inventories=inventories):
                first = told.before.attempts[0].sent_at
                assert not box_exists
                assert told.before.instance_id is None
                assert len(set(inventories)) >= 5
                assert told.now - first >= timedelta(minutes=29)
                assert told.now >= max(fact.now for fact in facts[:place])
                assert "accepted" not in {tried.verdict for tried in told.before.tries}
            case e.Released(outcome="written-off", reason=reason):
                assert reason
                sent = [fact.now for fact in facts[:place] if isinstance(fact.fact, e.CreateSent)]
                assert sent or box_exists
                assert not any(timedelta(0) <= told.now - first < timedelta(minutes=9) for first in sent[:1])
            case e.Released():
                assert not box_exists
                assert told.before.instance_id is not None or not unsettled
            case _:
                pass


@pytest.mark.holds("CRE-32", "CRD-08")
@h.EXAMPLES
@given(HISTORY)
def test_at_most_one_box_is_ever_bound_and_it_was_not_there_before(history: History) -> None:
    """However often a lease is released and reopened, its box is one and new (rule 2, FOREIGN)."""
    boxes = {told.fact.instance_id for told in accepted(history) if isinstance(told.fact, e.InstanceIdBound)}
    assert len(boxes) <= 1
    assert boxes.isdisjoint({h.OLD_BOX, ""})


@pytest.mark.holds("PEER-35")
@h.EXAMPLES
@given(HISTORY)
def test_no_delete_is_announced_for_an_id_that_is_not_bound(history: History) -> None:
    """Every `delete-requested` names the one bound box (rule 1)."""
    bound: str | None = None
    for told in accepted(history):
        if isinstance(told.fact, e.InstanceIdBound):
            bound = told.fact.instance_id
        if isinstance(told.fact, e.DeleteRequested):
            assert told.fact.instance_id == bound


@pytest.mark.holds("CRE-17", "PEER-02")
@h.EXAMPLES
@given(CREATING_HISTORY | HISTORY)
def test_a_create_is_replayed_only_inside_its_window(history: History) -> None:
    """A replay is inside nine minutes by every clock, and follows a POST that is over (rule 2)."""
    facts = accepted(history)
    for place, told in enumerate(facts):
        if not isinstance(told.fact, e.CreateSent) or told.fact.attempt == 1:
            continue
        earlier = [fact for fact in facts[:place] if isinstance(fact.fact, e.CreateSent)]
        first, last = earlier[0], earlier[-1]
        assert isinstance(first.fact, e.CreateSent)
        window = timedelta(milliseconds=WINDOW_MS)
        assert timedelta(0) <= told.now - first.now < window
        assert 0 <= told.fact.uptime_ms - first.fact.uptime_ms < WINDOW_MS
        assert told.fact.boot_id == first.fact.boot_id
        if told.fact.provider_date is not None and first.fact.provider_date is not None:
            assert told.fact.provider_date - first.fact.provider_date < window
        assert told.now >= max(fact.now for fact in facts[:place])
        keys = [fact.fact.credential_binding for fact in facts[:place] if isinstance(fact.fact, e.CredentialRebound)]
        assert keys[-1:] in ([], ["c1"])
        answers = [
            fact.fact
            for fact in facts[:place]
            if isinstance(fact.fact, e.CreateInDoubt) and fact.fact.attempt == len(earlier)
        ]
        is_over = bool(answers) and (answers[0].answered or not answers[0].sent)
        assert is_over or told.now - last.now >= timedelta(milliseconds=IN_FLIGHT_MS)
        assert not any(
            isinstance(fact.fact, e.InstanceIdBound | e.CreateRejected | e.Released) for fact in facts[:place]
        )


@pytest.mark.holds("W-37", "PEER-42")
@h.EXAMPLES
@given(CREATING_HISTORY | HISTORY)
def test_what_belongs_to_the_acquirer_is_only_ever_told_by_it(history: History) -> None:
    """A fenced holder's decisions are refused; only who asked for the box hands it out or keeps it (rule 6)."""
    holder = h.ACQUIRER
    for told in accepted(history):
        match told.fact:
            case e.AcquireFenced(acquirer=acquirer):
                holder = acquirer
            case e.CreateSent(acquirer=acquirer):
                assert acquirer == holder
            case e.Ready(acquirer=acquirer) | e.KeepGranted(cause="failed-acquire", acquirer=acquirer):
                assert acquirer == holder == h.ACQUIRER
            case _:
                pass


@pytest.mark.holds("PEER-13")
@h.EXAMPLES
@given(HISTORY)
def test_an_id_that_a_fenced_acquirer_learnt_is_taken_from_every_phase(history: History) -> None:
    """Wherever a history has come to, a new id of an announced create is bound and its box only deleted (rule 3)."""
    lease = _newest(accepted(history))
    if not lease.attempts or lease.instance_id is not None:
        return
    now = max(lease.recorded_at or h.START, h.at(20_000))
    if lease.is_open:
        fence = h.fenced("newcomer")
        lease = evolve(lease, h.recorded(lease, fence, now))
    late = h.bound("i-late")
    assert decide(lease, late, now) == [late]
    taken = evolve(lease, h.recorded(lease, late, now))
    assert (taken.phase, taken.instance_id, taken.is_open) == (Phase.ROLLING_BACK, "i-late", True)


@pytest.mark.holds("W-06")
@h.EXAMPLES
@given(HISTORY)
def test_a_released_lease_is_opened_only_by_its_box(history: History) -> None:
    """`released` is left for `rolling-back` by a late id or a reopening, and by nothing else (rule 3)."""
    for told in accepted(history):
        if told.before.phase is Phase.RELEASED and told.after.phase is not Phase.RELEASED:
            assert told.after.phase is Phase.ROLLING_BACK
            assert isinstance(told.fact, e.InstanceIdBound | e.Reopened)


@pytest.mark.holds("W-05")
@h.EXAMPLES
@given(HISTORY)
def test_a_box_that_no_read_has_shown_is_gone_only_late_and_after_an_answered_delete(history: History) -> None:
    """Its absence counts half an hour after it was bound, and once a DELETE of it was answered (rule 4)."""
    is_shown = is_answered = False
    bound_at = h.START
    for told in accepted(history):
        match told.fact:
            case e.InstanceIdBound(evidence=evidence):
                bound_at, is_shown = told.now, evidence == "key-proof"
            case e.Ready() | e.Reopened() | e.Rollback(shown=True) | e.DeleteRequested(shown=True):
                is_shown = True
            case e.DeleteAccepted():
                is_answered = True
            case e.DeleteDeferred(status=status):
                is_answered = is_answered or status is not None
            case e.DeletionConfirmed(evidence=looks):
                is_late = min(looks[0].at, told.now) - bound_at >= timedelta(minutes=30)
                assert is_shown or (is_answered and is_late)
            case _:
                pass


@pytest.mark.holds("W-03", "W-25", "HOLE-01")
@h.EXAMPLES
@given(HISTORY)
def test_keep_shields_only_a_ready_box_or_a_kept_failure(history: History) -> None:
    """A lease has a keep only while ready, or while provisioning with its failure recorded; it always ends."""
    for told in accepted(history):
        lease = told.after
        if lease.keep is None:
            continue
        assert lease.phase is Phase.READY or (lease.phase is Phase.PROVISIONING and lease.failure is not None)
        assert lease.expires_at == lease.keep.until


@pytest.mark.holds("CRD-07", "TCH-05", "W-34")
@h.EXAMPLES
@given(HISTORY)
def test_a_touch_changes_activity_and_limits_and_nothing_else(history: History) -> None:
    """A sign of life can neither move a phase nor drop a fact."""
    for told in accepted(history):
        if isinstance(told.fact, e.Touched):
            before, after = asdict(told.before), asdict(told.after)
            changed = {name for name in before if before[name] != after[name]}
            assert changed <= {"sequence", "recorded_at", "touched_at", "ttl_ms", "idle_timeout_ms"}


@h.EXAMPLES
@given(HISTORY)
def test_looking_for_a_box_moves_nothing(history: History) -> None:
    """A try adds itself, and settling says so, of a lease whose own box is known: nothing else of it changes."""
    for told in accepted(history):
        before, after = asdict(told.before), asdict(told.after)
        changed = {name for name in before if before[name] != after[name]} - {"sequence", "recorded_at"}
        match told.fact:
            case e.CandidateTried(instance_id=candidate):
                assert changed == {"tries"}
                assert len(told.after.tries) == len(told.before.tries) + 1
                assert candidate != h.OLD_BOX
                assert told.before.attempts
            case e.CandidatesSettled():
                assert changed == {"candidates_settled"}
                assert told.before.instance_id is not None
            case _:
                assert changed.isdisjoint({"tries", "candidates_settled"})


@h.EXAMPLES
@given(HISTORY)
def test_a_released_lease_is_looked_for_as_long_as_a_box_of_it_may_be_unbound(history: History) -> None:
    """A model kept from the facts alone agrees: a released lease is a suspect, or no box of it can be unbound."""
    sent: set[int] = set()
    is_bound = is_settled = is_proven_empty = False
    for told in accepted(history):
        match told.fact:
            case e.CreateSent(attempt=number):
                sent.add(number)
            case e.CreateInDoubt(sent=False, attempt=number):
                sent.discard(number)
            case e.InstanceIdBound():
                is_bound = True
            case e.CandidatesSettled():
                is_settled = True
            case e.Released(outcome=outcome):
                is_proven_empty = outcome in ("rejected", "cancelled")
            case _:
                pass
        if not told.after.is_open:
            unbound = len(sent) > 1 and not is_settled if is_bound else not is_proven_empty
            assert told.after.is_suspect is unbound


@h.EXAMPLES
@given(HISTORY)
def test_every_reachable_lease_has_a_claim(history: History) -> None:
    """The row, its JSON, cost and attention can be made of every state; a released lease asks nothing (rule 10)."""
    for told in accepted(history):
        claim = claim_of(told.after, position=told.after.sequence)
        told_json = lease_object(claim, told.now, "/keys")
        assert (told_json["phase"], told_json["attention"], told_json["cost"]["accrued"]) == (
            told.after.phase,
            attention(claim, told.now),
            accrued(claim, told.now),
        )
        assert told.after.is_open or told_json["attention"] is None


@h.EXAMPLES
@given(HISTORY)
def test_what_the_facts_prove_may_be_released(history: History) -> None:
    """`end_of` never names an end that `decide` refuses, so a proven end is never stuck (rule 7)."""
    for told in accepted(history):
        end = end_of(told.after)
        if end is not None and told.after.is_open:
            assert h.verdict(told.after, h.released(end), told.now) == h.RECORDED


@h.EXAMPLES
@given(HISTORY)
def test_an_open_lease_can_always_be_ended_by_a_person(history: History) -> None:
    """Whatever happened, at the latest after the window a person's word or the facts end it (rule 7)."""
    for told in accepted(history):
        lease = told.after
        if not lease.is_open:
            continue
        proven = end_of(lease)
        ends = [h.released("written-off", reason="settled by hand"), *([h.released(proven)] if proven else [])]
        assert h.RECORDED in [h.verdict(lease, end, h.at(90_000)) for end in ends]


@h.EXAMPLES
@given(HISTORY)
def test_the_fold_never_fails_whatever_it_is_told(history: History) -> None:
    """`evolve` takes facts that `decide` would refuse, in any order, and stays replayable."""
    (name, wishes), lease = history, Lease(lease_id=h.LEASE_ID)
    facts = [h.recorded(lease, fact, h.at(seconds)) for seconds, fact in h.PASTS[name]]
    now = h.START
    for wish in wishes:
        now += timedelta(seconds=wish.after_s)
        facts.append(h.recorded(lease, wanted(wish, replay(h.LEASE_ID, facts), now), now))
    assert replay(h.LEASE_ID, facts).recorded_at == max((fact.recorded_at for fact in facts), default=None)


@pytest.mark.parametrize("kind", sorted(WISHES))
def test_every_fact_on_every_past_comes_to_a_verdict(kind: str) -> None:
    """`decide` answers each fact in each state with the fact, nothing or a named refusal, and never fails."""
    now = h.at(2_000)
    leases = [h.tell(past) for past in h.PASTS.values()]
    verdicts = {h.verdict(lease, WISHES[kind](lease, now, pick), now) for lease in leases for pick in range(12)}
    assert verdicts <= {h.RECORDED, h.NOTHING, *REFUSALS}
