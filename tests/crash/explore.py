"""All deaths of one scenario at one time, summed up; may run in a process of its own."""

from collections.abc import Iterable
from typing import NamedTuple

from tests.crash.play import When, deaths
from tests.crash.scenarios import SCENARIOS

MOST_SHOWN = 20


class Explored(NamedTuple):
    """What was found wrong, by the death that showed it; how many deaths there were, and at which boundaries."""

    problems: list[str]
    deaths: int
    repeats: int
    boundaries: frozenset[str]


def explore(name: str, when: When, *, pairs: bool) -> Explored:
    """Every death of the scenario of that name, and with `pairs` every second one."""
    [scenario] = [scenario for scenario in SCENARIOS if scenario.name == name]
    problems: list[str] = []
    boundaries: set[str] = set()
    number = repeats = 0
    for played in deaths(scenario, when, pairs=pairs):
        died = [place for place in (played.first, played.second) if place is not None]
        number += bool(died)
        repeats += played.is_repeat
        boundaries.update(died)
        problems += [f"{played.name}: {problem}" for problem in played.problems]
    return Explored(problems[:MOST_SHOWN], number, repeats, frozenset(boundaries))


def kinds(boundaries: Iterable[str]) -> set[str]:
    """The boundaries without the names of the facts that are appended."""
    words = ("append", "appended", "committed")
    return {name.partition(" ")[0] if name.startswith(words) else name for name in boundaries}
