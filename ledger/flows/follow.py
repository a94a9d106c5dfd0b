"""Following a job to its end, and what stop signals make of it: one stops the job, two leave it to itself."""

import signal
import threading
from collections.abc import Callable

from msgspec import Struct

from ledger.domain.errors import Interrupted, RentrollError, SshFailure
from ledger.domain.ports import Ended, Interrupts, Running, Sink, UnknownRun
from ledger.noticing import NOTICE_S, SafeEvent

STEPS: dict[int, tuple[tuple[str, float], ...]] = {
    signal.SIGINT: (("INT", 10.0), ("TERM", 10.0), ("KILL", 5.0)),
    signal.SIGTERM: (("TERM", 0.5),),
    signal.SIGHUP: (("HUP", 0.5),),
}
"""What a job is sent after a stop signal of ours, and how many seconds it then has to end.

After SIGTERM the box's DELETE has to leave within two seconds.
"""
BEGINNING_S: dict[int, float] = {signal.SIGTERM: 0.5, signal.SIGHUP: 0.5}
"""So long a stop signal waits for a job that is just beginning; after a Ctrl-C it is waited for until the next one."""
LOOK_S = 3.0
"""So often it is looked whether the box of a job has been given back meanwhile."""
NOT_TOLD = "the box did not say that the command has ended, and it may still run there"
HANG_UP: tuple[tuple[str, float], ...] = (("HUP", 2.0), ("TERM", 2.0))
"""What a job is sent whose output nobody takes any more, as by a terminal that goes away."""


class Followed(Struct, frozen=True, kw_only=True):
    """What came of following a job. `ended` is None where it may still run; `failure` is what broke it off, if any.

    `by` is what is to be raised in the end; `left` says that a person left the job to itself, and `is_unknown` that the
    box does not know it, or is given back.
    """

    ended: Ended | None
    by: BaseException | None = None
    left: bool = False
    is_unknown: bool = False

    @property
    def failure(self) -> str | None:
        return None if self.by is None else str(self.by)

    @property
    def may_go_on(self) -> bool:
        """Whether it may still run: not one that has ended, or that the box does not know."""
        return self.ended is None and not self.is_unknown


def follow(
    begin: Callable[[], Running],
    interrupts: Interrupts,
    *,
    gone: Callable[[], RentrollError | None],
    on_running: Callable[[Running], None] | None = None,
) -> Followed:
    """Begins to follow a job and waits for its end; what breaks the wait off comes back with the end that it had.

    `begin` runs in a thread of its own, `on_running` in this one before anything is waited for. A first SIGINT stops
    the job (INT, TERM after ten seconds, KILL after ten more) and a second one meanwhile leaves it to itself; SIGTERM
    and SIGHUP tell it once, and do not wait long. So it is with a signal that comes while it begins: a box that takes
    its time may then begin it later, unfollowed. `gone` is asked now and then, and gives a failure once the box is
    given back: nothing of the job is left then, and no connection comes back. Raises what `begin` raises, and
    `Interrupted` from that where a signal has come.
    """
    beginning = _Beginning(begin, on_running)
    try:
        with interrupts.shielded():
            beginning.start()
        return _wait(beginning.running(interrupts), gone)
    except Interrupted as first:
        if not beginning.is_asked:
            raise
        with interrupts.again():
            return _stop(beginning, first, interrupts)


