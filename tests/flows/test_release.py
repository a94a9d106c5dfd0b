"""Giving a ready box back: what is announced, what is sent, what counts as gone, and what stays open."""

import signal
from datetime import timedelta

import pytest
from msgspec.structs import replace

from ledger.domain import events as e
from ledger.domain.claim import attention
from ledger.domain.errors import Conflict, CredentialsFailure, Interrupted, NotFound, ProviderFailure, UsageFailure
from ledger.domain.ports import CallFailed, KeyRejected
from ledger.domain.refusals import Refused
from ledger.flows.release import delete_box, finish
from providers.absent import AbsentProvider
from providers.emulator.faults import DropAfter, DropBefore, Effect, Hide, IgnoreDelete, Linger, Rewrite, Status
from tests.flows.world import ACQUIRED, GONE, LEASE, OTHER, Program, World

SERVER_ERROR = Status(500, error_type="server_error", message="try later")
NOT_FOUND = Status(404, error_type="not_found", message="unknown")
COMPLETED = [*ACQUIRED, *GONE]


@pytest.fixture
def leased(world: World, program: Program) -> Program:
    """The program that has leased the box; its own calls are no longer of interest."""
    program.acquire()
    return program


@pytest.mark.holds("REL-02", "REL-08", "DEL-16", "W-40", "PEER-28", "PEER-36")
def test_stop_deletes_once_proves_the_absence_and_releases(world: World, leased: Program) -> None:
    released = world.program().stop()

    assert world.types() == COMPLETED
    assert world.calls()[5:] == ["get", "delete", "get", "get", "list", "get"]
    assert [seen["kind"] for seen in world.payloads("deletion-confirmed")[0]["evidence"]] == [
        "get-404",
        "inventory",
        "get-404",
    ]
    assert (released.outcome, world.boxes(), world.key_folders()) == ("completed", [], [])
    assert (world.reader.find("gpu-box"), world.claim().is_open) == ([], 0)


@pytest.mark.holds("DEL-16")
def test_a_delete_arrives_after_its_announcement_is_durable(world: World, leased: Program) -> None:
    """Rule 1."""
    seen: list[str] = []
    world.when("DELETE", lambda: seen.append(world.types()[-1]))

    leased.stop()

    assert seen == ["delete-requested"]


@pytest.mark.holds("REL-01", "PEER-35")
def test_every_name_of_a_lease_finds_it_and_a_foreign_box_is_none(world: World, leased: Program) -> None:
    stranger = world.emulator.change(lambda state, now: state.add_instance("emulated-team", now))

    box_id = world.claim().instance_id or ""
    found = {name: [claim.lease_id for claim in world.reader.find(name)] for name in (LEASE, "gpu-box", box_id)}
    leased.stop()

    assert found == {LEASE: [LEASE], "gpu-box": [LEASE], box_id: [LEASE]}
    assert world.reader.find(stranger) == []
    assert [box.id for box in world.boxes()] == [stranger]


@pytest.mark.holds("REL-03")
def test_a_lease_of_another_endpoint_is_out_of_reach(world: World, leased: Program) -> None:
    with pytest.raises(UsageFailure) as failure:
        world.program(api_url="http://127.0.0.1:9/v1").stop()

    assert failure.value.message.startswith("lease gpu-box was made at ")
    assert (failure.value.exit_code, world.types(), world.calls("delete")) == (2, ACQUIRED, [])


@pytest.mark.holds("REL-04", "PEER-35")
def test_nothing_is_deleted_for_a_lease_that_is_not_in_the_ledger(world: World, program: Program) -> None:
    with pytest.raises(NotFound):
        program.stop(OTHER)
    with pytest.raises(NotFound):
        delete_box(program.services, OTHER, reason="stop")

    assert (world.calls(), world.types(OTHER)) == ([], [])


@pytest.mark.holds("CRD-03")
def test_another_key_may_not_give_it_back(world: World, leased: Program) -> None:
    """What that key does not see proves nothing."""
    with pytest.raises(CredentialsFailure) as failure:
        world.program(key="another:key-of-somebody-else").stop()

    assert failure.value.message == (
        "lease gpu-box was made with another API key, and this one is not proven to be of its account"
    )
    assert (failure.value.exit_code, world.types(), world.calls("delete")) == (3, ACQUIRED, [])


@pytest.mark.holds("REL-13")
def test_stop_without_a_key_is_refused_and_changes_nothing(world: World, leased: Program) -> None:
    program = world.program()
    program.services = replace(program.services, provider=AbsentProvider(), credential_binding="")

    with pytest.raises(CredentialsFailure) as failure:
        program.stop()

    assert (failure.value.exit_code, world.types(), world.key_folders()) == (3, ACQUIRED, [LEASE])


