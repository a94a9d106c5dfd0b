"""`stop` against every state of an acquisition: dead, in doubt, alive, kept; and two programs at once."""

import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial

import pytest
from msgspec.structs import replace

from ledger.domain import events as e
from ledger.domain.errors import Conflict, CredentialsFailure, InDoubt, RentrollError, SshFailure
from ledger.domain.ports import Boot
from ledger.domain.state import Lease
from ledger.flows.release import finish
from ledger.flows.waiting import StopAsked
from providers.emulator.faults import DropAfter
from tests.flows.clock import VirtualClock
from tests.flows.world import GONE, LEASE, MINUTE_MS, OTHER, Program, World
from tests.world.death import Crash

PATIENCE_S = 20.0
TAKEN_OVER = ["acquire-fenced", "stop-requested"]
NO_SSH = SshFailure("the box does not listen", stage="tcp")


class Waiting:
    """A clock whose `sleep` first waits until another thread is done: two threads never move the time at once."""

    def __init__(self, clock: VirtualClock, other: threading.Event) -> None:
        self._clock = clock
        self._other = other

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s()

    def boot(self) -> Boot:
        return self._clock.boot()

    def sleep(self, seconds: float) -> None:
        _wait(self._other)
        self._clock.sleep(seconds)


def _dies(program: Program, boundary: str) -> None:
    program.boundaries.fail(boundary, Crash())
    with pytest.raises(Crash):
        program.acquire()
    program.die()


@pytest.mark.holds("CRE-33")
def test_a_create_that_was_never_sent_is_cancelled_without_the_provider(world: World, program: Program) -> None:
    """The key of another account does."""
    _dies(program, "committed create-requested")
    calls = world.calls()

    stopped = world.program(key="another:key").stop()

    assert (stopped.outcome, world.types()) == ("cancelled", ["create-requested", *TAKEN_OVER, "released"])
    assert (world.calls(), world.key_folders()) == (calls, [])


@pytest.mark.holds("CRE-17", "CRE-34", "PEER-07", "PEER-16")
def test_a_create_in_doubt_that_cannot_be_settled_yet_is_recorded_as_not_wanted_and_stays_open(
    world: World, program: Program
) -> None:
    """Its request may still be running: one look, no POST, no DELETE, exit 75; the key stays."""
    world.fault("create", DropAfter())
    _dies(program, "committed create-in-doubt")
    calls = world.calls()

    with pytest.raises(InDoubt) as failure:
        world.program().stop()

    assert (failure.value.exit_code, failure.value.lease_id, failure.value.next_step) == (
        75,
        LEASE,
        "rentroll recover --only gpu-box",
    )
    assert (failure.value.hint or "").startswith(f"could be its box: {world.boxes()[0].id} (no address yet)")
    assert world.types() == ["create-requested", "create-sent", "create-in-doubt", *TAKEN_OVER]
    assert (world.calls("create", "delete"), world.key_folders()) == (["create"], [LEASE])
    assert set(world.calls()[len(calls) :]) == {"list"}


@pytest.mark.holds("CRE-14", "CRE-17", "PEER-07")
@pytest.mark.parametrize("later_s", [8 * 60, 3_600])
def test_a_create_in_doubt_whose_box_accepts_its_key_is_given_back_by_stop(
    world: World, program: Program, later_s: int
) -> None:
    """In and after the window, without another POST."""
    world.fault("create", DropAfter())
    _dies(program, "committed create-in-doubt")
    world.clock.sleep(later_s)

    released = world.program().stop()

    assert (released.outcome, world.boxes(), world.calls("create")) == ("rolled-back", [], ["create"])
    assert world.types()[3:] == [*TAKEN_OVER, "candidate-tried", "instance-id-bound", *GONE]


@pytest.mark.holds("CRE-23", "CRD-03")
def test_another_key_neither_takes_over_nor_records_anything(world: World, program: Program) -> None:
    """Also where there is no box to see yet."""
    _dies(program, "committed create-sent")

    with pytest.raises(CredentialsFailure):
        world.program(key="another:key-of-somebody-else").stop()

    assert world.types() == ["create-requested", "create-sent"]


