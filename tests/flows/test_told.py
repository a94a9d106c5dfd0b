"""What people are told follows what was recorded."""

import pytest
from msgspec.structs import replace

from ledger.domain.ports import KeyRejected
from ledger.flows.services import Stage
from providers.emulator.faults import Status
from tests.flows.world import Program, World


@pytest.fixture
def told(world: World, program: Program) -> list[tuple[str, str]]:
    """Each step as it was told, with the newest fact at that moment."""
    heard: list[tuple[str, str]] = []

    def tell(stage: Stage) -> None:
        heard.append((stage.name, world.types()[-1]))

    program.services = replace(program.services, tell=tell)
    return heard


@pytest.mark.holds("W-32", "REL-15")
def test_every_step_is_told_after_its_fact(program: Program, told: list[tuple[str, str]]) -> None:
    program.acquire()
    program.stop()

    assert told == [
        ("requested", "create-requested"),
        ("creating", "create-sent"),
        ("bound", "instance-id-bound"),
        ("booting", "instance-id-bound"),
        ("address", "instance-id-bound"),
        ("ready", "ready"),
        ("deleting", "delete-requested"),
        ("confirming", "delete-accepted"),
        ("released", "released"),
    ]


@pytest.mark.holds("W-32")
def test_a_box_that_was_not_deleted_is_not_told_to_be_gone(
    world: World, program: Program, told: list[tuple[str, str]]
) -> None:
    program.acquire()
    told.clear()
    world.fault("delete", Status(403, error_type="authorization_error", message="revoked"))

    with pytest.raises(KeyRejected):
        program.stop()

    assert told == [("deleting", "delete-requested")]
