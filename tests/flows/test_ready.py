"""From a bound box to a ready one, and the ways back: faults on the way, limits, stop, keep, signals."""

import signal
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from msgspec.structs import replace

from ledger.domain import events as e
from ledger.domain.errors import Interrupted, ProviderFailure, RentrollError, SshFailure, UsageFailure
from ledger.domain.ports import BoxFacts, Endpoint, KeyRejected
from ledger.flows.waiting import StopAsked
from providers.emulator.faults import Delay, Effect, Garbage, Hide, Linger, Rewrite, Status
from tests.flows.world import ACQUIRED, GONE, HOST_KEY, LEASE, MINUTE_MS, POLL_S, TOOLS, Program, World
from tests.world.box import MemoryBox

BOUND = ["create-requested", "create-sent", "instance-id-bound"]
ROLLED_BACK = [*BOUND, "rollback", *GONE]
SERVER_ERROR = Status(500, error_type="server_error", message="try later")
NEVER = Delay(1_000_000)
NO_SSH = SshFailure("the box does not listen", stage="tcp")


class SlowBox(MemoryBox):
    """A box whose SSH server lets in and then says nothing: a check takes all the time that it has."""

    def __init__(self, world: World) -> None:
        super().__init__(world.emulator, world.keys, world.silent, lambda _boundary: None)
        self._clock = world.clock

    def check(self, endpoint: Endpoint, *, ports: Sequence[int], timeout_s: float | None = None) -> BoxFacts:
        self._clock.wait(200.0 if timeout_s is None else min(timeout_s, 200.0))
        raise SshFailure("the box did not say which tools it has", stage="tools")


class LateSignal:
    """The port `Interrupts`, with a signal that arrives just before shield number `at_shield` is up."""

    asked_at_s: float | None = None

    def __init__(self, *, at_shield: int) -> None:
        self._left = at_shield

    def shielded(self) -> AbstractContextManager[None]:
        self._left -= 1
        if not self._left:
            raise Interrupted(signal.SIGINT)
        return nullcontext()

    def again(self) -> AbstractContextManager[None]:
        return nullcontext()


def status(name: str) -> Rewrite:
    return Rewrite(put={"status": name}, omit=("ip",))


@pytest.mark.holds(
    "RDY-01", "RDY-02", "RDY-03", "RDY-05", "W-05", "W-07", "W-08", "W-24", "HOLE-06", "PEER-09", "PEER-39"
)
@pytest.mark.parametrize(
    "effect",
    [
        *(pytest.param(status(name), id=name) for name in ("provisioning", "init", "pending", "unknown")),
        pytest.param(status("warming"), id="W-08: a status that is new to us"),
        pytest.param(Rewrite(omit=("ip",)), id="ready without an address"),
        pytest.param(SERVER_ERROR, id="W-07: a 500"),
        pytest.param(Status(429, error_type="rate_limited"), id="W-07: a 429"),
        pytest.param(Hide(), id="W-05: an early 404"),
        pytest.param(Garbage(), id="an answer that is no JSON"),
        pytest.param(Rewrite(put={"id": "inst_of_somebody_else"}), id="RDY-03: another instance's answer"),
    ],
)
def test_polling_goes_on_through_whatever_is_not_an_end(world: World, program: Program, effect: Effect) -> None:
    """Only the bound id is polled, until it is ready with an address."""
    world.fault("get", effect, count=3)

    lease = program.acquire()

    polled = {entry.path for entry in world.emulator.journal() if entry.call == "get"}
    assert (world.types(), polled) == (ACQUIRED, {f"/v1/compute/instances/{lease.instance_id}"})
    assert world.clock.monotonic_s() == 3 * POLL_S
    assert world.calls("delete") == []


@pytest.mark.holds("RDY-02")
def test_a_stopped_box_is_given_back_at_once(world: World, program: Program) -> None:
    world.fault("get", status("stopped"))

    with pytest.raises(ProviderFailure) as failure:
        program.acquire()

    [box] = world.emulator.instances()
    assert failure.value.message == (
        f"instance {box.id} is stopped and will not become ready; the box {box.id} was given back"
    )
    assert (failure.value.exit_code, world.types(), world.key_folders()) == (5, ROLLED_BACK, [])


