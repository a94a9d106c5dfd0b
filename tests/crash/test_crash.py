"""A program that dies at any boundary, and its recovery that dies at any of its own, leave nothing that leaks.

The crash-point matrix; rules 1, 3, 4 and 6 of the design. One death each and the pairs of the two main flows here;
every pair of every flow at every time in `test_exhaustive.py`.
"""

import functools

import pytest

from tests.crash.explore import Explored, explore, kinds
from tests.crash.play import When
from tests.crash.scenarios import SCENARIOS

NAMES = [scenario.name for scenario in SCENARIOS]
PAIRS: list[tuple[str, When]] = [
    ("acquire", "at once"),
    ("acquire, rolled back", "at the edge"),
    ("stop", "after"),
]
KINDS = {
    *("append", "appended", "committed"),
    *("call create", "sent create", "answered create", "call get", "call list", "call billing"),
    *("call delete", "sent delete", "answered delete"),
    *("check", "checked", "probe", "probed"),
    *("make key", "made key", "destroy key", "destroyed key", "spool", "spooled"),
    *("lock", "try lock", "locked", "unlock", "unlocked", "sleep"),
}
"""Each append, HTTP call, SSH step, file, lock and sleep."""


@functools.cache
def single_deaths(name: str) -> Explored:
    return explore(name, "at once", pairs=False)


@pytest.mark.holds("CRE-15", "DEL-04", "CLN-07", "LCK-11", "W-06", "W-14")
@pytest.mark.holds("PEER-01", "PEER-02", "PEER-06", "PEER-14", "PEER-17", "PEER-41")
@pytest.mark.parametrize("name", NAMES)
def test_one_death_at_any_boundary_leaks_nothing(name: str) -> None:
    """Every box is known at any time, and in the end none runs, no lease is open and no key is left."""
    explored = single_deaths(name)

    assert explored.problems == []
    assert explored.deaths > 2


def test_the_deaths_are_at_every_kind_of_boundary() -> None:
    """The harness covers what there is: a kind that no flow dies at would be one that is not watched."""
    died_at = [boundary for name in NAMES for boundary in single_deaths(name).boundaries]

    assert kinds(died_at) == KINDS


@pytest.mark.holds("CRE-15", "CLN-07", "PEER-41")
@pytest.mark.parametrize(("name", "when"), PAIRS)
def test_a_second_death_during_the_recovery_leaks_nothing(name: str, when: When) -> None:
    explored = explore(name, when, pairs=True)

    assert explored.problems == []
    assert explored.deaths > 2 * single_deaths(name).deaths