def test_a_released_lease_is_stopped_again_without_any_call(world: World, leased: Program) -> None:
    """Stop on a released lease by id."""
    leased.stop()
    calls = world.calls()

    assert (world.program().stop().outcome, world.calls(), world.types()) == ("completed", calls, COMPLETED)


@pytest.mark.holds("REL-07", "REL-08", "PEER-07", "PEER-30")
@pytest.mark.parametrize("effect", [SERVER_ERROR, Rewrite(put={"id": "inst_of_somebody_else"})])
def test_an_unreadable_state_blocks_the_delete(world: World, leased: Program, effect: Effect) -> None:
    """Read again until the limit, then left, with the aim recorded and the command to type."""
    world.fault("get", effect, count=None)

    with pytest.raises(CallFailed) as failure:
        leased.stop()

    assert failure.value.message.endswith(
        f"; lease gpu-box stays open and its box {world.boxes()[0].id} may still bill"
    )
    assert (failure.value.next_step, failure.value.lease_id) == ("rentroll stop gpu-box", LEASE)
    assert world.types() == [*ACQUIRED, "stop-requested"]
    assert (world.calls("delete"), world.key_folders()) == ([], [LEASE])
    assert attention(world.claim(), world.clock.now()) == (
        "it was to be given back (stop) and still bills: run `rentroll stop gpu-box`"
    )
    assert world.clock.monotonic_s() <= 60 + 3


@pytest.mark.holds("REL-09", "W-33", "PEER-36")
def test_a_sign_of_life_between_the_read_and_the_delete_does_not_abort_it(world: World, leased: Program) -> None:
    """The decision is made on the newest state."""
    rival = world.program()
    world.clock.sleep(1)
    leased.boundaries.on("call get", lambda: _touch(rival))

    leased.stop()

    assert world.types() == [*ACQUIRED, "touched", *GONE]


@pytest.mark.holds("REL-10")
def test_a_lock_that_is_held_ends_stop_after_ten_seconds_naming_the_holder(world: World, leased: Program) -> None:
    """Exit 11, zero DELETEs."""
    held = world.lease_lock(LEASE)
    held.acquire()

    with pytest.raises(Conflict) as failure:
        world.program().stop()
    held.release()

    assert f"lease {LEASE} is being worked on by pid " in failure.value.message
    assert (failure.value.exit_code, world.types(), world.calls("delete")) == (11, ACQUIRED, [])
    assert world.clock.slept[-20:] == [0.5] * 20


@pytest.mark.holds("KEEP-08", "PEER-28")
def test_stop_means_delete_for_a_kept_lease_too(world: World, program: Program) -> None:
    program.acquire(keep=world.keep(hours=2))

    assert (program.stop().outcome, world.boxes()) == ("completed", [])


@pytest.mark.holds("DEL-01", "PEER-11")
def test_an_accepted_delete_is_not_a_deletion(world: World, leased: Program) -> None:
    """The lease stays open with what was accepted, its id and its key."""
    world.fault("delete", Linger(300))

    with pytest.raises(ProviderFailure) as failure:
        leased.stop()

    box_id = world.claim().instance_id
    assert failure.value.message == f"could not confirm that instance {box_id} of lease gpu-box is gone"
    assert (failure.value.next_step, failure.value.lease_id) == ("rentroll stop gpu-box", LEASE)
    assert world.types() == [*ACQUIRED, "delete-requested", "delete-accepted"]
    assert (world.claim().phase, world.key_folders(), world.calls("delete")) == ("deleting", [LEASE], ["delete"])


@pytest.mark.holds("DEL-01")
def test_the_confirmation_ends_at_its_limit(world: World, leased: Program) -> None:
    """`--timeout` of stop; the last sleep is not longer than what is left."""
    world.fault("delete", Linger(300))
    before_s = world.clock.monotonic_s()

    with pytest.raises(ProviderFailure):
        leased.stop(timeout_s=10.0)

    assert world.clock.monotonic_s() - before_s == 10.0


@pytest.mark.holds("DEL-02")
def test_a_pending_deletion_locks_out_signs_of_life(world: World, leased: Program) -> None:
    world.fault("delete", Linger(300))
    with pytest.raises(ProviderFailure):
        leased.stop()

    with pytest.raises(Refused) as refused:
        _touch(leased)

    assert (refused.value.name, refused.value.exit_code) == ("deleting", 4)


@pytest.mark.holds("DEL-03")
@pytest.mark.parametrize("waits_s", [0.0, 30.0])
def test_a_repeated_stop_does_not_repeat_an_accepted_delete_inside_its_settle_period(
    world: World, leased: Program, waits_s: float
) -> None:
    world.fault("delete", Linger(3_000))
    with pytest.raises(ProviderFailure):
        leased.stop(timeout_s=10.0)
    world.clock.sleep(waits_s)

    with pytest.raises(ProviderFailure):
        world.program().stop(timeout_s=15.0)

    assert world.calls("delete") == ["delete"]