@pytest.mark.holds("RDY-04", "RBK-01")
def test_a_box_that_does_not_become_ready_in_time_is_given_back(world: World, program: Program) -> None:
    """The wait ends at the limit, never after it."""
    world.fault("get", status("pending"), count=21)

    with pytest.raises(ProviderFailure) as failure:
        program.acquire(timeout_ms=MINUTE_MS)

    assert "timed out waiting for instance" in failure.value.message
    assert world.payloads("rollback")[0]["stage"] == "provider"
    [rolled_back] = [row.recorded_at for row in world.reader.rows(LEASE, types=("rollback",))]
    assert rolled_back == "2026-08-21T12:01:00.000000Z"


@pytest.mark.holds("RDY-04")
def test_a_read_that_hangs_does_not_outlive_the_wait(world: World, program: Program) -> None:
    """Each read is given 30 s, the last one what is left; the error can be told as a deadline."""
    world.fault("get", NEVER, count=3)

    with pytest.raises(ProviderFailure) as failure:
        program.acquire(timeout_ms=70_000)

    [box] = world.emulator.instances()
    assert program.provider.limits_s["get"][:3] == [30.0, 30.0, 4.0]
    assert world.recorded_at("rollback").isoformat() == "2026-08-21T12:01:10+00:00"
    assert failure.value.message == (
        f"timed out waiting for instance {box.id} to be ready; last: fal did not answer completely within 4 s; "
        f"the box {box.id} was given back"
    )
    assert (failure.value.exit_code, type(failure.value.__cause__)) == (5, TimeoutError)


@pytest.mark.holds("W-18")
@pytest.mark.parametrize(
    ("changes", "ends"),
    [({"ttl_ms": MINUTE_MS}, "12:01:00"), ({"ttl_ms": 90 * MINUTE_MS, "keep_s": 40}, "12:00:40")],
)
def test_the_wait_never_outlasts_the_leases_own_end(
    world: World, program: Program, changes: dict[str, Any], ends: str
) -> None:
    """Nor that of a keep that ends sooner."""
    world.fault("get", status("pending"), count=None)
    keep_s = changes.pop("keep_s", None)
    keep = world.keep(seconds=keep_s) if keep_s else None

    with pytest.raises(ProviderFailure):
        program.acquire(keep=keep, **changes)

    decided = next(row for row in world.reader.rows(LEASE) if row.type in ("rollback", "keep-granted"))
    assert decided.recorded_at == f"2026-08-21T{ends}.000000Z"


@pytest.mark.holds("RDY-05")
def test_a_rejected_key_ends_the_wait_and_leaves_the_box_known(world: World, program: Program) -> None:
    """Nothing can be deleted with it, so the lease stays open with the command to type."""
    world.fault("get", Status(403, error_type="authorization_error", message="revoked"), count=None)

    with pytest.raises(KeyRejected) as failure:
        program.acquire()

    [box] = world.boxes()
    assert failure.value.message == (
        "fal API authorization_error: revoked; then: fal API authorization_error: revoked; "
        f"the box {box.id} of lease gpu-box may still bill, and the lease stays open"
    )
    assert (failure.value.exit_code, failure.value.next_step) == (3, "rentroll stop gpu-box")
    assert (world.types(), world.calls("delete")) == ([*BOUND, "rollback"], [])
    assert world.clock.slept == []


@pytest.mark.holds("RDY-06", "SSH-02")
def test_ssh_is_tried_until_it_answers_the_configured_port_first(world: World) -> None:
    """The port that answered is what is recorded."""
    program = world.program(ssh_port=2222)
    program.memory_box.failures = [NO_SSH, SshFailure("not yet", stage="authentication")]
    program.memory_box.answering_port = 22

    lease = program.acquire()

    [box] = world.boxes()
    assert program.memory_box.checks == [("ubuntu", box.ip, (2222, 22))] * 3
    assert (lease.ready and lease.ready.port, world.claim().ssh_port) == (22, 22)
    assert [stage.name for stage in program.told if stage.name.startswith("ssh")] == ["ssh tcp", "ssh authentication"]


