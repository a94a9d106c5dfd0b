"""A job that the box keeps: its record, and what stop signals, lost connections and lost readers make of it."""

import signal
from contextlib import nullcontext
from datetime import timedelta

import pytest

from ledger.domain.errors import Interrupted, SshFailure
from ledger.domain.events import RunStarted
from ledger.domain.ports import Ended, NoAgent, UnknownRun, Workspace
from ledger.domain.refusals import Refused
from ledger.flows.attach import settle_runs
from ledger.flows.phases import Phases
from ledger.flows.work import Job, Left, run
from tests.flows.jobs import FakeRunning, FakeWorkspace, Step, ends, fails, goes_on, interrupts, no_signs_of_life
from tests.flows.world import ACQUIRED, LEASE, Program, World

RUN = "run_" + "2" * 26
LOST = SshFailure("the box could not be reached for 600 s", stage="session")


def job(program: Program, **fields: object) -> Job:
    usual = {
        "run_id": RUN,
        "lease_id": program.acquire().lease_id,
        "command": ("make", "test"),
        "repository": None,
        "stdin": None,
        "on_stdout": lambda _chunk: None,
        "on_stderr": lambda _chunk: None,
    }
    return Job(**usual | fields)  # type: ignore[arg-type]


def put(program: Program, *steps: Step) -> FakeWorkspace:
    """The program's box keeps jobs from now on; the next one does these steps."""
    workspace = FakeWorkspace(*steps)
    program.memory_box.open = workspace.opened  # type: ignore[method-assign, assignment]
    return workspace


def outcome(world: World) -> tuple[object, ...]:
    """What the ledger says of the one run's end."""
    finished = world.payloads("run-finished")[-1]
    return tuple(finished[name] for name in ("exit_code", "signal", "detached", "failure"))


def test_a_job_that_the_box_keeps_is_on_record_with_where_its_code_came_from(world: World, program: Program) -> None:
    """The fence and the digest are known once the workspace is locked and the tree is there; figures are the box's."""
    workspace = put(program, ends(7))
    seen: list[tuple[bool, list[str]]] = []

    def prepare(given: Workspace) -> tuple[str, bool | None]:
        world.clock.sleep(2)
        seen.append((given is workspace, world.types()))  # type: ignore[comparison-overlap]
        return "d" * 64, True

    asked = job(program, commit="c" * 40, env={"A": "1", "RENTROLL_RUN_ID": "mine"})
    done = run(program.services, asked, no_signs_of_life, phases=Phases(world.clock.monotonic_s), prepare=prepare)

    assert (done.exit_code, seen) == (7, [(True, ACQUIRED)])
    started, finished = world.payloads("run-started")[0], world.payloads("run-finished")[0]
    assert {name: started[name] for name in ("commit", "dirty", "manifest_digest", "fence", "kind")} == {
        "commit": "c" * 40,
        "dirty": True,
        "manifest_digest": "d" * 64,
        "fence": 7,
        "kind": "argv",
    }
    assert finished == {
        "run_id": RUN,
        "exit_code": 7,
        "signal": None,
        "duration_ms": 1_234,
        "stdout_bytes": 40,
        "stderr_bytes": 2,
        "detached": False,
        "phases": {"ssh": 0, "sync": 2_000, "command": 0},
        "failure": None,
    }
    assert workspace.job is not None
    assert workspace.job.env == {
        "A": "1",
        "RENTROLL_LEASE_ID": LEASE,
        "RENTROLL_RUN_ID": RUN,
        "RENTROLL_INSTANCE_ID": world.lease().instance_id,
        "RENTROLL_FENCE": "7",
    }
    assert "A" not in str(world.payloads("run-started"))


INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


@pytest.mark.holds("HOLE-11")
@pytest.mark.parametrize(
    ("steps", "told", "recorded"),
    [
        pytest.param(
            (interrupts(INT), ends(9)),
            ["wait 3", "INT", "wait 10"],
            (9, None, False, "interrupted by signal 2"),
            id="one that ends on INT",
        ),
        pytest.param(
            (interrupts(INT), goes_on, goes_on, ends(None, "KILL")),
            ["wait 3", "INT", "wait 10", "TERM", "wait 10", "KILL", "wait 5"],
            (None, "KILL", False, "interrupted by signal 2"),
            id="one that only KILL ends",
        ),
        pytest.param(
            (interrupts(TERM), goes_on),
            ["wait 3", "TERM", "wait 0.5", "detach"],
            (None, None, True, "interrupted by signal 15"),
            id="TERM: it is told, and not waited for",
        ),
        pytest.param(
            (interrupts(HUP), ends(None, "HUP")),
            ["wait 3", "HUP", "wait 0.5"],
            (None, "HUP", False, "interrupted by signal 1"),
            id="a terminal that goes away",
        ),
    ],
)
def test_a_stop_signal_is_passed_on_and_the_end_it_brings_recorded(
    world: World, program: Program, steps: tuple[Step, ...], told: list[str], recorded: tuple[object, ...]
) -> None:
    workspace = put(program, *steps)
    with pytest.raises(Interrupted) as raised:
        run(program.services, job(program), no_signs_of_life)

    assert not isinstance(raised.value, Left)
    assert (workspace.seen, outcome(world)) == (told, recorded)
    assert world.lease().open_runs == ((RUN,) if recorded[2] else ())


