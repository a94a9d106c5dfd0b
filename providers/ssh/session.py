"""One running remote command: its outputs streamed apart, its input fed, its end awaited, its group signalled.

A thread moves the outputs into the sinks, so that an interrupt in the main thread can neither lose nor split a
chunk, and `wait` is only a wait that a Python signal handler may break off and take up again.
"""

import contextlib
import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any, Self

from ledger.domain.errors import RentrollError, SshFailure, UsageFailure
from ledger.domain.ports import RemoteCommand, RemoteExit
from ledger.noticing import SafeEvent
from providers.ssh.faults import BROKEN
from providers.ssh.signals import SIGNALS
from providers.ssh.stdin import StdinFeeder
from providers.ssh.wrapper import ReportFilter

_READ_BYTES = 1_048_576
_JOIN_S = 5.0
_SIGNAL_S = 10.0
_HANG_UP_S = 2.0
_MOMENT_S = 0.2


_Sink = Callable[[bytes], None]


def _discard(_chunk: bytes) -> None:
    """The sink of a session whose own sink has failed."""


class _Arrival:
    """What paramiko's buffers set when something comes; clearing is the reader's business alone.

    Channel.fileno would do the same with a pipe, but loses a wake-up when one stream is emptied while the other is
    filled.
    """

    def __init__(self, event: threading.Event) -> None:
        self.set = event.set

    def clear(self) -> None:
        pass


