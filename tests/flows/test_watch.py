"""`watch`: the ends of leases are enforced pass after pass, whatever fails between, and trouble is told once."""

import os
import signal
from collections.abc import Callable
from datetime import timedelta

import pytest
from msgspec.structs import replace

from ledger.domain.claim import Claim
from ledger.domain.errors import Conflict, InDoubt, Interrupted, ProviderFailure
from ledger.domain.events import Touched
from ledger.domain.plan import Around
from ledger.domain.state import Phase
from ledger.flows.recover import NOT_BEGUN, Pass, recover
from ledger.flows.watch import Looked, Passed, Troubles, watch
from providers.emulator.faults import DropAfter, DropBefore, Fault, Hide, IgnoreDelete, Status
from tests.flows.recovering import around_in
from tests.flows.world import ACQUIRED, GONE, LEASE, MINUTE_MS, OTHER, Program, World

MINUTE_S = 60.0
HOUR_S = 3600.0
Told = tuple[str, tuple[str, ...], bool]
"""A trouble as it was told: its code, its leases, and whether it began."""


class Watcher:
    """One process that watches, and what it told."""

    def __init__(self, world: World) -> None:
        self.program = world.program()
        self.looked: list[Looked] = []
        self.told: list[Told] = []
        self._world = world
        self._troubles = Troubles()

    def one_pass(self) -> Passed:
        wish = Pass(
            around=self._around,
            token=self.program.token,
            side_by_side=1,
            is_ending=lambda: self.program.interrupts.is_asked,
        )
        return Passed(done=recover(self.program.services, wish))

    def watch(self, *, for_s: float, one_pass: Callable[[], Passed] | None = None) -> None:
        """Watches every minute until the first pass that ends so much later."""
        clock = self._world.clock
        until_s = clock.monotonic_s() + for_s

        def told(looked: Looked) -> None:
            self.looked.append(looked)
            self.told += [(c.code, c.slugs, c.failure is not None) for c in self._troubles.changes(looked)]
            if clock.monotonic_s() >= until_s:
                raise Interrupted(signal.SIGTERM)

        watch(
            one_pass or self.one_pass,
            told,
            clock=clock,
            interrupts=self.program.interrupts,
            interval_s=MINUTE_S,
        )

    def _around(self, claims: list[Claim]) -> Around:
        return replace(around_in(self._world, expires=True)(claims), waits=True)


@pytest.fixture
def watcher(world: World) -> Watcher:
    return Watcher(world)


def minutes_after_ready(world: World, kind: str) -> float:
    """How long after `ready` the only event of a kind was recorded."""
    return (world.recorded_at(kind) - world.recorded_at("ready")).total_seconds() / MINUTE_S


@pytest.mark.holds("CLN-04", "W-10", "HOLE-03", "PEER-22")
def test_a_box_is_deleted_within_a_minute_after_its_ttl(world: World, program: Program, watcher: Watcher) -> None:
    program.acquire(idle_timeout_ms=300 * MINUTE_MS)
    created_at = world.lease().created_at
    assert created_at is not None
    watcher.watch(for_s=2 * HOUR_S)
    end = world.recorded_at("delete-requested") - created_at
    assert timedelta(minutes=90) <= end <= timedelta(minutes=91)
    assert (world.types(), world.boxes(), watcher.told) == (ACQUIRED + GONE, [], [])
    assert [fact["reason"] for fact in world.payloads("delete-requested")] == ["expired"]


@pytest.mark.holds("W-10")
def test_a_box_is_deleted_once_it_has_stood_idle_and_a_sign_of_life_holds_that_off(
    world: World, program: Program, watcher: Watcher
) -> None:
    program.acquire()
    watcher.watch(for_s=20 * MINUTE_S)
    program.book.record(LEASE, Touched(cause="run"))
    watcher.watch(for_s=20 * MINUTE_S)
    assert world.lease().phase is Phase.READY
    watcher.watch(for_s=20 * MINUTE_S)
    assert world.lease().phase is Phase.RELEASED
    assert 50 <= minutes_after_ready(world, "delete-requested") <= 52