def test_a_second_ctrl_c_leaves_the_job_to_itself(world: World, program: Program) -> None:
    """Its run stays open, so that whoever recovers leaves the box alone."""
    workspace = put(program, interrupts(INT), interrupts(INT))
    with pytest.raises(Left) as raised:
        run(program.services, job(program), no_signs_of_life)

    assert (raised.value.exit_code, workspace.seen) == (130, ["wait 3", "INT", "wait 10", "detach"])
    assert outcome(world) == (None, None, True, "interrupted by signal 2")
    assert world.lease().open_runs == (RUN,)


def test_a_connection_that_does_not_come_back_leaves_the_run_open(world: World, program: Program) -> None:
    put(program, fails(LOST))
    with pytest.raises(SshFailure, match="could not be reached"):
        run(program.services, job(program), no_signs_of_life)

    assert outcome(world) == (None, None, True, LOST.message)
    assert world.lease().open_runs == (RUN,)


@pytest.mark.parametrize("is_refused", [True, False])
def test_a_job_that_the_box_refused_or_does_not_know_is_not_going_on(
    world: World, program: Program, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = SshFailure("the box failed: no space left on the device", stage="disk-full")
    unknown = UnknownRun("the box does not know the run", stage="session")
    workspace = put(program, fails(unknown))

    def refuses(*_args: object, **_options: object) -> FakeRunning:
        raise refusal

    if is_refused:
        monkeypatch.setattr(workspace, "start", refuses)
    failure = refusal if is_refused else unknown
    with pytest.raises(SshFailure, match=failure.message):
        run(program.services, job(program), no_signs_of_life)

    assert outcome(world) == (None, None, False, failure.message)
    assert world.lease().open_runs == ()


def test_a_third_ctrl_c_while_the_job_is_left_makes_no_failure_of_it(
    world: World, signals: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the process at once, and the run stays open, so that its box is left alone."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr("cli.interrupts.os._exit", leave)
    monkeypatch.setattr(FakeRunning, "detach", lambda _running: signal.raise_signal(INT))

    def interrupted(_running: FakeRunning) -> Ended:
        signal.raise_signal(INT)
        raise AssertionError("the signal is raised here")

    put(signals, interrupted, interrupted)
    asked = job(signals)
    with pytest.raises(SystemExit) as left:
        run(signals.services, asked, no_signs_of_life)

    assert (left.value.code, world.payloads("run-finished"), world.lease().open_runs) == (130, [], (RUN,))


@pytest.mark.parametrize(("is_fresh", "left"), [(True, (RUN,)), (False, ())])
def test_on_a_box_without_python3_a_run_whose_client_is_gone_has_ended(
    world: World, program: Program, is_fresh: bool, left: tuple[str, ...]
) -> None:
    lease = program.acquire()
    program.services.book.record(lease.lease_id, started())
    with pytest.raises(NoAgent) if is_fresh else nullcontext():
        settle_runs(
            program.services,
            world.lease(),
            may_be_beginning=is_fresh,
            is_followed=lambda _run_id: False,
            keep_log=keeps_nothing,
        )

    ends = [(end["exit_code"], end["detached"], end["failure"]) for end in world.payloads("run-finished")]
    gone = (None, False, "the box has no python3: the command ended with its connection")
    assert (world.lease().open_runs, ends) == (left, [] if is_fresh else [gone])


def keeps_nothing(run_id: str, _ended: Ended) -> None:
    raise AssertionError(f"nothing of {run_id} can be kept")


def started() -> RunStarted:
    return RunStarted(run_id=RUN, command=("make",), work_dir="~/rentroll", repository=None, host="host", pid=1)


@pytest.fixture
def is_given_back(program: Program) -> Step:
    """A time-out during which somebody gives the box back."""

    def stops(_running: FakeRunning) -> None:
        program.stop()

    return stops


def test_a_job_whose_box_somebody_gives_back_is_over_and_not_waited_for(
    world: World, program: Program, is_given_back: Step
) -> None:
    workspace = put(program, goes_on, is_given_back, goes_on)
    with pytest.raises(SshFailure, match=rf"was given back meanwhile, and {RUN} with it"):
        run(program.services, job(program), no_signs_of_life)

    assert workspace.seen == ["wait 3", "wait 3", "wait 0", "detach"]
    assert outcome(world)[:3] == (None, None, False)
    assert world.lease().open_runs == ()


def test_an_end_that_came_just_before_the_box_went_is_the_end(
    world: World, program: Program, is_given_back: Step
) -> None:
    put(program, is_given_back, ends(7))
    assert run(program.services, job(program), no_signs_of_life).exit_code == 7
    assert outcome(world) == (7, None, False, None)


def test_a_connection_that_goes_with_its_box_is_no_failure_of_its_own(program: Program, is_given_back: Step) -> None:
    put(program, is_given_back, fails(LOST))
    with pytest.raises(SshFailure, match=rf"was given back meanwhile, and {RUN} with it"):
        run(program.services, job(program), no_signs_of_life)


def test_a_job_of_which_no_end_is_told_after_a_ctrl_c_is_said_to_go_on_maybe(program: Program) -> None:
    put(program, interrupts(INT), goes_on, goes_on, goes_on)
    with pytest.raises(Interrupted) as raised:
        run(program.services, job(program), no_signs_of_life)
    assert raised.value.left == "the box did not say that the command has ended, and it may still run there"


def test_an_end_that_the_box_lost_is_recorded_as_not_known_and_raised(world: World, program: Program) -> None:
    put(program, ends(None, known=False))
    with pytest.raises(SshFailure, match=r"how run_.* ended is not known"):
        run(program.services, job(program), no_signs_of_life)

    exit_code, name, detached, failure = outcome(world)
    assert (exit_code, name, detached) == (None, None, False)
    assert failure == "what watched it on the box is gone, as after a restart"


def test_a_job_whose_output_nobody_takes_is_hung_up(world: World, program: Program) -> None:
    """As by a terminal that goes away; the rest of its output is dropped."""

    def gone(_chunk: bytes) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    def speaks(running: FakeRunning) -> Ended | None:
        running.out(b"y\n")
        return None

    def speaks_on(running: FakeRunning) -> Ended:
        running.out(b"y\n")
        return ends(None, "HUP")(running) or pytest.fail("it ends")

    workspace = put(program, speaks, speaks_on)
    with pytest.raises(BrokenPipeError):
        run(program.services, job(program, on_stdout=gone), no_signs_of_life)

    assert (workspace.seen, outcome(world)) == (
        ["wait 3", "HUP", "wait 2"],
        (None, "HUP", False, "[Errno 32] Broken pipe"),
    )


def test_a_box_whose_time_is_nearly_over_gets_a_sign_of_life_first(world: World, program: Program) -> None:
    """Otherwise the start of the run is the first one."""
    put(program, ends(0))
    asked = job(program)
    world.clock.sleep(timedelta(minutes=29).total_seconds())

    run(program.services, asked, no_signs_of_life)

    assert world.types() == [*ACQUIRED, "touched", "run-started", "run-finished"]


def test_nothing_begins_on_a_box_that_was_given_back_while_its_lock_was_waited_for(
    world: World, program: Program
) -> None:
    workspace = put(program, ends(0))
    asked = job(program)

    def opened(*args: object, **options: object) -> object:
        program.stop()
        return workspace.opened(*args, **options)  # type: ignore[arg-type]

    program.memory_box.open = opened  # type: ignore[method-assign, assignment]
    with pytest.raises(Refused):
        run(program.services, asked, no_signs_of_life)

    assert (workspace.job, workspace.is_open, world.payloads("run-started")) == (None, False, [])


def test_a_stop_signal_that_comes_while_the_job_begins_is_told_to_it(world: World, signals: Program) -> None:
    """Otherwise it would run on untold: the signal is held back until there is a job."""
    program, workspace = signals, put(signals, ends(9))
    asked = job(program, on_running=lambda _running: signal.raise_signal(INT))
    with pytest.raises(Interrupted):
        run(program.services, asked, no_signs_of_life)

    assert (workspace.seen, outcome(world)) == (["INT", "wait 10"], (9, None, False, "interrupted by signal 2"))
