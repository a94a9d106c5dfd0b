"""The port `ledger.domain.ports.Box` over SSH, with the lease's own key.

Work on a box goes over the system's `ssh`, whose connection stays open, or over paramiko where there is none; a first
look at a box, which trusts nothing yet, always over paramiko, which only then is imported.
"""

import contextlib
import signal
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from ledger.domain.errors import Interrupted, SshFailure
from ledger.domain.ports import (
    BoxFacts,
    Ended,
    Endpoint,
    Holder,
    NoAnswer,
    Place,
    Probe,
    RemoteCommand,
    RemoteExit,
    RemoteRun,
    Sink,
    UnknownRun,
)
from providers.ssh.agent_session import RECONNECT_S, AgentSession, open_session
from providers.ssh.keys import LeaseKeys
from providers.ssh.locking import take_lock

if TYPE_CHECKING:
    from providers.ssh.channel import Channel, Opener
    from providers.ssh.handshake import Limits
    from providers.ssh.running import RunningJob
    from providers.ssh.workspace import LockedWorkspace

GRACE_S: dict[int, float] = {signal.SIGINT: 10.0, signal.SIGTERM: 0.5, signal.SIGHUP: 0.5}
"""How long it may take to tell an interrupted command and to see it end, by the signal.

After SIGTERM the box's DELETE has to leave within two seconds.
"""
RUNS_S = 20.0
STOPPED_S = 30.0
"""How long the box may take to say which runs it remembers; and beyond what a stop itself takes, that it is done."""
STOP_STEPS = 3
"""INT, TERM and KILL: a run that is stopped has the grace after each."""


class NotStopped(NoAnswer):
    """The box was told to stop a run and has not said in time that it has ended. Stage `session`."""


def _load() -> None:
    """Imports what works in a workspace: a few milliseconds, for which the box is not waited for otherwise."""
    import providers.ssh.workspace  # noqa: F401


def _silent(_said: object) -> None:
    """Told of what nobody wants to know."""


