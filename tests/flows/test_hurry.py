"""A stop signal and the DELETE of a box that this process leased itself: a moment for the look, then it leaves."""

import signal
from datetime import timedelta

import pytest

from ledger.domain.errors import Interrupted, ProviderFailure, SshFailure
from ledger.domain.ports import KeyRejected
from providers.emulator.faults import Delay, Effect, IgnoreDelete, Rewrite, Status
from tests.flows.world import ACQUIRED, GONE, STARTED_AT, Program, World

NEVER = Delay(1_000_000)
ROLLED_BACK_S = 3.0
"""When a box is up, and is rolled back where its SSH server is not as it should be: at the second look at it."""
SERVER_ERROR = Status(500, error_type="server_error")
UNREADABLE = [
    pytest.param(SERVER_ERROR, id="a 500"),
    pytest.param(Status(429, error_type="rate_limited", retry_after_s=20), id="a 429"),
    pytest.param(Rewrite(put={"id": "inst_of_somebody_else"}), id="another instance's answer"),
]


@pytest.fixture
def asked(signals: Program) -> Program:
    """The program that has leased the box and was then told to stop."""
    signals.acquire()
    with pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGTERM)
    return signals


def deletes_s(world: World, since_s: float | None) -> list[float]:
    """When each DELETE arrived, in seconds since a moment of the monotonic clock."""
    began_at = STARTED_AT + timedelta(seconds=since_s or 0.0)
    return [(entry.at - began_at).total_seconds() for entry in world.emulator.journal() if entry.call == "delete"]


@pytest.mark.holds("RBK-15")
@pytest.mark.parametrize(("used_s", "left_s"), [(0.0, 1.5), (1.0, 0.5), (1.4, 0.2), (20.0, 0.2)])
def test_a_look_that_hangs_holds_the_first_delete_up_for_a_moment_only(
    world: World, asked: Program, used_s: float, left_s: float
) -> None:
    """What is left of 1.5 s since the signal, and 0.2 s at least; then the DELETE rests on the binding alone."""
    world.fault("get", NEVER)
    world.clock.sleep(used_s)

    released = asked.stop(may_hurry=True)

    assert deletes_s(world, asked.interrupts.asked_at_s) == [pytest.approx(used_s + left_s)]
    assert [fact["shown"] for fact in world.payloads("delete-requested")] == [False]
    assert (released.outcome, world.types(), world.boxes()) == ("completed", [*ACQUIRED, *GONE], [])


@pytest.mark.holds("RBK-15")
@pytest.mark.parametrize("effect", UNREADABLE)
def test_an_unreadable_answer_does_not_hold_the_first_delete_up(world: World, asked: Program, effect: Effect) -> None:
    world.fault("get", effect)

    asked.stop(may_hurry=True)

    assert deletes_s(world, asked.interrupts.asked_at_s) == [0.0]
    assert world.types() == [*ACQUIRED, *GONE]


@pytest.mark.holds("REL-11")
def test_a_box_that_the_look_finds_gone_is_not_deleted(world: World, asked: Program) -> None:
    [box] = world.boxes()
    world.emulator.change(lambda state, now: state.remove_instance(box.id, now))

    assert (asked.stop(may_hurry=True).outcome, world.calls("delete")) == ("completed", [])


def test_a_rejected_key_deletes_nothing_in_a_hurry_either(world: World, asked: Program) -> None:
    world.fault("get", Status(401, error_type="authorization_error"))

    with pytest.raises(KeyRejected):
        asked.stop(may_hurry=True)

    assert (world.types(), world.calls("delete")) == (ACQUIRED, [])


@pytest.mark.holds("REL-07")
@pytest.mark.parametrize("effect", UNREADABLE)
def test_whoever_did_not_lease_the_box_itself_deletes_nothing_unseen(
    world: World, asked: Program, effect: Effect
) -> None:
    """Whatever signal came: that the box is there and ours is seen first."""
    world.fault("get", effect, count=None)

    with pytest.raises(ProviderFailure):
        asked.stop()

    assert (world.types(), world.calls("delete")) == ([*ACQUIRED, "stop-requested"], [])


@pytest.mark.holds("REL-07")
def test_without_a_signal_an_unreadable_state_blocks_the_delete_of_its_own_box_too(
    world: World, program: Program
) -> None:
    program.acquire()
    world.fault("get", SERVER_ERROR, count=None)

    with pytest.raises(ProviderFailure):
        program.stop(may_hurry=True)

    assert world.calls("delete") == []


