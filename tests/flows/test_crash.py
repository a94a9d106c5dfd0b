"""A program that dies at any boundary leaves a ledger that verifies and in which every box is known."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.domain.errors import InDoubt, SshFailure
from ledger.domain.state import Phase
from providers.emulator.faults import DropAfter, Status
from tests.flows import crash
from tests.flows.crash import CLEAN, Scenario
from tests.flows.world import Program, World

SERVER_ERROR = Status(500, error_type="server_error")


def _nothing(world: World, program: Program) -> None:
    """Nothing to prepare."""


def _lost_answer(world: World, program: Program) -> None:
    world.fault("create", DropAfter())


def _rejection(world: World, program: Program) -> None:
    world.fault("create", Status(429, error_type="rate_limited"))


def _dead_ssh(world: World, program: Program) -> None:
    program.memory_box.failures = [SshFailure("another host key", stage="host-key")]


def _leased(world: World, program: Program) -> None:
    program.acquire()


def _leased_with_faults(world: World, program: Program) -> None:
    program.acquire()
    world.fault("delete", SERVER_ERROR)
    world.fault("delete", DropAfter())


SCENARIOS = (
    Scenario("acquire", 23, _nothing, Program.acquire),
    Scenario("acquire after a lost answer", 30, _lost_answer, Program.acquire),
    Scenario("acquire refused", 22, _rejection, Program.acquire),
    Scenario("acquire rolled back", 44, _dead_ssh, Program.acquire),
    Scenario("stop", 24, _leased, Program.stop),
    Scenario("stop with faults", 33, _leased_with_faults, Program.stop),
)


def _all_deaths() -> Iterator[object]:
    for scenario in SCENARIOS:
        for number in range(1, scenario.boundaries + 1):
            yield pytest.param(scenario, number, id=f"{scenario.name}-{number}")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_boundary_of_a_scenario_has_its_death(scenario: Scenario, tmp_path: Path) -> None:
    """The harness covers what there is: no boundary is left out, none is invented."""
    with crash.played(scenario, tmp_path, dies_at=None) as (_world, program):
        assert len(crash.deadly(program)) == scenario.boundaries, crash.deadly(program)


@pytest.mark.parametrize(("scenario", "number"), list(_all_deaths()))
def test_a_death_leaves_every_box_known_and_the_next_stop_ends_it(
    scenario: Scenario, number: int, tmp_path: Path
) -> None:
    """Rules 1, 3, 4 and 6; the crash-point matrix: another process gives back all that is known."""
    with crash.played(scenario, tmp_path, dies_at=number) as (world, _dead):
        assert crash.autopsy(world) == CLEAN

        if world.lease().is_open:
            world.emulator.change(lambda state, _now: state.script.clear())
            _stop(world.program())
        in_doubt = world.lease().phase is Phase.IN_DOUBT
        assert (world.lease().is_open, bool(world.boxes()) and not in_doubt) == (in_doubt, False)
        assert crash.autopsy(world) == CLEAN


def _stop(program: Program) -> None:
    """The next process stops the lease; in doubt it can only record the aim."""
    if program.world.lease().phase is not Phase.IN_DOUBT:
        program.stop()
        return
    with pytest.raises(InDoubt):
        program.stop()
    assert program.world.lease().stop_reason == "enough"
