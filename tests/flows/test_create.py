"""The create: what settles it, what is repeated, and what is never sent."""

import json
import socket
from datetime import timedelta

import pytest

from ledger.domain.errors import InDoubt, ProviderFailure, RentrollError, UsageFailure
from ledger.domain.ports import CallFailed, KeyRejected
from ledger.flows.create import IdNotRecorded, NotAsAsked
from providers.emulator.faults import DateSkew, Defer, Delay, DropAfter, DropBefore, Effect, Rewrite, Status
from providers.emulator.messages import Call
from providers.fal.client import FalClient
from tests.flows.world import ACQUIRED, GONE, LEASE, OTHER, STARTED_AT, Program, World

LOST = ["create-sent", "create-in-doubt"]
SERVER_ERROR = Status(500, error_type="server_error", message="try later")
RATE_LIMITED = Status(429, error_type="rate_limited", message="no capacity", retry_after_s=20)
ROLLED_BACK = ["create-requested", "create-sent", "instance-id-bound", "rollback", *GONE]


def lose_lock(program: Program) -> None:
    """Somebody frees the lock of the lease that is being acquired."""
    [lock] = program.locks
    lock.die()


@pytest.mark.holds("CRE-04")
def test_an_intent_that_cannot_be_written_sends_nothing(world: World, program: Program) -> None:
    program.boundaries.fail("append create-requested", UsageFailure("the ledger cannot be written: disk full"))

    with pytest.raises(UsageFailure) as failure:
        program.acquire()

    assert failure.value.message == "the ledger cannot be written: disk full; nothing was made"
    assert (world.types(), world.posts(), world.key_folders()) == ([], [], [])


@pytest.mark.holds("CRE-05")
def test_an_intent_that_became_visible_but_failed_is_closed_and_not_sent(world: World, program: Program) -> None:
    program.boundaries.fail("committed create-requested", UsageFailure("the ledger cannot be written"))

    with pytest.raises(UsageFailure) as failure:
        program.acquire()

    assert failure.value.message == (
        "the ledger cannot be written; nothing was made, lease gpu-box is closed as cancelled"
    )
    assert (world.types(), world.posts(), world.key_folders()) == (["create-requested", "released"], [], [])


@pytest.mark.holds("CRE-06")
def test_a_key_that_cannot_be_made_durable_ends_it_before_anything(world: World, program: Program) -> None:
    world.keys.root.mkdir(parents=True)
    (world.keys.root / LEASE).write_text("in the way")

    with pytest.raises(UsageFailure) as failure:
        program.acquire()

    assert "could not be written durably" in failure.value.message
    assert (world.types(), world.calls()) == ([], [])


@pytest.mark.holds("CRE-04")
def test_an_unreadable_ledger_at_the_intent_loses_neither_the_cause_nor_the_key(world: World, program: Program) -> None:
    """What cannot be read back may have been written, so the key stays."""
    program.boundaries.fail("append create-requested", UsageFailure("disk full"))
    program.boundaries.fail("load", UsageFailure("the disk is gone"), times=2)

    with pytest.raises(UsageFailure) as failure:
        program.acquire()

    assert failure.value.message == (
        "disk full; then: the disk is gone; then: the disk is gone; what was made is not known"
    )
    assert (world.posts(), world.key_folders()) == ([], [LEASE])


def test_a_clock_that_disagrees_with_fals_stops_before_anything_is_made(world: World, program: Program) -> None:
    """The pre-flight compares fal's Date with ours."""
    world.fault("list", DateSkew(-61))

    with pytest.raises(ProviderFailure) as failure:
        program.acquire()

    assert failure.value.message == "this machine's clock and the provider's differ by 61 s; nothing was made"
    assert (world.types(), world.posts(), world.key_folders()) == ([], [], [])


@pytest.mark.holds("CRE-08", "CRE-09", "PEER-02", "PEER-15")
@pytest.mark.parametrize(
    ("effect", "waited_s"), [(DropAfter(), 90), (DropBefore(), 90), (SERVER_ERROR, 1), (Status(200, handled=True), 1)]
)
def test_a_lost_answer_is_replayed_with_the_same_key_and_body(
    world: World, program: Program, effect: Effect, waited_s: int
) -> None:
    """One that was not answered may still run for 90 s; one that was is repeated at once."""
    world.fault("create", effect)

    lease = program.acquire()

    assert world.types() == ["create-requested", *LOST, *ACQUIRED[1:]]
    first, second = world.posts()
    assert first == second
    assert first[0] == LEASE
    sent = [entry.at for entry in world.emulator.journal() if entry.call == "create"]
    assert (sent[1] - sent[0]).total_seconds() == waited_s
    assert [box.id for box in world.boxes()] == [lease.instance_id]


