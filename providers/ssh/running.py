"""A job on a box that this process follows: its outputs delivered, its input fed, a torn connection mended.

A thread moves the outputs into the sinks, so that an interrupt in the main thread can neither lose nor split a chunk,
and `wait` is only a wait that a Python signal handler may break off and take up again.
"""

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from ledger.domain.errors import SshFailure
from ledger.domain.ports import Ended, NoAgent, Sink, UnknownRun
from ledger.noticing import SafeEvent
from providers.agent import frames, jsontext
from providers.ssh.agent_session import ANSWER_S, RECONNECT_S, AgentSession
from providers.ssh.feeder import Feeder
from providers.ssh.signals import SIGNALS

LONGEST_PAUSE_S = 30.0
_SEND_S = 2.0
_STREAMS = {frames.STDOUT: 0, frames.STDERR: 1}


class RunningJob:
    """The port `ledger.domain.ports.Running`. `begin` starts its threads.

    `session` is a channel on which the job is followed from the offsets `at`; `again` opens a new one on which nothing
    is asked yet. `stdin` is a local descriptor, or None. `dropped` grows when more is lost than was known at first.
    `may_begin_yet` says that the box was asked to begin the job and was silent: that it does not know it is no proof.
    """

    def __init__(
        self,
        session: AgentSession,
        run_id: str,
        *,
        again: Callable[[], AgentSession],
        on_stdout: Sink,
        on_stderr: Sink,
        told: Callable[[str], None],
        stdin: int | None = None,
        at: tuple[int, int] = (0, 0),
        reconnect_s: float = RECONNECT_S,
    ) -> None:
        self.dropped = (0, 0)
        self.may_begin_yet = False
        self._session = session
        self._run_id = run_id
        self._again = again
        self._sinks = [on_stdout, on_stderr]
        self._told = told
        self._at = [*at]
        self._announced = [0, 0]
        self._reconnect_s = reconnect_s
        self._sending = threading.Lock()
        self._unsent: list[dict[str, Any]] = []
        self._left = SafeEvent()
        self._wanted = SafeEvent()
        self._news = SafeEvent()
        self._broken: BaseException | None = None
        self._ended: Ended | None = None
        self._is_over = False
        self._feeder = None if stdin is None else Feeder(stdin, self._feed, self._break)
        self._pump = threading.Thread(target=self._run, name="box-output", daemon=True)

    def begin(self, attached: dict[str, Any] | None = None) -> None:
        """Begins to follow. `attached` is the box's answer where the job was there before.

        Of such a one nothing is delivered before the first `wait`: who shows it has to know first what was dropped.
        """
        if attached is None:
            self._wanted.set()
        else:
            self._take_up(attached)
        if self._feeder is not None:
            self._feeder.start()
        self._pump.start()

    def wait(self, timeout_s: float | None = None) -> Ended:
        """Waits for the job's end; see the port."""
        self._wanted.set()
        self._news.wait(timeout_s)
        broken = self._broken
        if broken is not None:
            self._broken = None
            self._news.clear()
            if self._is_over:
                self._news.set()
            raise broken
        if self._ended is None:
            raise TimeoutError(f"the job has not ended within {timeout_s} s")
        return self._ended

    def signal(self, name: str) -> None:
        """Sends a signal to the job's group, at the latest when there is a connection again."""
        if name not in SIGNALS:
            raise ValueError(f"{name!r} is not a signal that can be sent")
        self._say({"op": "signal", "name": name})

    def resize(self, rows: int, columns: int) -> None:
        """Gives the job's terminal another size."""
        self._say({"op": "resize", "rows": rows, "cols": columns})

    def detach(self) -> None:
        """Leaves the job to itself."""
        self._left.set()
        if self._feeder is not None:
            self._feeder.stop()
        self._session.close()
        self._wanted.set()

    def _say(self, message: dict[str, Any]) -> None:
        # What cannot be said now is said when it can be: this may be an exception handler.
        self._unsent.append(message)
        if not self._sending.acquire(timeout=_SEND_S):
            return
        try:
            self._send_unsent()
        except SshFailure:
            pass
        finally:
            self._sending.release()

    def _send_unsent(self) -> None:
        """What is not sent stays, in its order; for who has `_sending`."""
        while self._unsent:
            self._session.send(self._unsent[0])
            del self._unsent[0]

    def _feed(self) -> bool:
        with self._sending:
            frame = None if self._feeder is None else self._feeder.due()
            if self._feeder is None or frame is None:
                return False
            try:
                self._session.write(frame)
                self._send_unsent()
            except SshFailure:
                self._feeder.torn()  # who follows the job notices as well
            return True

    def _break(self, error: BaseException) -> None:
        if isinstance(error, TimeoutError):  # so `wait` says that its own time is over
            error = ConnectionAbortedError(str(error))
        self._broken = error
        self._news.set()

    def _run(self) -> None:
        self._wanted.wait()
        try:
            while True:
                try:
                    self._ended = self._follow()
                    break
                except SshFailure as lost:
                    if self._left.is_set():
                        break
                    self._reconnect(lost)
            if self._ended is not None:
                self._session.close()
        except BaseException as error:  # noqa: BLE001  whatever it is, `wait` raises it to the caller
            if self._broken is None:
                self._break(error)
        finally:
            if self._feeder is not None:
                self._feeder.stop()
            self._is_over = True
            self._news.set()

    def _follow(self) -> Ended:
        session = self._session
        while True:
            kind, payload = session.receive_view()
            stream = _STREAMS.get(kind)
            if stream is not None:
                self._deliver(stream, payload)
            elif kind == frames.JSON:
                ended = self._hear(jsontext.decode(bytes(payload)))
                if ended is not None:
                    return ended

    def _hear(self, told: dict[str, Any]) -> Ended | None:
        what = told.get("is")
        if what == "input" and self._feeder is not None:
            self._feeder.taken(told["taken"], closed=told["closed"])
        if what == "ended":
            return ended_of(told)
        if what == "lost":
            return Ended(exit_code=None, stdout_bytes=self._at[0], stderr_bytes=self._at[1], duration_ms=0, known=False)
        return None

    def _deliver(self, stream: int, payload: memoryview) -> None:
        offset = int.from_bytes(payload[: frames.OFFSET_BYTES], "big")
        end = offset + len(payload) - frames.OFFSET_BYTES
        at = self._at[stream]
        if end <= at:
            return  # what came before the connection tore comes once more
        if offset > at:
            self._miss(stream, offset - at)
            at = offset
        chunk = bytes(payload[frames.OFFSET_BYTES + at - offset :])
        self._at[stream] = end
        try:
            self._sinks[stream](chunk)
        except BaseException as error:  # noqa: BLE001  a sink may raise anything; the job is followed all the same
            self._sinks[stream] = _discard
            self._break(error)

    def _reconnect(self, lost: SshFailure) -> None:
        """Takes the run up on a new connection. Raises what it failed with when the time is over."""
        self._session.close()  # also for whoever still writes
        self._told(f"{lost.message.rstrip('.')}; trying to connect again")
        end_s = monotonic() + self._reconnect_s
        pause_s = 0.0
        while True:
            if self._left.wait(min(pause_s, max(0.0, end_s - monotonic()))):
                raise lost
            try:
                self._attach()
            except UnknownRun as unknown:
                if not self.may_begin_yet:
                    raise
                raise SshFailure(
                    f"{unknown.message} It was asked to begin it and was silent, and may begin it yet.", stage="session"
                ) from None
            except NoAgent:
                raise
            except SshFailure as failure:
                from providers.ssh.hostkeys import HostKeyChanged

                if isinstance(failure, HostKeyChanged):
                    raise
                lost = failure
            else:
                self._told("connected again")
                return
            if monotonic() >= end_s:
                raise SshFailure(
                    f"the connection was lost and could not be opened again within {self._reconnect_s:g} s:"
                    f" {lost.message}",
                    stage="session",
                    hint="The job goes on on the box.",
                )
            pause_s = min(max(1.0, 2 * pause_s), LONGEST_PAUSE_S)

    def _attach(self) -> None:
        session = self._again()
        try:
            attached = attach(session, self._run_id, (self._at[0], self._at[1]), has_input=self._feeder is not None)
            with self._sending:
                self._session = session
                lost = self._take_up(attached)
                self._send_unsent()
        except BaseException:
            session.close()
            raise
        for name, count in zip(("stdout", "stderr"), lost, strict=True):
            if count:
                self._told(f"{count} bytes of its {name} came meanwhile and are lost: the box keeps the last of them")
        if self._left.is_set():
            session.close()

    def _miss(self, stream: int, count: int) -> None:
        """The stream goes on so many bytes later. What the box has announced of them is counted already."""
        known = min(count, self._announced[stream])
        self._announced[stream] -= known
        self._lose(stream, count - known)

    def _lose(self, stream: int, count: int) -> None:
        stdout, stderr = self.dropped
        self.dropped = (stdout + count, stderr) if stream == 0 else (stdout, stderr + count)

    def _take_up(self, attached: dict[str, Any]) -> list[int]:
        """What the box has dropped of what was asked for, and what it has of the input. Gives what is newly lost.

        The frames say where they belong. What was announced and passed by no frame yet is announced once more.
        """
        dropped = [attached["dropped"]["stdout"], attached["dropped"]["stderr"]]
        lost = [count - known for count, known in zip(dropped, self._announced, strict=True)]
        for stream, count in enumerate(lost):
            self._lose(stream, count)
        self._announced = dropped
        if self._feeder is not None:
            given = attached["stdin"]
            self._feeder.go_on(given["received"], given["taken"], ended=given["ended"])
        return lost


def attach(session: AgentSession, run_id: str, at: tuple[int, int], *, has_input: bool) -> dict[str, Any]:
    """Asks to follow a run from these offsets and gives the answer. Raises UnknownRun."""
    session.send({"op": "attach", "run_id": run_id, "stdout": at[0], "stderr": at[1], "input": has_input})
    told = session.hear("attached", "unknown", timeout_s=ANSWER_S)
    if told["is"] == "unknown":
        raise UnknownRun(f"{session.where}: the box does not know the run {run_id}.", stage="session")
    return told


def ended_of(told: dict[str, Any]) -> Ended:
    """How a job ended, from the box's words."""
    return Ended(
        exit_code=told["exit_code"],
        signal=told["signal"],
        stdout_bytes=told["stdout"],
        stderr_bytes=told["stderr"],
        duration_ms=told["duration_ms"],
    )


def _discard(_chunk: bytes) -> None:
    """The sink of a stream whose own sink has failed."""
