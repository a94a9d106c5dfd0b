"""A stop signal that comes while the box takes its time to begin a job, and what is left of the job then."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ledger.domain.errors import Interrupted, RentrollError, SshFailure
from ledger.domain.events import RunStarted
from ledger.domain.ports import Running, UnknownRun
from ledger.flows import follow
from ledger.flows.attach import NEVER_BEGUN, Attachment, attach
from ledger.flows.work import Left, run
from tests.flows.jobs import FakeRunning, Step, ended, ends, fails, interrupts, no_signs_of_life
from tests.flows.test_follow import HUP, INT, LOST, RUN, TERM, job, outcome, put
from tests.flows.world import Program, World

WAIT_S = 30.0
NOT_KNOWN = UnknownRun("the box does not know the run", stage="session")


class SlowBox:
    """Begins no job before `go_on`; `pressed` are the stop signals that come meanwhile, each after the one before.

    `left` is set when a job of it is left to itself.
    """

    def __init__(self, program: Program, monkeypatch: pytest.MonkeyPatch, *pressed: int) -> None:
        self.go_on = threading.Event()
        self.left = threading.Event()
        self.again = threading.Event()
        self.fails: RentrollError | None = None
        self.running = FakeRunning([], lambda _chunk: None)
        self._pressed = pressed
        before = program.interrupts.again

        @contextmanager
        def again() -> Iterator[None]:
            with before():
                self.again.set()
                yield

        monkeypatch.setattr(program.interrupts, "again", again)
        monkeypatch.setattr(self.running, "detach", self.left.set)

    def start(self, *_args: object, **_options: object) -> Running:
        for number in self._pressed:
            signal.raise_signal(number)
            assert self.again.wait(WAIT_S)
        if self.fails is not None:
            raise self.fails
        assert self.go_on.wait(WAIT_S)
        return self.running


@pytest.fixture
def hangup() -> Iterator[None]:
    """The signals of a program are given back without it."""
    before = signal.getsignal(HUP)
    yield
    signal.signal(HUP, before)


@pytest.mark.parametrize(
    ("pressed", "raised", "told"),
    [
        pytest.param((INT, INT), Left, [], id="Ctrl-C twice"),
        pytest.param((INT, TERM), Interrupted, ["TERM"], id="Ctrl-C, then TERM"),
        pytest.param((TERM,), Interrupted, ["TERM"], id="TERM"),
        pytest.param((HUP,), Interrupted, ["HUP"], id="a terminal that goes away"),
    ],
)
@pytest.mark.usefixtures("hangup")
def test_a_box_that_takes_its_time_to_begin_a_job_holds_nobody_up(
    world: World,
    signals: Program,
    monkeypatch: pytest.MonkeyPatch,
    pressed: tuple[int, ...],
    raised: type[Interrupted],
    told: list[str],
) -> None:
    """The run stays open, as it may begin yet; if it does so while this process is there, it is told and left."""
    monkeypatch.setattr(follow, "BEGINNING_S", {TERM: 0.05, HUP: 0.05})
    workspace = put(signals)
    slow = SlowBox(signals, monkeypatch, *pressed)
    monkeypatch.setattr(workspace, "start", slow.start)
    with pytest.raises(Interrupted) as caught:
        run(signals.services, job(signals), no_signs_of_life)

    assert (type(caught.value), caught.value.signal_number) == (raised, pressed[-1])
    assert outcome(world) == (None, None, True, f"interrupted by signal {pressed[-1]}")
    assert (world.lease().open_runs, slow.running.seen) == ((RUN,), [])
    slow.go_on.set()
    assert slow.left.wait(WAIT_S)
    assert slow.running.seen == told


def test_a_job_that_the_box_refuses_after_a_stop_signal_is_not_going_on(
    world: World, signals: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = put(signals)
    slow = SlowBox(signals, monkeypatch, INT)
    slow.fails = SshFailure("the box failed: no space left on the device", stage="disk-full")
    monkeypatch.setattr(workspace, "start", slow.start)
    with pytest.raises(Interrupted) as caught:
        run(signals.services, job(signals), no_signs_of_life)

    assert (caught.value.left, caught.value.__cause__) == (slow.fails.message, slow.fails)
    assert (outcome(world), world.lease().open_runs) == ((None, None, False, "interrupted by signal 2"), ())


def test_a_job_that_the_box_turns_out_not_to_know_while_it_is_stopped_is_not_going_on(
    world: World, program: Program
) -> None:
    workspace = put(program, interrupts(INT), fails(NOT_KNOWN))
    with pytest.raises(Interrupted):
        run(program.services, job(program), no_signs_of_life)

    assert workspace.seen == ["wait 3", "INT", "wait 10", "detach"]
    assert (outcome(world), world.lease().open_runs) == ((None, None, False, "interrupted by signal 2"), ())


def test_a_connection_that_does_not_come_back_while_the_job_is_stopped_leaves_the_run_open(
    world: World, program: Program
) -> None:
    put(program, interrupts(INT), fails(LOST))
    with pytest.raises(Interrupted):
        run(program.services, job(program), no_signs_of_life)

    assert (outcome(world)[2], world.lease().open_runs) == (True, (RUN,))


def test_readers_that_go_away_while_the_job_is_stopped_do_not_hide_its_end(world: World, program: Program) -> None:
    """As of `rentroll run -- CMD | less` and Ctrl-C: all of the pipe gets it."""
    gone = fails(BrokenPipeError(32, "Broken pipe"))
    workspace = put(program, interrupts(INT), gone, gone, ends(9))
    with pytest.raises(Interrupted):
        run(program.services, job(program), no_signs_of_life)

    assert workspace.seen == ["wait 3", "INT", "wait 10", "wait 10", "wait 10"]
    assert outcome(world) == (9, None, False, "interrupted by signal 2")


def attached(program: Program, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> Attachment:
    """A run without a client, and how it is followed from the middle of its outputs."""
    lease = program.acquire()
    started = RunStarted(run_id=RUN, command=("make",), work_dir="~/rentroll", repository=None, host="host", pid=1)
    program.services.book.record(lease.lease_id, started)
    monkeypatch.setattr(program.memory_box, "attach", start)
    return Attachment(
        run_id=RUN,
        lease_id=lease.lease_id,
        stdin=None,
        on_stdout=lambda _chunk: None,
        on_stderr=lambda _chunk: None,
        from_stdout=100,
        from_stderr=10,
    )


@pytest.mark.parametrize("pressed", [(), (INT,)], ids=["alone", "after a stop signal"])
def test_a_run_to_follow_that_the_box_does_not_know_never_began(
    world: World, signals: Program, monkeypatch: pytest.MonkeyPatch, pressed: tuple[int, ...]
) -> None:
    slow = SlowBox(signals, monkeypatch, *pressed)
    slow.fails = NOT_KNOWN
    wish = attached(signals, slow.start, monkeypatch)
    with pytest.raises(Interrupted if pressed else UnknownRun):
        attach(signals.services, wish, no_signs_of_life)

    assert (outcome(world), world.lease().open_runs) == ((None, None, False, NEVER_BEGUN), ())


def test_what_was_dropped_counts_as_seen_where_the_end_is_not_known(
    world: World, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def speaks(running: FakeRunning) -> None:
        running.out(b"four")
        raise LOST

    steps: list[Step] = [speaks]

    def start(*_args: object, on_stdout: Callable[[bytes], None], **_options: object) -> Running:
        running = FakeRunning(steps, on_stdout)
        running.dropped = (1000, 2)
        return running

    with pytest.raises(SshFailure):
        attach(program.services, attached(program, start, monkeypatch), no_signs_of_life)

    finished = world.payloads("run-finished")[-1]
    assert (finished["stdout_bytes"], finished["stderr_bytes"]) == (1104, 12)


def test_whoever_waits_for_the_job_to_begin_is_told_of_it_once_before_it_is_waited_for(
    world: World, program: Program
) -> None:
    """In the main thread, which alone may take a terminal over."""
    told: list[tuple[list[str], bool]] = []

    def begins(running: Running) -> None:
        assert isinstance(running, FakeRunning)
        told.append(([*running.seen], threading.current_thread() is threading.main_thread()))

    put(program, ends(0))
    assert run(program.services, job(program, on_running=begins), no_signs_of_life) == ended(0)
    assert told == [([], True)]
