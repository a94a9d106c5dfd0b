"""A claim that is lost in the middle of the work: the log has the lease, and the next fact brings the claim back."""

import sqlite3
from contextlib import closing

import pytest

from ledger.domain.errors import SshFailure
from providers.emulator.faults import Status
from tests.flows.world import ACQUIRED, GONE, LEASE, Program, World

BOUND = ["create-requested", "create-sent", "instance-id-bound"]


def lose_claims(world: World) -> None:
    with closing(sqlite3.connect(world.folder / "ledger.db")) as raw, raw:
        raw.execute("DELETE FROM claims")


@pytest.fixture
def failing(world: World, program: Program) -> Program:
    """The program whose claim is lost while it waits for SSH, which then fails for good."""

    def lose_and_fail() -> None:
        lose_claims(world)
        raise SshFailure("another host key", stage="host-key")

    program.memory_box.failures = [lose_and_fail]
    return program


@pytest.mark.holds("RDY-09")
def test_an_acquire_whose_claim_is_lost_while_it_waits_becomes_ready(world: World, program: Program) -> None:
    program.memory_box.failures = [lambda: lose_claims(world)]

    lease = program.acquire()

    assert (world.types(), world.calls("delete")) == (ACQUIRED, [])
    assert (world.claim().phase, world.claim().instance_id) == ("ready", lease.instance_id)
    assert world.verification().problems == ()


@pytest.mark.holds("RBK-06")
def test_a_roll_back_whose_claim_is_lost_deletes_the_box_once(world: World, failing: Program) -> None:
    with pytest.raises(SshFailure) as failure:
        failing.acquire()

    [box] = world.emulator.instances()
    assert failure.value.message == f"another host key; the box {box.id} was given back"
    assert (world.types(), world.calls("delete"), world.boxes()) == ([*BOUND, "rollback", *GONE], ["delete"], [])
    assert (world.claim().outcome, world.key_folders()) == ("rolled-back", [])


@pytest.mark.holds("RBK-07")
def test_a_roll_back_whose_delete_fails_brings_the_lost_claim_back(world: World, failing: Program) -> None:
    world.fault("delete", Status(500, error_type="server_error"), count=None)

    with pytest.raises(SshFailure):
        failing.acquire()

    [box] = world.boxes()
    claim = world.claim()
    assert (claim.phase, claim.instance_id, claim.slug) == ("deleting", box.id, "gpu-box")
    assert (world.key_folders(), world.verification().problems) == ([LEASE], ())