@pytest.mark.holds("CRE-10")
def test_a_first_refusal_is_final_and_frees_the_slug(world: World, program: Program) -> None:
    world.fault("create", RATE_LIMITED)

    with pytest.raises(CallFailed) as failure:
        program.acquire()

    assert failure.value.message == (
        "fal API rate_limited: no capacity; nothing was made, lease gpu-box is closed as rejected"
    )
    assert (failure.value.exit_code, failure.value.retry_after_s, failure.value.next_step) == (5, 20, None)
    assert world.types() == ["create-requested", "create-sent", "create-rejected", "released"]
    assert (len(world.posts()), world.key_folders(), world.claim().outcome) == (1, [], "rejected")
    assert program.acquire(OTHER).slug == "gpu-box"


@pytest.mark.holds("CRE-11")
def test_a_refusal_whose_key_stays_is_closed_by_stop_without_the_provider(world: World, program: Program) -> None:
    world.fault("create", Status(403, error_type="authorization_error", message="no compute"))
    program.boundaries.fail("destroy key", UsageFailure("the key could not be removed"))

    with pytest.raises(KeyRejected) as failure:
        program.acquire()
    calls = world.calls()
    stopped = world.program(key="another:key").stop()

    assert failure.value.message == (
        "fal API authorization_error: no compute; then: the key could not be removed; "
        "nothing was made, but lease gpu-box stays open"
    )
    assert failure.value.next_step == "rentroll stop gpu-box"
    assert (stopped.outcome, world.calls(), world.key_folders()) == ("rejected", calls, [])


@pytest.mark.holds("CRE-12", "PEER-14")
def test_a_refused_replay_proves_nothing_about_the_first_attempt(world: World, program: Program) -> None:
    world.fault("create", DropAfter())
    world.fault("create", Status(401, error_type="authorization_error", message="key revoked"))

    with pytest.raises(InDoubt) as failure:
        program.acquire()

    assert failure.value.message == (
        "fal API authorization_error: key revoked; "
        "whether a box was made for lease gpu-box is unknown, and the lease stays open"
    )
    assert (failure.value.exit_code, failure.value.next_step) == (75, "rentroll stop gpu-box")
    assert world.types() == ["create-requested", *LOST, *LOST]
    assert (world.claim().phase, world.claim().instance_id, world.key_folders()) == ("in-doubt", None, [LEASE])


@pytest.mark.holds("CRE-13", "CRE-17", "W-11")
def test_a_create_that_is_never_answered_stays_open_with_the_command_to_type(world: World, program: Program) -> None:
    """Replays go on inside the window, and none leaves after it."""
    world.fault("create", DropAfter(), count=None)

    with pytest.raises(InDoubt) as failure:
        program.acquire()

    assert failure.value.message.startswith("the create of lease gpu-box had no reliable answer: ")
    assert (failure.value.lease_id, failure.value.next_step) == (LEASE, "rentroll stop gpu-box")
    sent = [entry.at for entry in world.emulator.journal() if entry.call == "create"]
    assert [(at - sent[0]).total_seconds() for at in sent] == [0, 90, 180, 270, 360, 450]
    assert world.types() == ["create-requested", *LOST * 6]
    assert [world.claim().phase, *{key for key, _body in world.posts()}] == ["in-doubt", LEASE]


def test_the_time_limit_ends_the_replays_without_sleeping_past_it(world: World, program: Program) -> None:
    """`--timeout` bounds the acquisition, in doubt is exit 75."""
    world.fault("create", SERVER_ERROR, count=None)

    with pytest.raises(InDoubt):
        program.acquire(timeout_ms=10_000)

    assert (len(world.posts()), world.clock.monotonic_s()) == (4, 7.0)


@pytest.mark.holds("CRE-18")
def test_no_post_outlives_its_limit_its_window_or_its_acquisition(world: World, program: Program) -> None:
    """Every POST may take 30 s, less near the end of the window."""
    program.boundaries.on("call create", lambda: world.clock.suspend(525))
    world.fault("create", SERVER_ERROR)

    program.acquire()

    assert program.provider.limits_s["create"] == [30.0, 14.0]


@pytest.mark.holds("CRE-18")
def test_a_post_may_not_take_longer_than_the_time_for_leasing(world: World, program: Program) -> None:
    """`--timeout` bounds it too."""
    program.acquire(timeout_ms=5_000)

    assert program.provider.limits_s["create"] == [5.0]