@pytest.mark.holds("RDY-07")
def test_ready_holds_the_endpoint_and_the_host_key(world: World, program: Program) -> None:
    lease = program.acquire()

    [ready] = world.payloads("ready")
    assert (ready["host"], ready["port"], ready["user"], ready["host_key"], ready["tools"]) == (
        world.boxes()[0].ip,
        22,
        "ubuntu",
        HOST_KEY,
        TOOLS,
    )
    assert lease.sequence == world.claim().sequence == 4


@pytest.mark.holds("RDY-06", "RBK-01", "HOLE-02", "PEER-47")
def test_ssh_that_never_answers_rolls_back_with_its_stage(world: World, program: Program) -> None:
    """One DELETE, absence proven, key gone, the first cause told."""
    program.memory_box.always = NO_SSH

    with pytest.raises(SshFailure) as failure:
        program.acquire(timeout_ms=MINUTE_MS)

    [box] = world.emulator.instances()
    assert failure.value.message == (
        f"timed out waiting for SSH: the box does not listen; the box {box.id} was given back"
    )
    assert (failure.value.exit_code, failure.value.stage, failure.value.next_step) == (7, "tcp", None)
    assert (world.types(), world.calls("delete"), world.boxes()) == (ROLLED_BACK, ["delete"], [])
    assert (world.claim().outcome, world.key_folders()) == ("rolled-back", [])
    assert world.payloads("rollback") == [
        {"cause": "timed out waiting for SSH: the box does not listen", "shown": False, "stage": "tcp"}
    ]


@pytest.mark.holds("RDY-04")
def test_a_box_that_hangs_does_not_outlive_the_wait(world: World) -> None:
    """A check of it is given what is left, and ends the wait at its limit."""
    with pytest.raises(SshFailure) as failure:
        world.program(box=SlowBox(world)).acquire(timeout_ms=250_000)

    assert world.recorded_at("rollback").isoformat() == "2026-08-21T12:04:10+00:00"
    assert failure.value.message == (
        "timed out waiting for SSH: the box did not say which tools it has; "
        f"the box {world.emulator.instances()[0].id} was given back"
    )
    assert (failure.value.exit_code, failure.value.stage) == (7, "tools")


@pytest.mark.holds("W-27", "PEER-34")
def test_a_changed_host_key_is_refused_at_once(world: World, program: Program) -> None:
    """Refused, not followed."""
    program.memory_box.failures = [SshFailure("another host key", stage="host-key")]

    with pytest.raises(SshFailure):
        program.acquire()

    assert (len(program.memory_box.checks), world.types()) == (1, ROLLED_BACK)


@pytest.mark.holds("RDY-11")
def test_a_ready_that_was_written_though_the_append_failed_is_a_success(world: World, program: Program) -> None:
    program.boundaries.fail("committed ready", UsageFailure("the ledger cannot be written"))

    lease = program.acquire()

    assert (lease.phase, world.types(), world.calls("delete")) == ("ready", ACQUIRED, [])


@pytest.mark.holds("RDY-11")
def test_a_ready_that_cannot_be_written_rolls_back(world: World, program: Program) -> None:
    program.boundaries.fail("append ready", UsageFailure("disk full"), times=2)

    with pytest.raises(UsageFailure) as failure:
        program.acquire()

    assert failure.value.message == f"disk full; the box {world.emulator.instances()[0].id} was given back"
    assert (world.types(), world.boxes()) == (ROLLED_BACK, [])


@pytest.mark.holds("RDY-12", "RBK-10")
def test_an_acquirer_that_was_taken_over_leaves_the_box_to_the_other(world: World, program: Program) -> None:
    """Superseded, without rolling back."""
    fence = e.AcquireFenced(acquirer="rival", deadline=world.clock.now(), evidence="lock-free", host="elsewhere", pid=1)
    program.memory_box.failures = [lambda: _record(world, fence)]

    with pytest.raises(RentrollError) as failure:
        program.acquire()

    [box] = world.boxes()
    assert failure.value.message == (
        "lease gpu-box: another process has taken it over; "
        f"the box {box.id} of lease gpu-box may still bill, and the lease stays open"
    )
    assert (failure.value.exit_code, world.types()) == (11, [*BOUND, "acquire-fenced"])


