"""Every pair of deaths of every flow, at each of the three times; `make test-all`."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import pytest

from tests.crash.explore import Explored, explore
from tests.crash.play import WHENS, When
from tests.crash.scenarios import SCENARIOS

Explorations = dict[tuple[str, When], "Future[Explored]"]


@pytest.fixture(scope="module")
def explorations(request: pytest.FixtureRequest) -> Iterator[Explorations]:
    """All that was asked for, side by side: begun here, awaited by each test."""
    items = [item for item in request.session.items if item.path == request.path]
    cases: list[dict[str, Any]] = [item.callspec.params for item in items if isinstance(item, pytest.Function)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        yield {
            (case["name"], case["when"]): pool.submit(explore, case["name"], case["when"], pairs=True) for case in cases
        }


@pytest.mark.exhaustive
@pytest.mark.parametrize("when", WHENS)
@pytest.mark.parametrize("name", [scenario.name for scenario in SCENARIOS])
def test_no_pair_of_deaths_leaks_anything(name: str, when: When, explorations: Explorations) -> None:
    explored = explorations[name, when].result()

    assert explored.problems == []
    assert explored.deaths > 20
