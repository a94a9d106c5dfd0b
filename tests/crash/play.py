"""Plays a scenario with its deaths: at a boundary of the act, at one of the recovery, then recovers to the end."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple

from ledger.domain.units import after_ms
from ledger.domain.windows import WINDOW_MS
from tests.crash.autopsy import Witness, boxes, leases, problems, remains
from tests.crash.fingerprint import Fingerprint, fingerprint
from tests.crash.scenarios import Scenario, recovery
from tests.flows.world import STARTED_AT, Program, World
from tests.world.death import Crash, Death
from tests.world.ledgers import quick_folder

When = Literal["at once", "at the edge", "after"]
"""When the recovery begins: inside the replay window, so that the window closes during it, or after it."""
WHENS: tuple[When, ...] = ("at once", "at the edge", "after")
EDGE_S = 1.0
LATENCY_S = 0.3
"""So short before the end of the window, and so slow, that it closes a few calls later."""
PASS_EVERY_S = 300.0
MOST_PASSES = 40
"""Passes five minutes apart, but at once after a death; a box in its user's hands is left until its time is over."""

Act = Callable[[Program], object]


class Played(NamedTuple):
    """One way to die and what came of it. `first` and `second` are where the act and the recovery died, if they did.

    A repeat left the very world that an earlier death had left: what it is and what comes of it is known already.
    """

    name: str
    first: str | None
    second: str | None
    problems: list[str]
    is_repeat: bool


def deaths(scenario: Scenario, when: When, *, pairs: bool) -> Iterator[Played]:
    """Every death of the act, and with `pairs` every death of the recovery after each; last, that of an act that lived.

    The boundaries are found by dying at one after the other until there is none left.
    """
    left: set[Fingerprint] = set()
    for first in count(1):
        alone = _play(scenario, when, first, None, left)
        yield alone
        if pairs and not alone.is_repeat:
            yield from _second_deaths(scenario, when, first)
        if alone.first is None:
            return


def _second_deaths(scenario: Scenario, when: When, first: int) -> Iterator[Played]:
    left: set[Fingerprint] = set()
    for second in count(1):
        pair = _play(scenario, when, first, second, left)
        if pair.second is None:
            return
        yield pair


def _play(scenario: Scenario, when: When, first: int, second: int | None, left: set[Fingerprint]) -> Played:
    """One world from its beginning to its end, or to the point from which on an earlier one has been the same.

    `left` are the worlds that earlier deaths have left; the one that the last death here leaves is added.
    """
    found: list[str] = []
    act, again, is_repeat = Death(first), Death(second), False
    with quick_folder() as folder, World(Path(folder), scenario.settings) as world:
        program = world.program(key=scenario.api_key)
        scenario.prepare(world, program)
        witness = Witness(world)
        _live(program, scenario.act, act)
        if second is None:
            is_repeat = _is_known(world, left)
            found += [] if is_repeat else _marked("after the act", problems(world, witness, scenario))
        _wait_until(world, when)
        for number in range(MOST_PASSES):
            if is_repeat:
                break
            _live(world.program(key=scenario.api_key), recovery, again, latency_s=0.0 if number else LATENCY_S)
            if again.falls_now():
                is_repeat = _is_known(world, left)
                found += [] if is_repeat else _marked("after the recovery", problems(world, witness, scenario))
                continue
            world.emulator.change(lambda state, _now: state.script.clear())
            found += _marked("between two passes", boxes(world, scenario))
            if not remains(world):
                break
            world.clock.wait(max(PASS_EVERY_S, _held_for_s(world)))
        if not is_repeat:
            found += _marked("in the end", [*problems(world, witness, scenario), *remains(world)])
    name = f"{scenario.name} {_place(first, act)}, recovery {when} {_place(second, again)}"
    return Played(name, act.fell_at, again.fell_at, found, is_repeat)


def _marked(where: str, wrong: Iterable[str]) -> list[str]:
    return [f"{where}: {problem}" for problem in wrong]


def _is_known(world: World, left: set[Fingerprint]) -> bool:
    now = fingerprint(world)
    known = now in left
    left.add(now)
    return known


def _place(number: int | None, death: Death) -> str:
    """Where a death came, so that it can be found again."""
    return "lives" if death.fell_at is None else f"dies at {number} ({death.fell_at})"


def _live(program: Program, act: Act, death: Death, *, latency_s: float = 0.0) -> None:
    """A process from its start to its end, which may be its death; nobody dies of a death that has been."""
    if death.fell_at is None:
        program.boundaries.everywhere = death
    program.world.fal.latency_s = latency_s
    # How it ends is not what is asked; what it leaves is.
    with suppress(Crash, Exception):
        act(program)
    program.die()


def _wait_until(world: World, when: When) -> None:
    if when == "at once":
        return
    sent = [lease.first_sent_at for lease in leases(world) if lease.first_sent_at is not None]
    closes = after_ms(max(sent, default=STARTED_AT), WINDOW_MS)
    margin_s = -EDGE_S if when == "at the edge" else EDGE_S
    world.clock.wait(max(0.0, (closes - world.clock.now()).total_seconds() + margin_s))


def _held_for_s(world: World) -> float:
    """How long all that is open is still inside its time."""
    still_open = [lease for lease in leases(world) if lease.is_open]
    if any(lease.stop_reason is not None or lease.is_suspect for lease in still_open):
        return 0.0
    held = [lease.expires_at for lease in still_open if lease.ready is not None or lease.keep is not None]
    if not held or len(held) < len(still_open):
        return 0.0
    return (max(end for end in held if end is not None) - world.clock.now()).total_seconds()