@pytest.mark.holds("CRE-15")
def test_a_create_that_was_announced_by_a_dead_process_is_in_doubt(world: World, program: Program) -> None:
    """Crash-point matrix: `create-sent` with nothing after it."""
    _dies(program, "committed create-sent")

    with pytest.raises(InDoubt):
        world.program().stop()

    assert (world.claim().phase, world.posts(), world.key_folders()) == ("in-doubt", [], [LEASE])


@pytest.mark.holds("REL-11")
def test_a_box_that_a_dead_process_had_bound_is_rolled_back(world: World, program: Program) -> None:
    """Crash-point matrix: `instance-id-bound`."""
    _dies(program, "committed instance-id-bound")

    stopped = world.program().stop()

    assert world.types()[3:] == [*TAKEN_OVER, "rollback", *GONE]
    assert (stopped.outcome, world.boxes(), world.key_folders()) == ("rolled-back", [], [])


@pytest.mark.holds("KEEP-08")
def test_a_kept_failed_acquire_is_given_back_by_stop(world: World, program: Program) -> None:
    program.memory_box.always = NO_SSH
    with pytest.raises(SshFailure):
        program.acquire(timeout_ms=MINUTE_MS, keep=world.keep(hours=1))

    assert (world.program().stop().outcome, world.types()[3:]) == (
        "rolled-back",
        ["keep-granted", "rollback", *GONE],
    )


@pytest.mark.holds("RBK-02", "W-42")
def test_stop_during_an_acquire_is_met_by_the_acquirer_and_waited_for(world: World, program: Program) -> None:
    """Stop sends no DELETE of its own and ends with the acquirer's."""
    program.memory_box.always = NO_SSH
    acquired, asked = threading.Event(), threading.Event()
    stopper = world.program()
    stopper.services = replace(stopper.services, clock=Waiting(world.clock, acquired))
    stopper.boundaries.on("committed stop-requested", asked.set)
    stopped: list[Lease] = []
    thread = threading.Thread(target=lambda: stopped.append(stopper.stop()))

    def ask() -> None:
        thread.start()
        _wait(asked)

    world.clock.plan(20, ask)
    with pytest.raises(StopAsked):
        program.acquire()
    acquired.set()
    thread.join(PATIENCE_S)

    assert [lease.outcome for lease in stopped] == ["rolled-back"]
    assert world.types()[3:] == ["stop-requested", "rollback", *GONE]
    assert [world.calls("delete"), "call delete" in stopper.boundaries.crossed] == [["delete"], False]


@pytest.mark.holds("CRE-25", "REL-10", "W-42")
def test_an_acquirer_that_does_not_answer_in_time_is_a_conflict_and_the_stop_is_recorded(
    world: World, program: Program
) -> None:
    """Then exit 11."""
    refused: list[Conflict] = []

    def ask() -> None:
        with pytest.raises(Conflict) as failure:
            world.program().stop(timeout_s=30.0)
        refused.append(failure.value)

    program.boundaries.on("call create", ask)

    with pytest.raises(StopAsked):
        program.acquire()

    assert (refused[0].exit_code, refused[0].lease_id, refused[0].next_step) == (11, LEASE, "rentroll status gpu-box")
    assert refused[0].message.endswith("the stop is recorded and met at its next step")
    assert refused[0].hint == "the acquirer ends by 12:17:00Z at the latest"
    assert world.types() == ["create-requested", "create-sent", "stop-requested", "instance-id-bound", *GONE]


@pytest.mark.holds("W-42")
def test_a_lease_that_ends_while_stop_asks_is_reported_as_released(world: World, program: Program) -> None:
    """The acquirer was quicker."""
    _dies(program, "committed create-requested")
    held = world.lease_lock(LEASE)
    held.acquire()
    stopper = world.program()
    stopper.boundaries.on("begin", lambda: finish(world.program().services, LEASE))

    stopped = stopper.stop()
    held.release()

    assert (stopped.outcome, world.types()) == ("cancelled", ["create-requested", "released"])