@pytest.mark.holds("W-02")
def test_an_accepted_delete_whose_box_stays_is_sent_again_after_a_minute(world: World, leased: Program) -> None:
    world.fault("delete", IgnoreDelete())

    released = leased.stop(timeout_s=120.0)

    sent = [entry.at for entry in world.emulator.journal() if entry.call == "delete"]
    assert (released.outcome, len(sent)) == ("completed", 2)
    assert timedelta(seconds=60) <= sent[1] - sent[0] <= timedelta(seconds=66)
    assert world.types() == [*ACQUIRED, *["delete-requested", "delete-accepted"] * 2, *GONE[2:]]


@pytest.mark.holds("DEL-04")
def test_a_pending_deletion_is_finished_by_the_next_stop(world: World, leased: Program) -> None:
    """Still one DELETE in all."""
    world.fault("delete", Linger(50))
    with pytest.raises(ProviderFailure):
        leased.stop(timeout_s=10.0)
    world.clock.sleep(60)

    released = world.program().stop()

    assert (released.outcome, world.calls("delete"), world.key_folders()) == ("completed", ["delete"], [])


@pytest.mark.holds("DEL-05")
def test_a_delete_that_races_with_another_deleter_succeeds(world: World, leased: Program) -> None:
    box = world.boxes()[0].id
    leased.boundaries.on(
        "call delete", lambda: world.emulator.change(lambda state, now: state.remove_instance(box, now))
    )

    assert (leased.stop().outcome, world.calls("delete")) == ("completed", ["delete"])


@pytest.mark.holds("DEL-06")
def test_a_delete_that_is_answered_404_while_the_box_lives_is_sent_again_ever_more_slowly(
    world: World, leased: Program
) -> None:
    """Nothing was accepted; the next stop deletes it."""
    world.fault("delete", NOT_FOUND, count=None)
    with pytest.raises(ProviderFailure):
        leased.stop()
    accepted = world.lease().delete_result
    sent = [entry.at for entry in world.emulator.journal() if entry.call == "delete"]
    world.emulator.change(lambda state, _now: state.script.clear())

    released = world.program().stop()

    assert (accepted, released.outcome) == ("deferred", "completed")
    assert [(at - sent[0]).total_seconds() for at in sent] == [0, 2, 6, 14, 29, 44, 59]


@pytest.mark.holds("RBK-12", "RBK-13", "DEL-07", "DEL-08", "W-40", "PEER-30")
def test_contradictory_absence_is_not_believed(world: World, leased: Program) -> None:
    """GET and DELETE say 404, the inventory lists it."""
    world.fault("delete", NOT_FOUND, count=None)
    world.fault("get", Hide(), count=None)

    with pytest.raises(ProviderFailure) as failure:
        leased.stop()
    with pytest.raises(ProviderFailure):
        world.program().stop()

    assert "could not confirm" in failure.value.message
    assert (world.claim().phase, len(world.boxes())) == ("deleting", 1)
    assert "deletion-confirmed" not in world.types()


@pytest.mark.holds("RBK-12", "DEL-14", "W-40", "PEER-33")
@pytest.mark.parametrize("seen_by", ["get", "list"])
def test_absence_needs_get_and_inventory_alike(world: World, leased: Program, seen_by: str) -> None:
    """A glitch of one of them proves nothing."""
    world.fault("delete", IgnoreDelete(), count=None)
    world.fault("get" if seen_by == "list" else "list", Hide(), count=None)

    with pytest.raises(ProviderFailure):
        leased.stop()

    assert (world.claim().phase, len(world.boxes())) == ("deleting", 1)


@pytest.mark.holds("DEL-09")
def test_a_delete_whose_answer_was_lost_is_not_repeated_where_the_box_is_gone(world: World, leased: Program) -> None:
    """The same stop goes on to the proof."""
    world.fault("delete", DropAfter())

    released = leased.stop()

    assert (released.outcome, world.calls("delete")) == ("completed", ["delete"])
    assert world.types() == [*ACQUIRED, "delete-requested", "delete-deferred", *GONE[2:]]


@pytest.mark.holds("DEL-10", "PEER-32")
@pytest.mark.parametrize("effect", [SERVER_ERROR, DropBefore()])
def test_a_failed_delete_is_sent_again(world: World, leased: Program, effect: Effect) -> None:
    world.fault("delete", effect)

    released = leased.stop()

    assert (released.outcome, world.calls("delete")) == ("completed", ["delete"] * 2)
    assert world.types() == [*ACQUIRED, "delete-requested", "delete-deferred", *GONE]