@pytest.mark.holds("CRE-17", "CRE-19")
def test_a_machine_that_slept_through_the_window_never_posts_again(world: World, program: Program) -> None:
    """The age counts from the first attempt, through the sleep of the machine."""
    program.boundaries.on("committed create-in-doubt", lambda: world.clock.suspend(540))
    world.fault("create", SERVER_ERROR)

    with pytest.raises(InDoubt):
        program.acquire()

    assert (len(world.posts()), world.types()) == (1, ["create-requested", *LOST])


@pytest.mark.holds("CRE-19", "W-15")
@pytest.mark.parametrize("back_s", [-3600, -1])
def test_a_clock_that_was_set_back_allows_no_replay(world: World, program: Program, back_s: int) -> None:
    program.boundaries.on("committed create-in-doubt", lambda: world.clock.set_wall(back_s - 2))
    world.fault("create", SERVER_ERROR)

    with pytest.raises(InDoubt) as failure:
        program.acquire()

    assert "the nine minutes in which a create may be replayed are over" in failure.value.message
    assert (len(world.posts()), world.claim().phase) == (1, "in-doubt")


@pytest.mark.holds("CRE-26")
@pytest.mark.parametrize("slept_s", [18 * 60, 540])
def test_a_process_that_was_suspended_between_its_announcement_and_the_post_sends_nothing(
    world: World, program: Program, slept_s: int
) -> None:
    """Just before the first byte, deadline and window are looked at again."""
    program.boundaries.on("committed create-sent", lambda: world.clock.suspend(slept_s))

    with pytest.raises(CallFailed) as failure:
        program.acquire()

    assert failure.value.message == (
        "the create was announced, but its time was over before it was sent; "
        "nothing was made, lease gpu-box is closed as cancelled"
    )
    assert (world.posts(), world.types()) == ([], ["create-requested", *LOST, "released"])


def test_a_create_whose_lock_was_lost_is_not_sent(world: World, program: Program) -> None:
    """Just before the first byte the lease's lock is looked at too."""
    program.boundaries.on("committed create-sent", lambda: lose_lock(program))

    with pytest.raises(CallFailed) as failure:
        program.acquire()

    assert failure.value.message == (
        "the create was announced, but its lease's lock was lost before it was sent; "
        "nothing was made, lease gpu-box is closed as cancelled"
    )
    assert (world.posts(), world.types()) == ([], ["create-requested", *LOST, "released"])


def test_a_replay_whose_lock_was_lost_is_not_sent(world: World, program: Program) -> None:
    """Nor announced again: whoever has the lock now goes on."""
    world.fault("create", SERVER_ERROR)
    program.boundaries.on("committed create-sent", lambda: None)
    program.boundaries.on("committed create-sent", lambda: lose_lock(program))

    with pytest.raises(InDoubt):
        program.acquire()

    assert (len(world.posts()), world.types()) == (1, ["create-requested", *LOST, *LOST])


def test_a_pre_flight_that_used_up_the_time_sends_nothing(world: World, program: Program) -> None:
    """`--timeout` bounds the whole acquisition, the pre-flight included."""
    program.boundaries.on("call list", lambda: world.clock.sleep(30))

    with pytest.raises(ProviderFailure) as failure:
        program.acquire(timeout_ms=30_000)

    assert failure.value.message == (
        "the time for leasing gpu-box was over before its create was sent; "
        "nothing was made, lease gpu-box is closed as cancelled"
    )
    assert (world.posts(), world.types()) == ([], ["create-requested", "released"])


@pytest.mark.parametrize(
    ("hangs", "timeout_ms", "limits_s"),
    [
        pytest.param("list", 20_000, {"list": [20.0], "billing": []}, id="the inventory"),
        pytest.param("list", 90_000, {"list": [30.0], "billing": []}, id="the inventory, at its own limit"),
        pytest.param("billing", 20_000, {"list": [20.0], "billing": [20.0]}, id="the account"),
    ],
)
def test_a_pre_flight_that_hangs_does_not_outlive_the_time_for_leasing(
    world: World, program: Program, hangs: Call, timeout_ms: int, limits_s: dict[str, list[float]]
) -> None:
    """Nor a call's own 30 s."""
    world.fault(hangs, Delay(1_000_000))

    with pytest.raises(ProviderFailure):
        program.acquire(timeout_ms=timeout_ms)

    assert {name: program.provider.limits_s[name] for name in limits_s} == limits_s
    assert (world.clock.monotonic_s(), world.posts()) == (min(timeout_ms / 1000, 30.0), [])