@pytest.mark.holds("DEL-03", "REL-07")
@pytest.mark.parametrize("fate", [pytest.param(IgnoreDelete(), id="accepted"), pytest.param(SERVER_ERROR, id="failed")])
def test_only_the_first_delete_is_hurried(world: World, asked: Program, fate: Effect) -> None:
    """The next one is due by what became of it, and waits for a look as ever."""
    world.fault("delete", fate)
    asked.boundaries.on("call delete", lambda: world.fault("get", NEVER, count=None))

    with pytest.raises(ProviderFailure):
        asked.stop(may_hurry=True, timeout_s=200.0)

    assert world.calls("delete") == ["delete"]


@pytest.mark.holds("RBK-15", "PEER-04")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_box_boots_and_nothing_can_be_read_deletes_it_within_two_seconds(
    world: World, signals: Program, sent: signal.Signals
) -> None:
    """No fact says that a read has shown the box, so its absence counts only half an hour later."""
    world.fault("get", NEVER, count=None)
    world.clock.plan(10, lambda: signal.raise_signal(sent))
    signals.boundaries.on("call delete", lambda: world.emulator.change(lambda state, _now: state.script.clear()))

    with pytest.raises(Interrupted) as interrupted:
        signals.acquire()
    world.clock.sleep(30 * 60)
    stopped = world.program().stop()

    [box] = world.emulator.instances()
    assert interrupted.value.left == (
        f"then: could not confirm that instance {box.id} of lease gpu-box is gone; the box {box.id} of lease gpu-box "
        "may still bill, and the lease stays open; next: rentroll stop gpu-box"
    )
    assert deletes_s(world, signals.interrupts.asked_at_s) == [1.5]
    assert (stopped.outcome, world.boxes(), world.key_folders()) == ("rolled-back", [], [])


@pytest.mark.holds("RBK-15", "RBK-17")
def test_a_signal_at_the_very_moment_of_ready_hurries_the_delete_too(world: World, signals: Program) -> None:
    """Nobody was handed this box."""

    def come() -> None:
        world.fault("get", NEVER)
        signal.raise_signal(signal.SIGTERM)

    signals.boundaries.on("committed ready", come)

    with pytest.raises(Interrupted):
        signals.acquire()

    assert deletes_s(world, signals.interrupts.asked_at_s) == [1.5]
    assert (world.types(), world.boxes()) == ([*ACQUIRED, *GONE], [])


@pytest.mark.holds("RBK-15")
def test_a_signal_between_two_looks_of_a_roll_back_ends_the_wait(world: World, signals: Program) -> None:
    """Within a quarter of a second."""
    signals.memory_box.failures = [SshFailure("another host key", stage="host-key")]
    signals.boundaries.on("committed rollback", lambda: world.fault("get", SERVER_ERROR, count=None))
    signals.boundaries.on("call delete", lambda: world.emulator.change(lambda state, _now: state.script.clear()))
    world.clock.plan(ROLLED_BACK_S + 1.1, lambda: signal.raise_signal(signal.SIGTERM))

    with pytest.raises(Interrupted):
        signals.acquire()

    assert deletes_s(world, ROLLED_BACK_S) == [1.25]


@pytest.mark.holds("RBK-15")
def test_a_signal_during_a_look_of_a_roll_back_waits_for_it_five_seconds_at_most(
    world: World, signals: Program
) -> None:
    """Nothing can cut a look short that was given more time before."""
    signals.memory_box.failures = [SshFailure("another host key", stage="host-key")]
    signals.boundaries.on("committed rollback", lambda: world.fault("get", NEVER))
    world.clock.plan(ROLLED_BACK_S + 1, lambda: signal.raise_signal(signal.SIGTERM))

    with pytest.raises(Interrupted):
        signals.acquire()

    assert deletes_s(world, ROLLED_BACK_S) == [5.0]


def test_a_look_of_a_roll_back_without_a_signal_is_made_again(world: World, program: Program) -> None:
    """After two seconds."""
    program.memory_box.failures = [SshFailure("another host key", stage="host-key")]
    program.boundaries.on("committed rollback", lambda: world.fault("get", SERVER_ERROR))

    with pytest.raises(SshFailure):
        program.acquire()

    assert deletes_s(world, ROLLED_BACK_S) == [2.0]