@pytest.mark.holds("DEL-10", "W-24", "PEER-31")
def test_a_delete_waits_as_long_as_the_provider_asks(world: World, leased: Program) -> None:
    """Retry-After is recorded and kept."""
    world.fault("delete", Status(429, error_type="rate_limited", retry_after_s=20))

    leased.stop()

    first, second = (entry.at for entry in world.emulator.journal() if entry.call == "delete")
    assert (second - first).total_seconds() == 20
    deferred = world.payloads("delete-deferred")[0]
    assert (deferred["status"], deferred["retry_at"]) == (429, "2026-08-21T12:00:23.000000Z")


@pytest.mark.holds("DEL-10", "PEER-08", "PEER-31")
def test_a_rejected_delete_ends_at_once_and_stays_open(world: World, leased: Program) -> None:
    world.fault("delete", Status(403, error_type="authorization_error", message="revoked"))

    with pytest.raises(KeyRejected) as failure:
        leased.stop()

    assert (failure.value.exit_code, failure.value.next_step) == (3, "rentroll stop gpu-box")
    assert world.types() == [*ACQUIRED, "delete-requested", "delete-deferred"]
    assert (len(world.boxes()), world.key_folders()) == (1, [LEASE])


@pytest.mark.holds("REL-11", "DEL-11", "PEER-37", "PEER-38")
def test_a_box_that_was_shown_and_is_gone_needs_no_delete(world: World, leased: Program) -> None:
    box = world.boxes()[0].id
    world.emulator.change(lambda state, now: state.remove_instance(box, now))

    assert (leased.stop().outcome, world.calls("delete")) == ("completed", [])


@pytest.mark.holds("DEL-12", "DEL-13", "LCK-09")
def test_a_key_that_cannot_be_removed_keeps_the_lease_open(world: World, leased: Program) -> None:
    """The second stop needs neither provider nor credential."""
    leased.boundaries.fail("destroy key", UsageFailure("the key could not be removed"))

    with pytest.raises(UsageFailure):
        leased.stop()
    first = (world.types(), world.key_folders(), world.calls("delete"))
    calls = world.calls()
    released = world.program(key="rotated:key", api_url="http://127.0.0.1:9/v1").stop()

    assert first == ([*ACQUIRED, *GONE[:3]], [LEASE], ["delete"])
    assert (released.outcome, world.calls(), world.key_folders()) == ("completed", calls, [])


@pytest.mark.holds("DEL-14", "PEER-30", "PEER-33")
def test_failing_confirmation_reads_are_not_absence(world: World, leased: Program) -> None:
    """The stop goes on until it can read."""
    leased.boundaries.on("committed delete-accepted", lambda: world.fault("list", SERVER_ERROR, count=5))

    assert (leased.stop().outcome, world.calls("delete")) == ("completed", ["delete"])


@pytest.mark.holds("DEL-15")
def test_a_signal_after_the_delete_lets_the_confirmation_finish(world: World, signals: Program) -> None:
    signals.acquire()
    signals.boundaries.on("committed delete-accepted", lambda: signal.raise_signal(signal.SIGINT))

    with pytest.raises(Interrupted) as interrupted:
        signals.stop()

    assert (interrupted.value.signal_number, world.types(), world.key_folders()) == (signal.SIGINT, COMPLETED, [])


@pytest.mark.holds("DEL-16")
@pytest.mark.parametrize(("boundary", "deletes"), [("append delete-requested", 0), ("committed delete-requested", 0)])
def test_a_delete_whose_announcement_failed_is_not_sent(
    world: World, leased: Program, boundary: str, deletes: int
) -> None:
    """Also where it became visible; the next stop announces and sends its own."""
    leased.boundaries.fail(boundary, UsageFailure("disk full"))

    with pytest.raises(UsageFailure):
        leased.stop()
    sent = len(world.calls("delete"))
    released = world.program().stop()

    assert (sent, released.outcome, world.calls("delete")) == (deletes, "completed", ["delete"])


@pytest.mark.holds("LCK-11")
def test_nothing_is_released_while_a_box_of_it_may_exist(world: World, leased: Program) -> None:
    """Rule 4."""
    with pytest.raises(UsageFailure) as failure:
        finish(leased.services, LEASE)

    assert failure.value.message == "lease gpu-box cannot be released: a box of it may exist"
    assert (world.types(), world.key_folders()) == (ACQUIRED, [LEASE])


def _touch(program: Program) -> None:
    program.book.record(LEASE, e.Touched(cause="run"))


@pytest.mark.holds("REL-05", "PEER-35")
def test_only_the_bound_id_may_be_deleted(world: World, leased: Program) -> None:
    """Exit 2, nothing recorded."""
    stranger = e.DeleteRequested(instance_id="inst_of_somebody_else", attempt=1, reason="stop", shown=True)

    with pytest.raises(Refused) as refused:
        leased.book.record(LEASE, stranger)

    assert (refused.value.name, refused.value.exit_code, world.types()) == ("bound-to-another", 2, ACQUIRED)
