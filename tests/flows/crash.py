"""Ends a program at any one of its boundaries, as a kill does, and looks at what its death has left.

The seed of every crash test: a `Scenario` says what is done, `Autopsy` what has to hold wherever it ended.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ledger.domain.state import Phase
from tests.flows.world import LEASE, Program, World

READS = frozenset({"load", "begin"})
"""Boundaries that change nothing: dying there is dying after the effect before."""


class Crash(BaseException):
    """The process has died: nothing of ours may catch it."""


class Scenario(NamedTuple):
    """What a program does. `prepare` sets the world up; the boundaries of `act` are where it may die.

    `boundaries` is how many there are, so that every one has its own test; `test_crash.py` holds it to the truth.
    """

    name: str
    boundaries: int
    prepare: Callable[[World, Program], None]
    act: Callable[[Program], object]


class Autopsy(NamedTuple):
    """What a dead program left, read by another one."""

    problems: tuple[object, ...]
    unknown_boxes: list[str]
    unannounced: list[str]
    keys_too_early: bool
    lock_is_free: bool


CLEAN = Autopsy(problems=(), unknown_boxes=[], unannounced=[], keys_too_early=False, lock_is_free=True)
"""What has to hold at every boundary."""


@contextmanager
def played(scenario: Scenario, folder: Path, *, dies_at: int | None) -> Iterator[tuple[World, Program]]:
    """The world after a scenario whose program died at boundary number `dies_at` (from 1), or lived to its end."""
    with World(folder) as world:
        program = world.program()
        scenario.prepare(world, program)
        program.boundaries.crossed.clear()
        program.boundaries.everywhere = _dying(dies_at)
        # How the program ends is not what is asked; what it leaves is.
        with suppress(Crash, Exception):
            scenario.act(program)
        if dies_at is not None:
            program.die()
        yield world, program


def deadly(program: Program) -> list[str]:
    """The boundaries that the program crossed at which its death may make a difference."""
    return [name for name in program.boundaries.crossed if name not in READS]


def _dying(dies_at: int | None) -> Callable[[str], None]:
    count = 0

    def count_down(name: str) -> None:
        nonlocal count
        count += name not in READS
        # Past its death a process does nothing: the `finally` blocks that still run here must not reach the world.
        if dies_at is not None and count >= dies_at:
            raise Crash

    return count_down


def autopsy(world: World) -> Autopsy:
    """Reads the ledger, the provider and the keys as the next process finds them."""
    lease = world.lease()
    live = [box.id for box in world.boxes()]
    explained = (
        {lease.instance_id}
        if lease.instance_id is not None and lease.is_open
        else set(live)
        if lease.phase is Phase.IN_DOUBT and _made_with_its_key(world)
        else set()
    )
    may_lack_key = not lease.is_open or lease.confirmed_at is not None or lease.nothing_sent or lease.rejected
    return Autopsy(
        problems=tuple(world.verification().problems),
        unknown_boxes=[box for box in live if box not in explained],
        unannounced=_unannounced(world),
        keys_too_early=world.key_folders() != [LEASE] and not may_lack_key,
        lock_is_free=world.is_free(),
    )


def _made_with_its_key(world: World) -> bool:
    request = world.lease().request
    return request is not None and all(box.public_key == request.public_key for box in world.boxes())


def _unannounced(world: World) -> list[str]:
    """The mutations that the provider saw beyond those that the ledger announced."""
    announced = {"create": world.types().count("create-sent"), "delete": world.types().count("delete-requested")}
    return [call for call, most in announced.items() if len(world.calls(call)) > most]