@pytest.mark.holds("W-12")
def test_a_request_of_which_no_byte_left_is_no_attempt(world: World, program: Program) -> None:
    """A refused connection closes the lease as cancelled, at once and for good."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    reachable = program.provider.client
    with FalClient(f"http://127.0.0.1:{port}/v1", world.emulator.key, now=world.clock.now) as unreachable:
        program.boundaries.on("call create", lambda: setattr(program.provider, "client", unreachable))
        with pytest.raises(CallFailed) as failure:
            program.acquire()
    program.provider.client = reachable

    assert failure.value.message.startswith("fal cannot be reached: ")
    assert failure.value.message.endswith("; nothing was made, lease gpu-box is closed as cancelled")
    assert world.types() == ["create-requested", *LOST, "released"]
    assert (world.posts(), world.key_folders(), world.claim().outcome) == ([], [], "cancelled")


@pytest.mark.holds("PEER-16")
def test_an_id_that_was_there_before_is_not_bound(world: World, program: Program) -> None:
    """The answer is recorded, the create is in doubt, and the colleague's box is not touched."""
    stranger = world.emulator.change(lambda state, now: state.add_instance("emulated-team", now))
    world.fault("create", Rewrite(put={"id": stranger}), count=None)

    with pytest.raises(InDoubt) as failure:
        program.acquire(timeout_ms=2_000)

    assert f"fal answered with instance {stranger}, which was there before" in failure.value.message
    assert world.payloads("create-in-doubt")[0]["answer_instance_id"] == stranger
    assert (world.claim().instance_id, world.calls("delete")) == (None, [])


@pytest.mark.holds("CRE-26")
def test_an_id_that_another_lease_holds_is_not_bound(world: World, program: Program) -> None:
    mine = program.acquire()
    world.fault("create", Rewrite(put={"id": mine.instance_id}), count=None)
    world.fault("list", Rewrite(put={"instances": []}))

    with pytest.raises(InDoubt) as failure:
        world.program().acquire(OTHER, slug="second", timeout_ms=2_000)

    assert f"instance {mine.instance_id}, which lease {LEASE} holds" in failure.value.message
    assert (world.claim(OTHER).instance_id, world.claim().phase, world.calls("delete")) == (None, "ready", [])


@pytest.mark.holds("W-16")
@pytest.mark.parametrize("keeps", [False, True])
def test_a_box_of_another_type_is_rolled_back_and_never_kept(world: World, program: Program, keeps: bool) -> None:
    world.fault("create", Rewrite(put={"instance_type": "gpu_8x_h100_sxm5"}))

    with pytest.raises(NotAsAsked) as failure:
        program.acquire(keep=world.keep(hours=1) if keeps else None)

    assert failure.value.message.startswith("fal made gpu_8x_h100_sxm5 where gpu_1x_h100_sxm5 was asked for; ")
    assert (world.types(), world.boxes(), failure.value.exit_code) == (ROLLED_BACK, [], 5)


@pytest.mark.holds("CRE-29")
def test_a_binding_that_fails_at_first_is_tried_again(world: World, program: Program) -> None:
    program.boundaries.fail("append instance-id-bound", UsageFailure("disk full"), times=3)

    program.acquire()

    assert (world.types(), len(world.posts())) == (ACQUIRED, 1)


@pytest.mark.holds("CRE-29", "W-41")
def test_an_id_that_the_ledger_does_not_take_is_spooled_and_its_box_deleted(world: World, program: Program) -> None:
    """Rule 3."""
    program.boundaries.fail("append instance-id-bound", UsageFailure("disk full"), times=4)

    with pytest.raises(IdNotRecorded) as failure:
        program.acquire()

    [(path, spooled)] = program.services.spool.waiting()
    [box_id] = [box.id for box in world.emulator.instances()]
    assert (spooled.lease_id, spooled.instance_id, spooled.attempt) == (LEASE, box_id, 1)
    assert failure.value.message == (
        f"the ledger did not take instance {box_id} of lease gpu-box: disk full; its DELETE was accepted; "
        "lease gpu-box stays open until the id is appended"
    )
    assert failure.value.hint == f"the id is kept in {path} and is appended at the next start"
    assert (world.boxes(), world.types(), world.key_folders()) == ([], ["create-requested", "create-sent"], [LEASE])


@pytest.mark.holds("CRE-29", "W-41", "PEER-17")
@pytest.mark.parametrize("where", ["begin", "append instance-id-bound"])
def test_no_bug_and_no_busy_ledger_loses_an_id_that_was_answered(world: World, program: Program, where: str) -> None:
    """Rule 3: from the 201 on, whatever fails, the id is appended, or kept in the spool and its box deleted."""
    bug = ValueError("a bug of ours")
    program.boundaries.on("answered create", lambda: program.boundaries.fail(where, bug, times=4))

    with pytest.raises(IdNotRecorded):
        program.acquire()

    [(_path, spooled)] = program.services.spool.waiting()
    assert (spooled.instance_id, world.boxes()) == (world.emulator.instances()[0].id, [])