@pytest.mark.holds("RBK-02", "W-42")
def test_a_stop_that_is_asked_for_during_the_wait_is_met_within_a_second(world: World, program: Program) -> None:
    program.memory_box.always = NO_SSH
    world.clock.plan(20.2, lambda: _record(world, e.StopRequested(reason="wrong type")))

    with pytest.raises(StopAsked) as failure:
        program.acquire()

    assert failure.value.message.startswith("lease gpu-box was stopped while it was being acquired: wrong type; ")
    assert world.types() == [*BOUND, "stop-requested", "rollback", *GONE]
    [deleted] = [entry.at for entry in world.emulator.journal() if entry.call == "delete"]
    assert (deleted - world.recorded_at("stop-requested")).total_seconds() <= 1


@pytest.mark.holds("W-42", "PEER-03", "PEER-07")
def test_a_stop_before_the_box_is_bound_rolls_back_when_its_id_is_known(world: World, program: Program) -> None:
    """The id is recorded all the same."""
    program.boundaries.on("call create", lambda: _record(world, e.StopRequested(reason="enough")))

    with pytest.raises(StopAsked):
        program.acquire(keep=world.keep(hours=1))

    assert world.types() == [
        "create-requested",
        "create-sent",
        "stop-requested",
        "instance-id-bound",
        *GONE,
    ]
    assert world.boxes() == []


@pytest.mark.holds("KEEP-01", "HOLE-02")
def test_a_failed_acquire_with_keep_is_kept_visibly(world: World, program: Program) -> None:
    program.memory_box.always = NO_SSH

    with pytest.raises(SshFailure) as failure:
        program.acquire(timeout_ms=MINUTE_MS, keep=world.keep(hours=2))

    [box] = world.boxes()
    assert failure.value.message.endswith(f"; the box {box.id} was kept and bills, as lease gpu-box")
    assert failure.value.next_step == "rentroll stop gpu-box"
    assert (world.types(), world.calls("delete")) == ([*BOUND, "keep-granted"], [])
    claim = world.claim()
    assert (claim.phase, claim.keep_until, claim.failure_stage) == (
        "provisioning",
        "2026-08-21T14:00:00.000000Z",
        "tcp",
    )


@pytest.mark.holds("KEEP-02", "W-30")
def test_where_the_keep_cannot_be_recorded_the_box_is_deleted(world: World, program: Program) -> None:
    program.memory_box.always = NO_SSH
    program.boundaries.fail("append keep-granted", UsageFailure("disk full"))

    with pytest.raises(SshFailure) as failure:
        program.acquire(timeout_ms=MINUTE_MS, keep=world.keep(hours=2))

    [box] = world.emulator.instances()
    assert failure.value.message == (
        f"timed out waiting for SSH: the box does not listen; then: disk full; the box {box.id} was given back"
    )
    assert (world.types(), world.boxes()) == (ROLLED_BACK, [])


@pytest.mark.holds("KEEP-03", "W-30")
def test_where_neither_keep_nor_rollback_can_be_recorded_nothing_is_touched(world: World, program: Program) -> None:
    program.memory_box.always = NO_SSH
    program.boundaries.fail("append keep-granted", UsageFailure("disk full"))
    program.boundaries.fail("append rollback", UsageFailure("disk still full"), times=2)

    with pytest.raises(SshFailure) as failure:
        program.acquire(timeout_ms=MINUTE_MS, keep=world.keep(hours=2))

    [box] = world.boxes()
    assert failure.value.message == (
        "timed out waiting for SSH: the box does not listen; then: disk full; then: disk still full; "
        f"the box {box.id} of lease gpu-box may still bill, and the lease stays open"
    )
    assert (world.types(), world.calls("delete"), world.key_folders()) == (BOUND, [], [LEASE])


@pytest.mark.holds("RBK-08")
@pytest.mark.parametrize("boundary", ["append rollback", "committed rollback"])
def test_a_rollback_whose_append_failed_or_only_seemed_to_is_appended_again_and_the_box_deleted(
    world: World, program: Program, boundary: str
) -> None:
    program.memory_box.failures = [SshFailure("another host key", stage="host-key")]
    program.boundaries.fail(boundary, UsageFailure("the disk did not answer"))

    with pytest.raises(SshFailure):
        program.acquire()

    assert (world.types().count("rollback"), world.boxes(), world.claim().outcome) == (1, [], "rolled-back")


