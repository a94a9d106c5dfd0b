"""A later process that replays a create in doubt: what guards its POST, down to the first byte."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from ledger.domain import events as e
from ledger.domain.errors import InDoubt
from providers.emulator.faults import DropAfter
from tests.flows.recovering import Told, dies_at, passed
from tests.flows.world import LEASE, MINUTE_MS, Program, World

IN_DOUBT = Told("settle", "failed", "in-doubt")
SETTLED = Told("settle", "rolled-back")
HUNG_S = 200.0
"""Past the deadline of an acquisition that had a minute, inside the window of its create."""


def recover(program: Program) -> None:
    assert passed(program)[LEASE] == IN_DOUBT


def stop(program: Program) -> None:
    with pytest.raises(InDoubt):
        program.stop()


def lost(world: World, program: Program) -> None:
    """A create whose answer was lost, whose box does not answer SSH yet: one replay may learn its id."""
    world.fault("create", DropAfter())
    dies_at(program, "committed create-in-doubt", lambda: program.acquire(timeout_ms=MINUTE_MS))
    world.silent.update(box.id for box in world.boxes())


@pytest.fixture
def hung(world: World, program: Program) -> Iterator[Program]:
    """Such a create, of a process that hangs: a later program, which does not get its lock."""
    lost(world, program)
    with world.lease_lock(LEASE):
        world.clock.sleep(HUNG_S)
        yield world.program()


def rival_fence(world: World) -> None:
    fact = e.AcquireFenced(
        acquirer="a rival",
        deadline=world.clock.now() + timedelta(minutes=5),
        evidence="lock-free",
        host="elsewhere",
        pid=1,
    )
    world.program().book.record(LEASE, fact)


def causes(world: World) -> list[str]:
    """Why each attempt after the first came to nothing."""
    return [fact["cause"] for fact in world.payloads("create-in-doubt")[1:]]


@pytest.mark.holds("CRE-26", "LCK-01")
@pytest.mark.parametrize("act", [recover, stop])
def test_a_replay_whose_lock_was_lost_since_it_was_announced_is_not_sent(
    world: World, program: Program, act: Callable[[Program], None]
) -> None:
    """Somebody removed the lock's file: another process could have it by now."""
    lost(world, program)
    world.clock.sleep(120)
    later = world.program()
    later.boundaries.on("committed create-sent", (world.lock_folder / f"{LEASE}.lock").unlink)

    act(later)

    assert causes(world) == ["the create was announced, but its lease's lock was lost before it was sent"]
    assert (len(world.posts()), world.payloads("create-in-doubt")[1]["sent"]) == (1, False)


@pytest.mark.holds("W-37", "PEER-42")
def test_the_create_of_an_acquirer_that_hangs_is_replayed_under_a_fence_without_its_lock(
    world: World, hung: Program
) -> None:
    assert passed(hung)[LEASE] == SETTLED
    assert [fact["evidence"] for fact in world.payloads("acquire-fenced")] == ["deadline-passed"]
    assert (len(world.posts()), world.boxes()) == (2, [])


@pytest.mark.holds("W-37", "CRE-26")
def test_a_fenced_replay_that_was_fenced_in_turn_is_not_sent(world: World, hung: Program) -> None:
    hung.boundaries.on("committed create-sent", lambda: rival_fence(world))

    recover(hung)

    assert causes(world) == ["the create was announced, but its lease was taken over before it was sent"]
    assert len(world.posts()) == 1


@pytest.mark.holds("CRE-26")
def test_a_fenced_replay_whose_own_deadline_has_passed_is_not_sent(world: World, hung: Program) -> None:
    hung.boundaries.on("committed create-sent", lambda: world.clock.suspend(301))

    recover(hung)

    assert causes(world) == ["the create was announced, but its time was over before it was sent"]
    assert len(world.posts()) == 1


@pytest.mark.holds("W-37")
def test_who_holds_no_lock_does_not_fence_a_live_rival(world: World, hung: Program) -> None:
    """A lock that is not held proves nobody dead."""
    hung.boundaries.on("committed candidate-tried", lambda: rival_fence(world))

    recover(hung)

    assert [fact["acquirer"] for fact in world.payloads("acquire-fenced")] == [hung.token, "a rival"]
    assert len(world.posts()) == 1