class _Beginning:
    """A job that begins in a thread, so that the wait for it can be broken off."""

    def __init__(self, begin: Callable[[], Running], on_running: Callable[[Running], None] | None) -> None:
        self.is_asked = False
        self._begin = begin
        self._on_running = on_running
        self._over = SafeEvent()
        self._deciding = threading.Lock()
        self._is_left = False
        self._last_signal: str | None = None
        self._running: Running | None = None
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Asks for the job."""
        thread = threading.Thread(target=self._run, name="job-begins", daemon=True)
        thread.start()
        self.is_asked = True

    def running(self, interrupts: Interrupts) -> Running:
        """The job. Raises what beginning it raised."""
        while True:
            running = self.in_time(NOTICE_S, interrupts)
            if running is not None:
                return running

    def in_time(self, timeout_s: float, interrupts: Interrupts) -> Running | None:
        """The job, None where it has not begun in so many seconds. Raises what beginning it raised."""
        if not self._over.wait(timeout_s):
            return None
        if self._failure is not None:
            raise self._failure
        on_running, self._on_running = self._on_running, None
        if self._running is not None and on_running is not None:
            with interrupts.shielded():
                on_running(self._running)
        return self._running

    def leave(self, last_signal: str | None) -> None:
        """Leaves the job to itself after that signal, also one that has yet to begin."""
        with self._deciding:
            self._is_left, self._last_signal = True, last_signal
            if self._running is not None:
                self._let_go(self._running)

    def _run(self) -> None:
        try:
            running = self._begin()
            with self._deciding:
                self._running = running
                if self._is_left:
                    self._let_go(running)
        except BaseException as failure:  # noqa: BLE001 - whoever waits for the job raises it
            self._failure = failure
        finally:
            self._over.set()

    def _let_go(self, running: Running) -> None:
        if self._last_signal is not None:
            running.signal(self._last_signal)
        running.detach()


def _wait(running: Running, gone: Callable[[], RentrollError | None]) -> Followed:
    over: RentrollError | None = None
    while True:
        try:
            return Followed(ended=running.wait(LOOK_S if over is None else 0.0))
        except TimeoutError:
            if over is not None:
                running.detach()
                return Followed(ended=None, by=over, is_unknown=True)
            over = gone()  # then its end is asked for once more: it may have come before its box went
        except SshFailure as failure:
            running.detach()
            return Followed(ended=None, by=over or failure, is_unknown=bool(over) or isinstance(failure, UnknownRun))
        except Exception as failure:  # noqa: BLE001 - whatever a sink raised, or the input: the job is no use any more
            return _send(running, HANG_UP, failure)


def _stop(beginning: _Beginning, first: Interrupted, interrupts: Interrupts) -> Followed:
    number = first.signal_number
    try:
        if number in BEGINNING_S:
            running = beginning.in_time(BEGINNING_S[number], interrupts)
        else:
            running = beginning.running(interrupts)
        if running is not None:
            return _send(running, STEPS[number], first)
        last = first
    except RentrollError as failure:
        first.left, first.lease_id = failure.message, failure.lease_id
        raise first from failure
    except Interrupted as second:
        last = second
    is_left = last.signal_number == signal.SIGINT
    with interrupts.shielded():  # one more ends this process: it must not make a failure of what was left
        beginning.leave(None if is_left else STEPS[last.signal_number][0][0])
    return Followed(ended=None, by=last, left=is_left)


def _send(running: Running, steps: tuple[tuple[str, float], ...], by: BaseException) -> Followed:
    """The job's end after the first of these signals that ended it in time; where none did, it is left."""
    is_unknown = False
    for name, patience_s in steps:
        try:
            running.signal(name)
            return Followed(ended=_ended(running, patience_s), by=by)
        except TimeoutError:
            continue
        except RentrollError as failure:
            is_unknown = isinstance(failure, UnknownRun)
            break
    running.detach()
    if isinstance(by, Interrupted) and not is_unknown:
        by.left = NOT_TOLD
    return Followed(ended=None, by=by, is_unknown=is_unknown)


def _ended(running: Running, patience_s: float) -> Ended:
    while True:
        try:
            return running.wait(patience_s)
        except (TimeoutError, RentrollError):
            raise
        except Exception:  # noqa: BLE001, S112 - a sink whose reader has gone meanwhile; it raises once
            continue


class Counted:
    """A sink that counts what passes. After it has failed the rest is dropped, so that the job can be waited for."""

    def __init__(self, sink: Sink) -> None:
        self.bytes = 0
        self._sink: Sink | None = sink

    def __call__(self, chunk: bytes) -> None:
        self.bytes += len(chunk)
        if self._sink is None:
            return
        try:
            self._sink(chunk)
        except BaseException:
            self._sink = None
            raise