@pytest.mark.holds("CRE-17")
def test_a_replay_is_not_sent_where_only_the_providers_clock_has_moved(world: World, program: Program) -> None:
    """Rule 2: in a machine that was suspended both of our clocks stood still; fal's `Date` says so."""
    world.fault("create", DropAfter())
    program.boundaries.on("call list", lambda: None)
    program.boundaries.on("call list", lambda: world.emulator.advance(3_600))

    with pytest.raises(InDoubt):
        program.acquire()

    assert world.types() == ["create-requested", "create-sent", "create-in-doubt"]
    assert (len(world.posts()), len(world.boxes())) == (1, 1)


def test_a_replay_waits_until_the_providers_clock_can_be_read(world: World, program: Program) -> None:
    """A read that fails before a replay is tried again; nothing is sent without it."""
    world.fault("create", SERVER_ERROR)
    program.boundaries.on("call create", lambda: world.fault("list", SERVER_ERROR))

    program.acquire()

    before_the_second = ["list", "billing", "create", "list", "list"]
    assert [call for call in world.calls() if call != "get"] == [*before_the_second, "create", "list"]


@pytest.mark.holds("CRE-18")
@pytest.mark.parametrize(
    ("timeout_ms", "slept_s"),
    [pytest.param(40_000, 0, id="the time for leasing"), pytest.param(900_000, 500, id="the window")],
)
def test_a_read_before_a_replay_that_hangs_outlives_neither_the_window_nor_the_time(
    world: World, program: Program, timeout_ms: int, slept_s: int
) -> None:
    """It is given 30 s, or what is left."""
    world.fault("create", SERVER_ERROR)
    program.boundaries.on("committed create-in-doubt", lambda: world.clock.suspend(slept_s))
    world.fault("list", Delay(1_000_000), skip=1, count=2)

    with pytest.raises(InDoubt):
        program.acquire(timeout_ms=timeout_ms)

    assert program.provider.limits_s["list"] == [30.0, 30.0, 7.0]
    assert (world.clock.monotonic_s(), len(world.posts())) == (40.0, 1)


@pytest.mark.holds("CRE-29")
def test_a_spooled_box_whose_delete_fails_is_told_with_both_causes(world: World, program: Program) -> None:
    """The id survives in the spool whatever else fails."""
    program.boundaries.fail("append instance-id-bound", UsageFailure("disk full"), times=4)
    world.fault("delete", SERVER_ERROR)

    with pytest.raises(RentrollError) as failure:
        program.acquire()

    assert ": disk full; its DELETE failed: fal API server_error: try later; " in failure.value.message
    assert len(program.services.spool.waiting()) == 1


@pytest.mark.holds("RBK-01")
def test_a_bug_after_the_binding_leaves_no_box(world: World, program: Program) -> None:
    """Any failure between binding and ready."""
    program.boundaries.fail("call get", ZeroDivisionError("a bug"))

    with pytest.raises(RentrollError) as failure:
        program.acquire()

    [box] = world.emulator.instances()
    assert failure.value.message == f"ZeroDivisionError: a bug; the box {box.id} was given back"
    assert (failure.value.exit_code, world.boxes(), world.types()) == (1, [], ROLLED_BACK)
    assert world.payloads("rollback")[0]["stage"] == "internal"


@pytest.mark.holds("CRE-09")
def test_the_body_of_a_create_is_what_the_intent_digested(world: World, program: Program) -> None:
    """Nothing but type, key and sector is sent."""
    program.acquire(instance_type="gpu_8x_h100_sxm5", sector="sector_1")

    assert sorted(json.loads(world.posts()[0][1])) == ["instance_type", "sector", "ssh_key"]


@pytest.mark.holds("CRE-08", "W-14", "PEER-02", "PEER-13")
def test_a_late_effect_of_a_lost_create_is_found_by_its_replay(world: World, program: Program) -> None:
    """The first POST lands after its client has gone; the replay gets its answer, not a second box."""
    world.fault("create", Defer(40), DropAfter())

    lease = program.acquire()

    assert ([box.id for box in world.boxes()], len(world.posts())) == ([lease.instance_id], 2)
    assert world.boxes()[0].created_at == STARTED_AT + timedelta(seconds=40)
