"""Rolling back where the box, the provider or the ledger is not as it should be."""

import pytest

from ledger.domain import events as e
from ledger.domain.errors import ProviderFailure, RentrollError, SshFailure, UsageFailure
from ledger.flows.release import delete_box
from providers.emulator.faults import Hide, Linger, Rewrite
from tests.flows.world import GONE, LEASE, MINUTE_MS, Program, World

BOUND = ["create-requested", "create-sent", "instance-id-bound"]


def other_host_key() -> SshFailure:
    return SshFailure("another host key", stage="host-key")


@pytest.mark.holds("RBK-05")
def test_a_roll_back_of_a_box_that_vanished_ends_once_its_absence_counts(world: World, program: Program) -> None:
    """A box that no fact has shown counts as absent half an hour after it was bound, not before."""

    def vanish() -> None:
        [box] = world.boxes()
        world.emulator.change(lambda state, now: state.remove_instance(box.id, now))
        raise other_host_key()

    program.memory_box.failures = [vanish]
    with pytest.raises(SshFailure):
        program.acquire()
    world.clock.sleep(31 * 60)
    stopped = world.program().stop()

    assert (stopped.outcome, world.types()[3], world.types()[-2:]) == ("rolled-back", "rollback", GONE[2:])
    assert world.key_folders() == []


@pytest.mark.holds("RBK-09")
def test_a_roll_back_that_cannot_be_recorded_deletes_nothing_and_names_the_box(world: World, program: Program) -> None:
    program.memory_box.failures = [other_host_key()]
    program.boundaries.fail("append rollback", UsageFailure("disk full"), times=9)

    with pytest.raises(SshFailure) as failure:
        program.acquire()

    [box] = world.boxes()
    assert failure.value.message == (
        f"another host key; then: disk full; the box {box.id} of lease gpu-box may still bill, and the lease stays open"
    )
    assert failure.value.next_step == "rentroll stop gpu-box"
    assert (world.types(), world.calls("delete"), world.key_folders()) == (BOUND, [], [LEASE])


@pytest.mark.holds("RBK-14")
def test_a_ledger_that_is_gone_during_a_roll_back_leaves_the_box_alone(world: World, program: Program) -> None:
    """Both causes are told; which box it is was told when it was bound."""

    def lose_the_disk() -> None:
        for step in ("begin", "load"):
            program.boundaries.fail(step, UsageFailure("the disk is gone"), times=99)
        raise other_host_key()

    program.memory_box.failures = [lose_the_disk]

    with pytest.raises(SshFailure) as failure:
        program.acquire()

    [box] = world.boxes()
    assert failure.value.message.startswith("another host key; then: the disk is gone; ")
    assert [stage.detail for stage in program.told if stage.name == "bound"] == [box.id]
    assert (world.types(), world.calls("delete"), world.key_folders()) == (BOUND, [], [LEASE])


@pytest.mark.holds("RBK-16", "REL-08")
def test_a_roll_back_deletes_nothing_while_a_read_shows_another_box(world: World, program: Program) -> None:
    program.memory_box.failures = [other_host_key()]
    stranger = Rewrite(put={"id": "inst_of_somebody_else"})
    program.boundaries.on("committed rollback", lambda: world.fault("get", stranger, count=None))

    with pytest.raises(SshFailure):
        program.acquire()

    assert (world.types(), world.calls("delete"), world.key_folders()) == ([*BOUND, "rollback"], [], [LEASE])
    assert world.claim().phase == "rolling-back"


@pytest.mark.holds("RDY-10", "W-40")
def test_reads_that_contradict_each_other_during_the_wait_prove_no_absence(world: World, program: Program) -> None:
    """GET says 404 all the time, the inventory lists the box; also when an absence of it would count."""
    world.fault("get", Hide(), count=None)
    world.fault("delete", Linger(3_600))

    with pytest.raises(ProviderFailure) as failure:
        program.acquire(timeout_ms=MINUTE_MS)
    world.clock.sleep(31 * 60)
    with pytest.raises(ProviderFailure, match="could not confirm"):
        world.program().stop()

    [box] = world.emulator.instances()
    assert failure.value.message.startswith(f"timed out waiting for instance {box.id} to be ready; ")
    assert (world.claim().phase, world.claim().instance_id) == ("deleting", box.id)
    assert (world.types()[-1], world.calls("delete"), world.key_folders()) == ("delete-accepted", ["delete"], [LEASE])


@pytest.mark.holds("RDY-08")
def test_a_lease_that_was_given_back_during_the_wait_does_not_become_ready(world: World, program: Program) -> None:
    """Another process took it over, deleted its box and released it; nothing is made anew."""

    def finish_it() -> None:
        rival = world.program()
        fence = e.AcquireFenced(
            acquirer="rival", deadline=world.clock.now(), evidence="lock-free", host="elsewhere", pid=1
        )
        rival.book.record(LEASE, fence, e.Rollback(stage="stop", cause="taken over", shown=True))
        delete_box(rival.services, LEASE, reason="rollback")

    program.memory_box.failures = [finish_it]

    with pytest.raises(RentrollError) as failure:
        program.acquire()

    [box] = world.emulator.instances()
    assert failure.value.message.endswith(f"; the box {box.id} was given back")
    assert world.types() == [*BOUND, "acquire-fenced", "rollback", *GONE]
    assert (world.calls("delete"), len(world.posts()), world.key_folders()) == (["delete"], 1, [])
