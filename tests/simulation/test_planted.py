"""The simulation sees what it is for: each bug that is planted in the real code breaks its rule."""

import pytest

from tests.simulation.chooser import Seeded
from tests.simulation.plants import PLANTS, Plant
from tests.simulation.play import Run
from tests.simulation.witness import Violation


def played(plant: Plant, seed: int) -> Violation | None:
    return Run(Seeded(seed, plant.menu)).play().violation


def first_broken(plant: Plant) -> tuple[int, str]:
    """The first seed whose run breaks a rule, and the rule."""
    for seed in range(plant.seeds):
        violation = played(plant, seed)
        if violation is not None:
            return seed, violation.rule
    return plant.seeds, "none"


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_a_planted_bug_breaks_its_rule_in_runs_that_are_clean_without_it(plant: Plant) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plant.plant(patch)
        seed, rule = first_broken(plant)

    assert rule == plant.rule
    assert [played(plant, clean) for clean in range(seed + 1)] == [None] * (seed + 1)