@pytest.mark.holds("RBK-04", "W-30", "PEER-08")
def test_a_rollback_whose_delete_fails_keeps_the_box_known_for_the_next_stop(world: World, program: Program) -> None:
    program.memory_box.failures = [SshFailure("another host key", stage="host-key")]
    world.fault("delete", SERVER_ERROR, count=None)

    with pytest.raises(SshFailure) as failure:
        program.acquire()
    open_before = (world.claim().phase, len(world.boxes()), world.key_folders())
    world.emulator.change(lambda state, _now: state.script.clear())
    stopped = world.program().stop()

    assert "; then: could not confirm that instance" in failure.value.message
    assert "its last DELETE failed: fal API server_error: try later" in failure.value.message
    assert failure.value.next_step == "rentroll stop gpu-box"
    assert (open_before, stopped.outcome, world.boxes()) == (("deleting", 1, [LEASE]), "rolled-back", [])


@pytest.mark.holds("REL-07", "W-07")
def test_a_rollback_is_not_given_up_at_the_first_failed_read(world: World, program: Program) -> None:
    """The state is read again until it is readable; only then is the DELETE sent."""
    program.memory_box.failures = [SshFailure("another host key", stage="host-key")]
    program.boundaries.on("committed rollback", lambda: world.fault("get", SERVER_ERROR, count=2))

    with pytest.raises(SshFailure):
        program.acquire()

    assert (world.types(), world.calls("delete"), world.boxes()) == (ROLLED_BACK, ["delete"], [])


@pytest.mark.holds("RBK-15", "PEER-04")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_readiness_sends_the_delete_within_two_seconds(
    world: World, signals: Program, sent: signal.Signals
) -> None:
    """The box goes also with keep, the exit is 128 and the signal, and the state is told."""
    signals.memory_box.always = NO_SSH
    world.clock.plan(30, lambda: signal.raise_signal(sent))

    with pytest.raises(Interrupted) as interrupted:
        signals.acquire(keep=world.keep(hours=1))

    [box] = world.emulator.instances()
    assert (interrupted.value.signal_number, interrupted.value.left) == (sent, f"the box {box.id} was given back")
    assert interrupted.value.lease_id == LEASE
    [deleted] = [entry.at for entry in world.emulator.journal() if entry.call == "delete"]
    assert (deleted - world.recorded_at("rollback")).total_seconds() <= 2
    assert world.recorded_at("rollback").isoformat() == "2026-08-21T12:00:30+00:00"
    assert (world.types(), world.payloads("rollback")[0]["stage"]) == (ROLLED_BACK, "interrupted")


@pytest.mark.holds("W-17")
def test_a_signal_during_the_post_waits_for_its_answer(world: World, signals: Program) -> None:
    """Bound, deleted, then left."""
    signals.boundaries.on("call create", lambda: signal.raise_signal(signal.SIGINT))

    with pytest.raises(Interrupted):
        signals.acquire()

    assert (world.types(), len(world.posts()), world.boxes()) == (ROLLED_BACK, 1, [])


@pytest.mark.holds("CRE-07")
def test_a_signal_before_the_post_leaves_no_trace(world: World, signals: Program) -> None:
    """Zero POSTs, the lease closed, the key gone."""
    signals.boundaries.on("committed create-requested", lambda: signal.raise_signal(signal.SIGTERM))

    with pytest.raises(Interrupted) as interrupted:
        signals.acquire()

    assert interrupted.value.left == "nothing was made, lease gpu-box is closed as cancelled"
    assert (world.types(), world.posts(), world.key_folders()) == (["create-requested", "released"], [], [])


@pytest.mark.holds("CRE-07")
def test_a_signal_during_the_key_leaves_nothing(world: World, signals: Program) -> None:
    signals.boundaries.on("made key", lambda: signal.raise_signal(signal.SIGINT))

    with pytest.raises(Interrupted) as interrupted:
        signals.acquire()

    assert (interrupted.value.left, world.types(), world.key_folders()) == ("nothing was made", [], [])