class Session:
    """A command that `Connection.start` has started.

    As a context manager it closes its channel at the end; left by an exception, it hangs the command up (HUP) first,
    as a terminal that goes away does.

    `channel` is an opened paramiko channel on which nothing runs yet; `where` is `host:port` for messages;
    `exit_signal` gives the name of the signal that ended the command, `lost` why the connection ended, and `kill`
    signals a process group over a second channel, in so many seconds.
    """

    def __init__(
        self,
        channel: Any,
        command: RemoteCommand,
        *,
        where: str,
        exit_signal: Callable[[], str | None],
        lost: Callable[[], str],
        kill: Callable[[int, str, float], bool],
    ) -> None:
        self._channel = channel
        self._command = command
        self._where = where
        self._exit_signal = exit_signal
        self._lost = lost
        self._kill = kill
        self._hang_up_s, self._told_s, self._join_s = _HANG_UP_S, _SIGNAL_S, _JOIN_S
        self._arrived = threading.Event()
        self._reported = SafeEvent()
        self._finished = SafeEvent()
        self._filter = ReportFilter()
        self._outcome: RemoteExit | BaseException | None = None
        self._feeder: StdinFeeder | None = None
        self._pump = threading.Thread(target=self._run, name="ssh-output", daemon=True)

    def begin(self, line: bytes) -> None:
        """Runs `line` on the channel and begins to stream. Raises paramiko's errors where the box refuses."""
        self._channel.in_buffer.set_event(_Arrival(self._arrived))
        self._channel.in_stderr_buffer.set_event(_Arrival(self._arrived))
        try:
            self._channel.exec_command(line)
            if self._command.stdin is None:
                self._channel.shutdown_write()
            else:
                self._feeder = StdinFeeder(self._channel, self._command.stdin)
                self._feeder.start()
            self._pump.start()
        except BaseException:
            self.abandon()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()

    def wait(self, timeout_s: float | None = None) -> RemoteExit:
        """Waits until the command has ended and both outputs are delivered, and gives how it ended.

        An exception from a Python signal handler comes out at once, and `wait` may be called again. Raises
        SshFailure (stage `session`) when the connection ended first, UsageFailure when the local input could not
        be read, TimeoutError after `timeout_s` seconds, and whatever a sink raised.
        """
        self._finished.wait(timeout_s)
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        if self._outcome is None:
            raise TimeoutError(f"the command has not ended within {timeout_s} s")
        return self._outcome

    def signal(self, name: str, *, timeout_s: float = _SIGNAL_S) -> bool:
        """Sends a signal (`INT`, `TERM`, `HUP`…) to the command's whole process group, over a second channel.

        Any thread may call it, an exception handler too. Gives False when there is no process left to signal.
        Raises ValueError for a name that is none of SIGNALS, SshFailure (stage `session`) when the box cannot be
        told within `timeout_s` seconds.
        """
        if name not in SIGNALS:
            raise ValueError(f"{name!r} is not a signal that can be sent")
        end_s = monotonic() + timeout_s
        self._reported.wait(timeout_s)
        if isinstance(self._outcome, RemoteExit):
            # Its process id may belong to another process by now.
            return False
        process_group = self._filter.process_group
        if process_group is None:
            raise SshFailure(
                f"{self._where}: the command's process is not known, so it could not be sent {name}.", stage="session"
            )
        return self._kill(process_group, name, end_s - monotonic())

    def hurry(self) -> None:
        """From now on hanging up and closing take no longer than a moment each, whatever they then leave undone."""
        self._hang_up_s = self._told_s = self._join_s = _MOMENT_S

    def abandon(self) -> None:
        """Hangs the command up where that can be done in a moment, then closes."""
        begun = self._pump.ident is not None
        if begun and not isinstance(self._outcome, RemoteExit) and self._reported.wait(self._hang_up_s):
            with contextlib.suppress(SshFailure):
                self.signal("HUP", timeout_s=self._told_s)
        self.close()

    def close(self) -> None:
        """Closes the channel and ends the threads. What still runs on the box is not signalled."""
        with contextlib.suppress(*BROKEN):
            self._channel.close()
        if self._feeder is not None:
            self._feeder.stop()
            self._feeder.join(self._join_s)
        # A sink that is stuck in a full pipe keeps its (daemon) thread; the rest need not wait for it.
        if self._pump.is_alive():
            self._pump.join(self._join_s)

    def _run(self) -> None:
        try:
            self._move_all(self._command.on_stdout, self._command.on_stderr)
            self._outcome = self._how_it_ended()
            self._finished.set()
        except BaseException as error:  # noqa: BLE001  a sink may raise anything; `wait` raises it to the caller
            self._outcome = error
            self._finished.set()
            # The report may still be on its way, and a full window must not keep the command from its signals.
            self._move_all(_discard, _discard)
        finally:
            self._reported.set()

    def _move_all(self, on_stdout: _Sink, on_stderr: _Sink) -> None:
        channel = self._channel
        while True:
            self._arrived.clear()
            # Asked before the buffers: what came before the end is in them by now.
            ended = channel.eof_received or channel.closed
            moved = False
            if channel.recv_ready():
                on_stdout(channel.recv(_READ_BYTES))
                moved = True
            if channel.recv_stderr_ready():
                self._deliver_stderr(self._filter.feed(channel.recv_stderr(_READ_BYTES)), on_stderr)
                moved = True
            if ended and not moved:
                break
            if not moved:
                self._arrived.wait()
        self._deliver_stderr(self._filter.rest(), on_stderr)

    def _deliver_stderr(self, chunk: bytes, on_stderr: _Sink) -> None:
        if self._filter.process_group is not None:
            self._reported.set()
        if chunk:
            on_stderr(chunk)

    def _how_it_ended(self) -> RemoteExit:
        status: int = self._channel.recv_exit_status()
        if status >= 0:
            return RemoteExit(exit_code=status)
        signal_name = self._exit_signal()
        if signal_name is not None:
            return RemoteExit(exit_code=None, signal=signal_name)
        raise self._cut_short()

    def _cut_short(self) -> RentrollError:
        if self._feeder is not None and self._feeder.error is not None:
            reason = self._feeder.error.strerror or str(self._feeder.error)
            return UsageFailure(
                f"The input for the command could not be read: {reason}.",
                hint="The command may still be running on the box, with an incomplete input.",
            )
        return SshFailure(
            f"{self._where}: the session ended before the command did ({self._lost()});"
            " the command may still be running on the box.",
            stage="session",
            hint="Look on the box before you run it again.",
        )