@pytest.mark.holds("KEEP-06", "W-25")
def test_a_kept_box_outlives_its_ttl_and_is_deleted_when_its_keep_ends(
    world: World, program: Program, watcher: Watcher
) -> None:
    program.acquire(ttl_ms=30 * MINUTE_MS, keep=world.keep(hours=2))
    watcher.watch(for_s=1.9 * HOUR_S)
    assert world.lease().phase is Phase.READY
    watcher.watch(for_s=0.2 * HOUR_S)
    assert (world.lease().phase, world.boxes()) == (Phase.RELEASED, [])


@pytest.mark.holds("PEER-30")
def test_an_outage_of_the_provider_is_told_once_and_what_had_expired_is_deleted_when_it_is_over(
    world: World, program: Program, watcher: Watcher
) -> None:
    program.acquire()
    world.emulator.add_fault(Fault(call="any", effects=(Status(status=503),), count=None))
    watcher.watch(for_s=HOUR_S)
    assert (world.lease().is_open, watcher.told) == (True, [("provider", ("gpu-box",), True)])
    world.emulator.change(lambda state, _now: state.script.clear())
    watcher.watch(for_s=10 * MINUTE_S)
    assert (world.types()[-3:], world.boxes()) == (GONE[1:], [])
    assert watcher.told[1:] == [("provider", ("gpu-box",), False)]


@pytest.mark.holds("W-24", "PEER-31")
def test_what_fal_asks_to_be_sent_later_is_not_sent_before(world: World, program: Program, watcher: Watcher) -> None:
    program.acquire()
    world.fault("delete", Status(status=429, error_type="rate_limited", retry_after_s=900))
    watcher.watch(for_s=70 * MINUTE_S)
    first, second = [entry.at for entry in world.emulator.journal() if entry.call == "delete"]
    assert timedelta(seconds=900) <= second - first <= timedelta(seconds=1000)
    assert watcher.told == [("provider", ("gpu-box",), True), ("provider", ("gpu-box",), False)]
    assert world.lease().phase is Phase.RELEASED


@pytest.mark.holds("W-06")
def test_a_released_box_that_shows_up_again_is_deleted_again(world: World, program: Program, watcher: Watcher) -> None:
    program.acquire()
    world.fault("delete", IgnoreDelete())
    world.fault("get", Hide(), count=None, skip=1)
    world.fault("list", Hide(), count=None)
    program.stop()
    assert (world.lease().phase, len(world.boxes())) == (Phase.RELEASED, 1)
    world.emulator.change(lambda state, _now: state.script.clear())
    watcher.watch(for_s=10 * MINUTE_S)
    assert (world.boxes(), world.types()[len(ACQUIRED + GONE) :]) == ([], ["reopened", *GONE])


@pytest.mark.holds("CLN-09", "W-01", "HOLE-07")
def test_a_create_that_made_nothing_is_settled_by_five_looks_after_its_window(
    world: World, program: Program, watcher: Watcher
) -> None:
    world.fault("create", DropBefore(), count=None)
    with pytest.raises(InDoubt):
        program.acquire(timeout_ms=2 * MINUTE_MS)
    program.die()
    sent = len(world.posts())
    watcher.watch(for_s=HOUR_S)
    lease = world.lease()
    assert (lease.outcome, len(world.posts()), watcher.told) == (
        "never-created",
        sent,
        [("in-doubt", ("gpu-box",), True), ("in-doubt", ("gpu-box",), False)],
    )
    (released,) = world.payloads("released")
    assert (len(released["inventories"]), lease.first_sent_at is not None) == (5, True)
    waited = world.recorded_at("released") - lease.attempts[0].sent_at
    assert timedelta(minutes=9 + 4 * 5) <= waited <= timedelta(minutes=9 + 5 * 6)


