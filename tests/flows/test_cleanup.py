"""Passes of recovery and cleanup over leases in every phase: what is ended, what is left alone, what is said."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from ledger.domain import events as e
from ledger.domain.errors import Interrupted, ProviderFailure, SshFailure
from ledger.flows.release import delete_box
from providers.absent import AbsentProvider
from providers.emulator.faults import DateSkew, Fault, Hide, IgnoreDelete, Status
from tests.flows.recovering import Told, dies_at, done_by, passed, stranger
from tests.flows.world import ACQUIRED, GONE, LEASE, MINUTE_MS, OTHER, Program, World

NOTHING = Told("none", "nothing to do")
ENDED = Told("delete", "completed")
SERVER_ERROR = Status(500, error_type="server_error")
TTL_S = 90 * 60.0


@pytest.fixture
def leased(world: World, program: Program) -> Program:
    program.acquire(idle_timeout_ms=90 * MINUTE_MS)
    program.die()
    return program


def test_a_box_inside_its_time_is_left_alone(world: World, leased: Program) -> None:
    calls = world.calls()

    assert passed(world.program()) == {LEASE: NOTHING}
    assert world.calls() == calls


@pytest.mark.holds("CLN-01", "CLN-03", "CLN-04", "W-10", "PEER-22")
def test_an_expired_box_is_deleted_and_no_other(world: World, leased: Program) -> None:
    other = stranger(world)
    world.clock.sleep(TTL_S)

    assert passed(world.program()) == {LEASE: ENDED}
    assert (world.types(), [box.id for box in world.boxes()]) == ([*ACQUIRED, *GONE], [other])
    assert world.payloads("delete-requested")[0]["reason"] == "expired"


def test_recover_leaves_what_has_only_expired_to_cleanup(world: World, leased: Program) -> None:
    world.clock.sleep(TTL_S)

    assert passed(world.program(), expires=False) == {LEASE: NOTHING}
    assert len(world.boxes()) == 1


@pytest.mark.holds("W-15", "CLN-05")
def test_an_expiry_that_the_providers_clock_denies_deletes_nothing(world: World, leased: Program) -> None:
    world.clock.sleep(TTL_S)
    world.fault("get", DateSkew(-3600))

    assert passed(world.program()) == {LEASE: Told("delete", "failed", "provider")}
    assert (world.types(), len(world.boxes())) == (ACQUIRED, 1)


@pytest.mark.holds("W-15")
def test_a_look_that_fails_remembers_no_aim_for_an_expiry_that_the_provider_denies(
    world: World, leased: Program
) -> None:
    world.clock.sleep(TTL_S)
    world.fault("get", Status(503, error_type="server_error", retry_after_s=600))
    assert passed(world.program()) == {LEASE: Told("delete", "failed", "provider")}
    world.fault("get", DateSkew(-3600))

    assert passed(world.program(), expires=False) == {LEASE: NOTHING}
    assert passed(world.program()) == {LEASE: Told("delete", "failed", "provider")}
    assert (world.types(), len(world.boxes())) == (ACQUIRED, 1)


@pytest.mark.holds("DEL-10")
def test_a_provider_may_ask_to_be_left_alone_for_an_hour_at_most(world: World, leased: Program) -> None:
    world.fault("delete", Status(503, error_type="server_error", retry_after_s=999_999_999), count=None)
    world.clock.sleep(TTL_S)

    passed(world.program())

    assert world.lease().retry_at == world.recorded_at("delete-deferred") + timedelta(hours=1)


@pytest.mark.holds("CLN-10")
def test_a_lock_file_that_cannot_be_read_keeps_no_other_lease_from_being_ended(world: World, program: Program) -> None:
    program.acquire(OTHER, slug="other-box")
    program.acquire()
    world.clock.sleep(TTL_S)
    lock = world.lock_folder / f"{LEASE}.lock"
    lock.unlink()
    lock.symlink_to("nowhere")

    assert passed(world.program()) == {LEASE: Told("delete", "failed", "usage"), OTHER: ENDED}


@pytest.mark.holds("KEEP-06", "W-25")
def test_keep_holds_expiry_off_until_its_own_end(world: World, program: Program) -> None:
    program.acquire(keep=world.keep(hours=4))
    world.clock.sleep(2 * TTL_S)
    assert passed(world.program()) == {LEASE: NOTHING}
    world.clock.sleep(2 * 3600.0)

    assert passed(world.program()) == {LEASE: ENDED}


@pytest.mark.holds("KEEP-05", "KEEP-01")
def test_a_failed_acquire_that_is_kept_ends_with_its_keep(world: World, program: Program) -> None:
    program.memory_box.always = SshFailure("no TCP connection", stage="tcp")
    with pytest.raises(SshFailure):
        program.acquire(keep=world.keep(hours=2), timeout_ms=MINUTE_MS)
    assert passed(world.program()) == {LEASE: NOTHING}
    world.clock.sleep(2 * 3600.0)

    assert passed(world.program()) == {LEASE: Told("delete", "rolled-back")}
    assert world.boxes() == []


@pytest.mark.holds("CLN-06", "PEER-04")
def test_an_intent_that_was_never_sent_is_closed_without_a_call(world: World, program: Program) -> None:
    dies_at(program, "committed create-requested", program.acquire)
    calls = world.calls()

    assert passed(world.program()) == {LEASE: Told("cancel", "cancelled")}
    assert (world.calls(), world.key_folders()) == (calls, [])


@pytest.mark.holds("CLN-13", "HOLE-03", "PEER-06", "PEER-09", "PEER-12")
def test_a_box_whose_acquirer_is_gone_is_rolled_back_whatever_time_it_has(world: World, program: Program) -> None:
    dies_at(program, "committed instance-id-bound", program.acquire)

    assert passed(world.program()) == {LEASE: Told("roll-back", "rolled-back")}
    assert world.types()[3:] == ["acquire-fenced", "rollback", *GONE]


@pytest.mark.holds("CLN-12", "CLN-13", "CLN-14", "LCK-05")
@pytest.mark.parametrize("boundary", ["committed create-requested", "call create", "call get", "check"])
def test_a_pass_in_the_middle_of_an_acquire_touches_nothing(world: World, program: Program, boundary: str) -> None:
    said: list[dict[str, Told]] = []
    program.boundaries.on(boundary, lambda: said.append(passed(world.program())))

    program.acquire()

    assert said == [{LEASE: NOTHING}]
    assert world.types() == ACQUIRED


@pytest.mark.holds("CLN-15")
def test_a_lease_that_becomes_ready_while_cleanup_waits_for_its_turn_is_left_alone(
    world: World, program: Program
) -> None:
    dies_at(program, "committed instance-id-bound", program.acquire)
    cleaning = world.program()
    acquirer = world.lease().acquirer

    def publish() -> None:
        lease = world.lease()
        assert lease.instance is not None
        ready = e.Ready(
            acquirer=acquirer, instance=lease.instance, host="127.0.1.1", port=22, user="ubuntu",
            host_key="ssh-ed25519 AAAA", host_key_fingerprint="SHA256:box", tools={},
        )  # fmt: skip
        world.program().book.record(LEASE, ready)

    cleaning.boundaries.on("try lock", publish)

    assert passed(cleaning) == {LEASE: NOTHING}
    assert (world.types(), len(world.boxes())) == (ACQUIRED, 1)


@pytest.mark.holds("CLN-16", "REL-09", "W-33", "PEER-27", "PEER-36")
def test_a_box_that_is_renewed_between_the_plan_and_the_delete_is_left_alone(world: World, leased: Program) -> None:
    world.clock.sleep(TTL_S)
    cleaning = world.program()
    longer = e.Touched(cause="touch", ttl_ms=10 * 90 * MINUTE_MS)
    cleaning.boundaries.on("call get", lambda: world.program().book.record(LEASE, longer))

    assert passed(cleaning) == {LEASE: Told("delete", "failed", "conflict")}
    assert (world.types(), len(world.boxes())) == ([*ACQUIRED, "touched"], 1)


@pytest.mark.holds("CLN-17", "CLN-18", "RBK-04")
def test_a_deletion_that_began_is_finished_whatever_keep_and_locks_say(world: World, program: Program) -> None:
    program.acquire(keep=world.keep(days=3))
    dies_at(program, "committed delete-requested", program.stop)
    world.clock.sleep(30 * 60)
    somebody = world.lease_lock(LEASE)
    somebody.acquire()
    try:
        assert passed(world.program()) == {LEASE: ENDED}
    finally:
        somebody.release()
    assert (world.calls("delete"), world.boxes()) == (["delete"], [])


@pytest.mark.holds("W-37", "PEER-42", "PEER-43")
def test_a_hung_acquirer_is_fenced_after_its_deadline_and_its_late_word_is_refused(
    world: World, program: Program
) -> None:
    dies_at(program, "committed instance-id-bound", program.acquire)
    hung = world.lease_lock(LEASE)
    hung.acquire()
    assert passed(world.program()) == {LEASE: NOTHING}
    world.clock.sleep(17 * 60 + 1)

    assert passed(world.program()) == {LEASE: Told("roll-back", "rolled-back")}
    assert world.payloads("acquire-fenced")[0]["evidence"] == "deadline-passed"
    hung.release()


@pytest.mark.holds("DEL-03", "W-02", "PEER-32", "PEER-11")
def test_an_accepted_delete_whose_box_stays_is_sent_again(world: World, leased: Program) -> None:
    world.fault("delete", IgnoreDelete())
    world.clock.sleep(TTL_S)

    assert passed(world.program()) == {LEASE: Told("delete", "failed", "provider")}
    assert (world.types()[-1], len(world.boxes())) == ("delete-accepted", 1)
    world.clock.sleep(60)
    assert passed(world.program()) == {LEASE: ENDED}
    assert world.calls("delete") == ["delete", "delete"]


@pytest.mark.holds("CLN-10", "W-04", "W-30", "PEER-33")
def test_a_lease_that_fails_keeps_no_other_from_being_ended(world: World, program: Program) -> None:
    program.acquire(OTHER, slug="other-box")
    program.acquire()
    world.clock.sleep(TTL_S)
    first_id = world.claim().instance_id
    world.emulator.add_fault(Fault(call="get", effects=(SERVER_ERROR,), count=None, instance_id=first_id))

    assert passed(world.program()) == {LEASE: Told("delete", "failed", "provider"), OTHER: ENDED}
    assert (world.claim().is_open, world.claim(OTHER).outcome) == (1, "completed")


@pytest.mark.holds("CLN-11")
def test_an_interrupt_begins_no_other_lease(world: World, program: Program) -> None:
    program.acquire(OTHER, slug="other-box")
    program.acquire()
    world.clock.sleep(TTL_S)
    cleaning = world.program()
    cleaning.boundaries.fail("try lock", Interrupted(2))

    with pytest.raises(Interrupted):
        done_by(cleaning)
    assert (world.calls("delete"), len(world.boxes())) == ([], 2)


@pytest.mark.holds("CLN-21", "W-19", "W-38", "CRD-03")
def test_a_lease_of_another_account_is_skipped_and_ours_is_ended(world: World, program: Program) -> None:
    world.emulator.change(lambda state, _now: state.add_account("theirs", "their:key"))
    world.program(key="their:key").acquire(OTHER, slug="other-box")
    program.acquire()
    world.clock.sleep(TTL_S)

    assert passed(world.program()) == {LEASE: ENDED, OTHER: Told("delete", "failed", "credentials")}
    assert passed(world.program(key="their:key")) == {OTHER: ENDED}


@pytest.mark.holds("CLN-22", "DEL-13")
def test_without_a_key_what_needs_no_call_is_done_and_the_rest_is_kept(world: World, program: Program) -> None:
    program.acquire(OTHER, slug="other-box")
    program.acquire()
    dies_at(program, "committed deletion-confirmed", program.stop)
    world.clock.sleep(TTL_S)
    calls = world.calls()
    keyless = world.program()
    keyless.services = replace(keyless.services, provider=AbsentProvider())

    assert passed(keyless) == {LEASE: Told("finish", "completed"), OTHER: Told("delete", "failed", "credentials")}
    assert (world.calls(), world.claim(OTHER).is_open) == (calls, 1)


@pytest.mark.holds("CLN-23", "PEER-30")
def test_a_box_that_is_not_shown_inside_its_time_is_left_alone(world: World, leased: Program) -> None:
    box_id = world.claim().instance_id or ""
    world.emulator.change(lambda state, now: state.remove_instance(box_id, now))

    assert passed(world.program()) == {LEASE: NOTHING}
    assert world.types() == ACQUIRED


@pytest.mark.holds("CLN-24", "DEL-11", "PEER-37", "PEER-38")
def test_a_box_that_is_gone_when_it_is_due_is_proven_gone_without_a_delete(world: World, leased: Program) -> None:
    box_id = world.claim().instance_id or ""
    world.emulator.change(lambda state, now: state.remove_instance(box_id, now))
    world.clock.sleep(TTL_S)

    assert passed(world.program()) == {LEASE: ENDED}
    assert world.calls("delete") == []


@pytest.mark.holds("CLN-24", "DEL-14", "PEER-33")
def test_a_provider_that_contradicts_itself_proves_no_absence(world: World, leased: Program) -> None:
    world.clock.sleep(TTL_S)
    world.fault("get", Hide(), count=None)

    assert passed(world.program()) == {LEASE: Told("delete", "failed", "provider")}
    assert (world.claim().phase, len(world.boxes())) == ("deleting", 1)


def test_a_pass_over_named_leases_looks_at_no_other(world: World, program: Program) -> None:
    program.acquire(OTHER, slug="other-box")
    program.acquire()
    world.clock.sleep(TTL_S)

    assert passed(world.program(), only=[OTHER]) == {OTHER: ENDED}
    assert world.claim().is_open == 1


@pytest.mark.holds("LST-11", "PEER-34")
def test_a_box_that_two_leases_claim_is_deleted_for_neither_and_the_rest_goes_on(
    world: World, program: Program
) -> None:
    program.acquire(OTHER, slug="other-box")
    box_id = world.claim(OTHER).instance_id or ""
    dies_at(program, "committed create-sent", program.acquire)
    claimed = e.InstanceIdBound(instance_id=box_id, evidence="spool", acquirer="x", attempt=1, instance=None)
    with world.open_ledger() as register, register.transaction() as transaction:
        transaction.append(transaction.load(LEASE), [claimed], at=world.clock.now(), actor="somebody")
    world.clock.sleep(TTL_S)

    assert passed(world.program()) == {LEASE: NOTHING, OTHER: ENDED}
    assert (world.claim().contradiction or "").startswith(f"leases {OTHER} and {LEASE} both claim box")
    assert world.claim().is_open == 1


def test_a_lease_whose_deletion_cannot_be_confirmed_says_so(world: World, leased: Program) -> None:
    world.fault("delete", IgnoreDelete(), count=None)

    with pytest.raises(ProviderFailure, match="could not confirm that instance"):
        delete_box(world.program().services, LEASE, reason="stop")