class SshBox:
    """Reaches boxes with the keys of `keys`.

    With `use_library` the system's `ssh` is left alone. `reconnect_s` is how long a lost connection is opened again.
    """

    def __init__(
        self,
        keys: LeaseKeys,
        *,
        limits: "Limits | None" = None,
        use_library: bool = False,
        reconnect_s: float = RECONNECT_S,
    ) -> None:
        self._keys = keys
        self._limits = limits
        self._use_library = use_library
        self._reconnect_s = reconnect_s

    def check(self, endpoint: Endpoint, *, ports: Sequence[int], timeout_s: float | None = None) -> BoxFacts:
        """One staged attempt. Raises SshFailure with the furthest stage that any port reached."""
        from msgspec.structs import replace

        from providers.ssh import readiness

        limits = self._all_limits()
        if timeout_s is not None:
            limits = replace(limits, end_s=monotonic() + timeout_s)
        return readiness.check(endpoint, self._keys.root, ports=ports, limits=limits)

    def run(self, endpoint: Endpoint, command: RemoteCommand) -> RemoteExit:
        """Runs one command to its end, streaming both outputs as they come.

        An interrupt is passed on to the command, which has a moment to end before `Interrupted` goes on. When the wait
        is broken off in another way (a sink that fails) the command is hung up. Raises SshFailure naming the stage, and
        whatever a sink raised.
        """
        from providers.ssh.connection import connect

        with (
            connect(endpoint, self._keys.root, limits=self._limits) as connection,
            connection.start(command) as session,
        ):
            try:
                return session.wait()
            except Interrupted as interrupted:
                number = interrupted.signal_number
                end_s = monotonic() + GRACE_S[number]
                with contextlib.suppress(SshFailure, TimeoutError):
                    session.signal(signal.Signals(number).name.removeprefix("SIG"), timeout_s=GRACE_S[number])
                    session.wait(max(0.0, end_s - monotonic()))
                session.hurry()
                raise

    def probe(self, endpoint: Endpoint, public_key: str) -> Probe:
        """Whether the server accepts the lease's key and no other. No fault raises; nothing is pinned."""
        from providers.ssh import proof

        return proof.probe(endpoint, public_key, self._keys.root, limits=self._all_limits())

    def open(
        self,
        endpoint: Endpoint,
        place: Place,
        holder: Holder,
        *,
        wait_s: float,
        waiting: Callable[[Holder], None] = _silent,
    ) -> "LockedWorkspace":
        """Takes the lock of a workspace. Raises WorkspaceBusy, NoAgent, SshFailure naming the stage."""
        opener = self._opener(endpoint)
        session, token = take_lock(opener, place, holder, wait_s=wait_s, waiting=waiting, meanwhile=_load)
        from providers.ssh.workspace import LockedWorkspace

        return LockedWorkspace(
            session, opener, place, token, endpoint=endpoint, keys_root=self._keys.root, reconnect_s=self._reconnect_s
        )

    def attach(
        self,
        endpoint: Endpoint,
        place: Place,
        run_id: str,
        *,
        from_stdout: int = 0,
        from_stderr: int = 0,
        stdin: int | None = None,
        on_stdout: Sink,
        on_stderr: Sink,
        told: Callable[[str], None] = _silent,
    ) -> "RunningJob":
        """Follows a run from these offsets, one that has ended as well. Raises UnknownRun, NoAgent, SshFailure."""
        from providers.ssh.running import RunningJob

        at = (from_stdout, from_stderr)
        session, attached = self._attached(endpoint, place, run_id, at, has_input=stdin is not None)
        running = RunningJob(
            session,
            run_id,
            again=lambda: self.talk(endpoint, place),
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            told=told,
            stdin=stdin,
            at=at,
            reconnect_s=self._reconnect_s,
        )
        running.begin(attached)
        return running

    def runs(self, endpoint: Endpoint, place: Place) -> list[RemoteRun]:
        """The runs that the box remembers, oldest first."""
        with self.talk(endpoint, place) as session:
            session.send({"op": "runs"})
            return [_remote_run(each) for each in session.hear("runs", timeout_s=RUNS_S)["runs"]]

    def stop_run(self, endpoint: Endpoint, place: Place, run_id: str, *, grace_s: float) -> Ended:
        """Ends a run. Raises UnknownRun, NoAgent, NotStopped where its end is not told in time, SshFailure."""
        from providers.ssh.running import ended_of

        limit_s = STOP_STEPS * grace_s + STOPPED_S
        with self.talk(endpoint, place) as session:
            session.send({"op": "stop", "run_id": run_id, "grace_ms": round(grace_s * 1000)})
            try:
                told = session.hear("stopped", "lost", "unknown", timeout_s=limit_s)
            except NoAnswer:
                raise NotStopped(
                    f"{session.where}: the box was told to stop {run_id} and did not say within {limit_s:g} s that it"
                    " has ended; it, or what it has started, may still run there.",
                    stage="session",
                    hint="`rentroll runs` shows whether it does; giving the box back ends it in any case.",
                ) from None
            if told["is"] == "unknown":
                raise UnknownRun(f"{session.where}: the box does not know the run {run_id}.", stage="session")
            return _lost() if told["is"] == "lost" else ended_of(told)

    def talk(self, endpoint: Endpoint, place: Place) -> AgentSession:
        """A channel to the agent of a place, after its hello. Raises NoAgent, SshFailure naming the stage."""
        return open_session(self._opener(endpoint), place)

    def warm(self, endpoint: Endpoint) -> None:
        """Begins to keep a connection open, where there is an `ssh` to keep it; waits for nothing."""
        if self._use_library:
            return
        from providers.ssh.multiplex import warm

        warm(endpoint, self._keys.root)

    def _attached(
        self, endpoint: Endpoint, place: Place, run_id: str, at: tuple[int, int], *, has_input: bool
    ) -> tuple[AgentSession, dict[str, Any]]:
        """A channel on which a run is followed, and the box's answer.

        The box hangs up on who comes in the moment in which a run ends; so what is lost before it answers is asked for
        once more.
        """
        from providers.ssh.running import attach

        may_hang_up = True
        while True:
            session = self.talk(endpoint, place)
            try:
                return session, attach(session, run_id, at, has_input=has_input)
            except BaseException as failure:
                session.close()
                is_answer = isinstance(failure, NoAnswer | UnknownRun)
                if not may_hang_up or is_answer or not isinstance(failure, SshFailure):
                    raise
                may_hang_up = False

    def _opener(self, endpoint: Endpoint) -> "Opener":
        return lambda line: self._open(endpoint, line)

    def _open(self, endpoint: Endpoint, line: str) -> "Channel":
        if not self._use_library:
            from providers.ssh import system_ssh

            with contextlib.suppress(FileNotFoundError):
                return system_ssh.open_channel(endpoint, self._keys.root, line)
        from providers.ssh import library_ssh

        return library_ssh.open_channel(endpoint, self._keys.root, line, limits=self._limits)

    def _all_limits(self) -> "Limits":
        from providers.ssh.handshake import Limits

        return self._limits or Limits()


def _remote_run(told: dict[str, object]) -> RemoteRun:
    from providers.ssh.running import ended_of

    running = bool(told["running"])
    ended = None if running else _lost() if told["lost"] else ended_of(told)
    return RemoteRun(
        run_id=str(told["run_id"]),
        pid=told["pid"] if isinstance(told["pid"], int) else None,
        running=running,
        ended=ended,
        started_at=told["started_at"] if isinstance(told["started_at"], float) else None,
    )


def _lost() -> Ended:
    return Ended(exit_code=None, stdout_bytes=0, stderr_bytes=0, duration_ms=0, known=False)