@pytest.mark.holds("CLN-07", "W-01", "HOLE-07", "PEER-13", "PEER-16")
def test_a_create_that_made_a_box_is_settled_by_its_key_and_the_box_deleted(
    world: World, program: Program, watcher: Watcher
) -> None:
    world.fault("create", DropAfter(), count=None)
    with pytest.raises(InDoubt):
        program.acquire(timeout_ms=2 * MINUTE_MS)
    program.die()
    assert len(world.boxes()) == 1
    watcher.watch(for_s=HOUR_S)
    assert (world.lease().outcome, world.boxes()) == ("rolled-back", [])
    assert [fact["evidence"] for fact in world.payloads("instance-id-bound")] == ["key-proof"]


def test_passes_are_a_minute_apart_from_beginning_to_beginning_and_a_long_one_is_followed_at_once(
    world: World, watcher: Watcher
) -> None:
    lengths = iter([10.0, 150.0, 0.0, 0.0])
    began: list[float] = []

    def one_pass() -> Passed:
        began.append(world.clock.monotonic_s())
        world.clock.wait(next(lengths))
        return Passed(done=())

    watcher.watch(for_s=270.0, one_pass=one_pass)
    assert began == [0.0, 60.0, 210.0, 270.0]
    assert [(look.finished_at - look.started_at).total_seconds() for look in watcher.looked] == [10, 150, 0, 0]


@pytest.mark.holds("CLN-11")
def test_a_signal_during_a_pass_finishes_the_lease_at_hand_and_begins_with_no_other(
    world: World, program: Program, watcher: Watcher
) -> None:
    program.acquire()
    program.acquire(OTHER, slug="other")
    world.clock.wait(HOUR_S)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    watcher.program.interrupts.install()

    def stop_it() -> None:
        if not watcher.program.interrupts.is_asked:
            os.kill(os.getpid(), signal.SIGTERM)

    world.when("DELETE", stop_it)
    try:
        watcher.watch(for_s=HOUR_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ([done.result for done in watcher.looked[-1].done], len(watcher.looked)) == (["completed", NOT_BEGUN], 1)
    assert (world.lease().phase, world.lease(OTHER).phase) == (Phase.RELEASED, Phase.READY)


def test_a_bug_is_told_by_its_kind_and_place_and_the_next_pass_comes(world: World, watcher: Watcher) -> None:
    met = iter([ZeroDivisionError("no"), None])

    def one_pass() -> Passed:
        bug = next(met)
        if bug is not None:
            raise bug
        return Passed(done=())

    watcher.watch(for_s=MINUTE_S, one_pass=one_pass)
    first, second = watcher.looked
    assert first.failure is not None
    assert first.failure.message.startswith("ZeroDivisionError: no (test_watch.py:")
    assert (first.failure.code, first.is_whole, second.failure, second.is_whole) == ("internal", False, None, True)
    assert watcher.told == [("internal", (), True), ("internal", (), False)]


@pytest.mark.holds("CLN-10")
def test_a_bug_that_one_lease_brings_out_does_not_keep_the_others_from_being_deleted(
    world: World, program: Program, watcher: Watcher
) -> None:
    program.acquire()
    program.acquire(OTHER, slug="other")
    world.clock.wait(HOUR_S)
    watcher.program.boundaries.fail("call get", ValueError("odd"))
    watcher.watch(for_s=0.0)
    (failed, deleted) = watcher.looked[0].done
    assert failed.error is not None
    assert (failed.error.code, failed.error.lease_id, deleted.result) == ("internal", LEASE, "completed")
    assert watcher.told == [("internal", ("gpu-box",), True)]


def test_a_busy_ledger_is_told_once_while_it_lasts_and_again_when_it_comes_back(world: World, watcher: Watcher) -> None:
    results = iter([Conflict("busy"), Conflict("busy still"), None, Conflict("busy"), ProviderFailure("other")])

    def one_pass() -> Passed:
        failure = next(results)
        if failure is not None:
            raise failure
        return Passed(done=())

    watcher.watch(for_s=4 * MINUTE_S, one_pass=one_pass)
    begun: list[Told] = [("conflict", (), True), ("conflict", (), False), ("conflict", (), True)]
    assert watcher.told == [*begun, ("provider", (), True)]
