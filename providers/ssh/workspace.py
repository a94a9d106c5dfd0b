"""The port `ledger.domain.ports.Workspace`: one channel to the agent that holds a workspace's lock."""

import contextlib
from binascii import b2a_base64
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ledger.domain.errors import SshFailure
from ledger.domain.ports import Endpoint, Holder, JobSpec, Place, Progress, Sink, WorkspaceBusy
from providers.ssh.agent_session import AgentSession, Refusal, open_session
from providers.ssh.channel import Opener
from providers.ssh.install import quoted_folders
from providers.ssh.running import RunningJob
from providers.ssh.transfer import RemoteTree


class LockedWorkspace(RemoteTree):
    """A workspace under its lock. Its channel is `session`; `opener` opens more."""

    def __init__(
        self,
        session: AgentSession,
        opener: Opener,
        place: Place,
        token: int,
        *,
        endpoint: Endpoint,
        keys_root: Path,
        reconnect_s: float,
    ) -> None:
        super().__init__(session)
        self.token = token
        self._session = session
        self._opener = opener
        self._place = place
        self._endpoint = endpoint
        self._keys_root = keys_root
        self._reconnect_s = reconnect_s
        self._is_given = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._is_given:
            self._session.close()

    def start(
        self,
        job: JobSpec,
        on_stdout: Sink,
        on_stderr: Sink,
        *,
        told: Callable[[str], None] = lambda _sentence: None,
    ) -> RunningJob:
        """Starts the job, whose this channel is from now on."""
        running = RunningJob(
            self._session,
            job.run_id,
            again=lambda: open_session(self._opener, self._place),
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            told=told,
            stdin=job.stdin,
            reconnect_s=self._reconnect_s,
        )
        with contextlib.suppress(SshFailure):
            self._session.send(_message(job))
        try:
            self._session.hear("started")
        except Refusal:
            raise
        except SshFailure:
            pass  # torn just now: whether it was begun is asked on the next connection
        self._is_given = True
        running.begin()
        return running

    def rsync(self, root: bytes, paths: Sequence[bytes], progress: Progress) -> None:
        """Has the local rsync send these paths. Raises PlaceFailure (stage `rsync`) where it cannot."""
        from providers.ssh.multiplex import options
        from providers.ssh.openssh import ssh_command
        from providers.ssh.rsync import Remote, send

        command = ssh_command(
            self._endpoint, self._keys_root, tty=False, extra=options(self._endpoint, self._keys_root)
        )
        workspace, state = quoted_folders(self._place)
        remote = Remote(ssh=command[:-2], host=command[-1], workspace=workspace, state=state, token=self.token)
        send(remote, root, paths, progress)


def take_lock(
    opener: Opener, place: Place, holder: Holder, *, wait_s: float, waiting: Callable[[Holder], None]
) -> tuple[AgentSession, int]:
    """A channel that holds the workspace's lock, and its token. Raises WorkspaceBusy after `wait_s` seconds."""
    ask = {"op": "lock", "holder": _told(holder), "wait_ms": round(wait_s * 1000)}
    session = open_session(opener, place, first=lambda new: new.send(ask))
    try:
        told = session.hear("waiting", "locked", "busy")
        if told["is"] == "waiting":
            waiting(_holder(told["holder"]))
            told = session.hear("locked", "busy")
        if told["is"] == "busy":
            held = _holder(told["holder"])
            raise WorkspaceBusy(
                f"{session.where}: the workspace is in use ({held.purpose} of process {held.pid} on {held.host}"
                f"{f', {held.run_id}' if held.run_id else ''}), and was so for {wait_s:g} s.",
                holder=held,
                lease_id=place.lease_id,
            )
        return session, told["token"]
    except BaseException:
        session.close()
        raise


def _message(job: JobSpec) -> dict[str, Any]:
    tty = job.tty
    return {
        "op": "run",
        "run_id": job.run_id,
        "argv": None if job.argv is None else [*job.argv],
        "shell": job.shell,
        "script": None if job.script is None else b2a_base64(job.script, newline=False).decode(),
        "env": job.env,
        "tty": None if tty is None else {"rows": tty.rows, "cols": tty.columns, "term": tty.term},
        "stdin": job.stdin is not None,
    }


def _told(holder: Holder) -> dict[str, Any]:
    return {"run": holder.run_id, "host": holder.host, "pid": holder.pid, "purpose": holder.purpose}


def _holder(told: dict[str, Any]) -> Holder:
    """Who the box says; what it has not been told yet is empty."""
    return Holder(
        run_id=told.get("run"), host=told.get("host", "?"), pid=told.get("pid", 0), purpose=told.get("purpose", "?")
    )