@pytest.mark.holds("W-42")
def test_a_box_that_became_ready_while_stop_asks_is_deleted(world: World, program: Program) -> None:
    """Ready came first, so stop deletes it itself once the acquirer has let go."""
    waiting: list[Lease] = []
    acquired, tried = threading.Event(), threading.Event()
    stopper = world.program()
    stopper.services = replace(stopper.services, clock=Waiting(world.clock, acquired))
    stopper.boundaries.on("begin", lambda: _wait(acquired))
    stopper.boundaries.on("try lock", tried.set)
    thread = threading.Thread(target=lambda: waiting.append(stopper.stop()))

    def ask() -> None:
        thread.start()
        _wait(tried)

    program.boundaries.on("append ready", ask)
    program.acquire()
    acquired.set()
    thread.join(PATIENCE_S)

    assert [lease.outcome for lease in waiting] == ["completed"]
    assert world.types()[3:] == ["ready", "stop-requested", *GONE]


@pytest.mark.holds("LCK-08")
def test_two_programs_that_stop_at_once_send_one_delete(world: World, program: Program) -> None:
    """Rule 6: an effect belongs to the process whose own append announced it."""
    program.acquire()
    rivals = [world.program(), world.program()]
    for rival in rivals:
        rival.waits_in_real_time = True
    together = threading.Barrier(2)
    outcomes: list[object] = []

    def stop_one(rival: Program) -> None:
        together.wait(PATIENCE_S)
        outcomes.append(rival.stop().outcome)

    _in_threads([partial(stop_one, rival) for rival in rivals])

    assert (outcomes, world.calls("delete"), world.types()[4:]) == (["completed"] * 2, ["delete"], GONE)


@pytest.mark.holds("LCK-06")
def test_of_two_programs_that_want_one_explicit_slug_one_gets_it(world: World, program: Program) -> None:
    """The other is refused with exit 2 and leaves nothing."""
    rivals = {LEASE: program, OTHER: world.program()}
    together = threading.Barrier(2)
    results: dict[str, object] = {}

    def lease_one(lease_id: str, rival: Program) -> None:
        together.wait(PATIENCE_S)
        try:
            results[lease_id] = str(rival.acquire(lease_id).phase)
        except RentrollError as failure:
            results[lease_id] = failure.exit_code

    _in_threads([partial(lease_one, lease_id, rival) for lease_id, rival in rivals.items()])

    assert sorted(results.values(), key=str) == [2, "ready"]
    [loser] = [lease_id for lease_id, result in results.items() if result == 2]
    assert (world.types(loser), len(world.posts()), len(world.boxes()), len(world.key_folders())) == ([], 1, 1, 1)


@pytest.mark.holds("W-37", "PEER-13", "PEER-42")
def test_a_late_id_of_an_acquirer_that_was_taken_over_is_recorded_and_deleted(world: World, program: Program) -> None:
    """Rule 6: a decision of a fenced holder is refused, an id that it has learned never is."""
    fence = e.AcquireFenced(acquirer="rival", deadline=world.clock.now(), evidence="lock-free", host="elsewhere", pid=1)
    program.boundaries.on("call create", lambda: _record(world, fence))

    with pytest.raises(Conflict) as failure:
        program.acquire()

    [box] = world.emulator.instances()
    assert failure.value.message == (
        f"lease gpu-box was taken over; its box {box.id} is recorded, not worked on; the box {box.id} was given back"
    )
    assert (world.types()[2:], world.boxes()) == (["acquire-fenced", "instance-id-bound", *GONE], [])


def _record(world: World, fact: e.LeaseEvent) -> None:
    world.program().book.record(LEASE, fact)


def _wait(event: threading.Event) -> None:
    assert event.wait(PATIENCE_S)


def _in_threads(jobs: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)


@pytest.mark.holds("W-37", "PEER-42")
def test_an_acquirer_that_hangs_past_its_deadline_is_taken_over_by_stop(world: World, program: Program) -> None:
    _dies(program, "committed instance-id-bound")
    hung = world.lease_lock(LEASE)
    hung.acquire()
    world.clock.sleep(17 * 60 + 1)

    released = world.program().stop()

    hung.release()
    assert (released.outcome, world.boxes()) == ("rolled-back", [])
    assert world.payloads("acquire-fenced")[0]["evidence"] == "deadline-passed"