def test_a_signal_at_the_very_moment_of_ready_gives_the_box_back(world: World, signals: Program) -> None:
    """Interrupted means given back, and nobody was handed this box."""
    signals.boundaries.on("committed ready", lambda: signal.raise_signal(signal.SIGINT))

    with pytest.raises(Interrupted) as interrupted:
        signals.acquire()

    assert interrupted.value.left == f"the box {world.emulator.instances()[0].id} was given back"
    assert (world.types(), world.boxes()) == ([*ACQUIRED, *GONE], [])


@pytest.mark.holds("RBK-15")
def test_a_signal_during_the_rollback_of_another_failure_is_not_lost(world: World, signals: Program) -> None:
    """The rollback is finished, then the process ends as interrupted, with the first failure told."""
    signals.memory_box.failures = [SshFailure("another host key", stage="host-key")]
    signals.boundaries.on("call delete", lambda: signal.raise_signal(signal.SIGINT))

    with pytest.raises(Interrupted) as interrupted:
        signals.acquire()

    [box] = world.emulator.instances()
    assert interrupted.value.left == f"another host key; the box {box.id} was given back"
    assert (world.types(), world.boxes()) == (ROLLED_BACK, [])


@pytest.mark.holds("RBK-15")
def test_a_signal_in_the_instant_before_the_give_back_is_shielded_still_gives_back(
    world: World, program: Program
) -> None:
    """The failure was caught, nothing was undone yet."""
    program.memory_box.failures = [SshFailure("another host key", stage="host-key")]
    program.services = replace(program.services, interrupts=LateSignal(at_shield=2))

    with pytest.raises(Interrupted) as interrupted:
        program.acquire()

    assert interrupted.value.left == f"the box {world.emulator.instances()[0].id} was given back"
    assert (world.types(), world.boxes()) == (ROLLED_BACK, [])


@pytest.mark.holds("CRE-13", "W-17")
def test_a_signal_with_a_create_in_doubt_tells_what_to_type(world: World, signals: Program) -> None:
    world.fault("create", SERVER_ERROR, count=None)
    world.clock.plan(0.5, lambda: signal.raise_signal(signal.SIGINT))

    with pytest.raises(Interrupted) as interrupted:
        signals.acquire()

    assert interrupted.value.left == (
        "whether a box was made for lease gpu-box is unknown, and the lease stays open; next: rentroll stop gpu-box"
    )
    assert (world.claim().phase, len(world.posts())) == ("in-doubt", 1)


@pytest.mark.holds("W-05", "PEER-39")
@pytest.mark.parametrize("delete_fault", [None, Status(404, error_type="not_found", handled=False)])
def test_a_box_that_no_read_shows_is_deleted_and_not_believed_gone_for_half_an_hour(
    world: World, program: Program, delete_fault: Effect | None
) -> None:
    """Rule 4 of the design; also where the DELETE itself is answered 404."""
    world.fault("get", Hide(), count=None)
    world.fault("list", Hide(), count=None)
    if delete_fault is not None:
        world.fault("delete", delete_fault, count=None)

    with pytest.raises(ProviderFailure) as failure:
        program.acquire(timeout_ms=MINUTE_MS)
    after_rollback = (world.claim().phase, world.key_folders(), bool(world.calls("delete")))
    world.clock.sleep(26 * 60)
    with pytest.raises(ProviderFailure):
        world.program().stop()
    world.clock.sleep(5 * 60)
    stopped = world.program().stop()

    assert "could not confirm that instance" in failure.value.message
    assert after_rollback == ("deleting", [LEASE], True)
    assert (stopped.outcome, world.types()[-2:]) == ("rolled-back", ["deletion-confirmed", "released"])


@pytest.mark.holds("RBK-01")
def test_a_box_that_lingers_is_waited_for(world: World, program: Program) -> None:
    """One DELETE, then looks until it is gone."""
    program.memory_box.failures = [SshFailure("another host key", stage="host-key")]
    world.fault("delete", Linger(20))

    with pytest.raises(SshFailure):
        program.acquire()

    assert (world.calls("delete"), world.claim().outcome) == (["delete"], "rolled-back")


def _record(world: World, fact: e.LeaseEvent) -> None:
    world.program().book.record(LEASE, fact)
