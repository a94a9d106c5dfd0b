"""What a create leaves in the ledger, and takes from it, when something beside it fails."""

import json

import pytest

from ledger.domain.errors import InDoubt, SshFailure, UsageFailure
from ledger.domain.names import suffixed_slug
from providers.emulator.faults import Status
from tests.flows.world import ACQUIRED, LEASE, OTHER, Program, World

THIRD = "rl_" + "2" * 26
SERVER_ERROR = Status(500, error_type="server_error", message="try later")


@pytest.mark.holds("CRE-21", "CRE-09")
def test_a_replay_sends_the_key_that_the_ledger_holds(world: World, program: Program) -> None:
    """Not one of the key files: those were lost meanwhile."""
    world.fault("create", SERVER_ERROR)
    program.boundaries.on("committed create-in-doubt", lambda: world.keys.destroy(LEASE))

    with pytest.raises(SshFailure):  # nobody can log in with a key that is lost
        program.acquire()

    first, second = world.posts()
    assert (first, json.loads(second[1])["ssh_key"]) == (second, world.payloads("create-requested")[0]["public_key"])


@pytest.mark.holds("CRE-31", "LCK-08")
def test_a_binding_whose_append_reported_a_failure_is_one_fact(world: World, program: Program) -> None:
    """It is durable once it can be read, so the second try finds it and appends nothing."""
    program.boundaries.fail("committed instance-id-bound", UsageFailure("the ledger cannot be written"))

    program.acquire()

    assert (world.types(), len(world.posts()), world.calls("delete")) == (ACQUIRED, 1, [])


@pytest.mark.holds("CRE-35", "W-30")
def test_a_doubt_that_cannot_be_recorded_is_told_and_is_one_all_the_same(world: World, program: Program) -> None:
    world.fault("create", SERVER_ERROR)
    program.boundaries.fail("append create-in-doubt", UsageFailure("disk full"))

    with pytest.raises(InDoubt) as failure:
        program.acquire()

    assert failure.value.message == (
        "disk full; whether a box was made for lease gpu-box is unknown, and the lease stays open"
    )
    assert (failure.value.exit_code, failure.value.next_step) == (75, "rentroll stop gpu-box")
    assert (world.types(), world.claim().phase, len(world.posts())) == (ACQUIRED[:2], "in-doubt", 1)


@pytest.mark.holds("LCK-07")
def test_a_suffix_that_somebody_asked_for_by_name_is_not_given_to_another(world: World, program: Program) -> None:
    program.acquire()
    first_choice = suffixed_slug("gpu-box", OTHER, lambda slug: slug == "gpu-box")

    world.program().acquire(THIRD, slug=first_choice)
    lease = world.program().acquire(OTHER, slug_is_explicit=False)

    assert (world.claim(THIRD).slug, lease.slug != first_choice, lease.slug[:8]) == (first_choice, True, "gpu-box-")


@pytest.mark.holds("LCK-07")
def test_a_suffix_that_a_collision_gave_is_held_by_its_lease(world: World, program: Program) -> None:
    program.acquire()
    given = world.program().acquire(OTHER, slug_is_explicit=False).slug

    with pytest.raises(UsageFailure) as refused:
        world.program().acquire(THIRD, slug=given)

    assert refused.value.message == f"the slug {given} is held by lease {OTHER}; nothing was made"
    assert (world.types(THIRD), len(world.posts())) == ([], 2)
