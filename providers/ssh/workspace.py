"""The port `ledger.domain.ports.Workspace`: one channel to the agent that holds a workspace's lock."""

import contextlib
from binascii import b2a_base64
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ledger.domain.errors import SshFailure
from ledger.domain.ports import Endpoint, JobSpec, NoAnswer, Place, Progress, Sink
from providers.ssh.agent_session import AgentSession, Refusal, open_session
from providers.ssh.channel import Opener
from providers.ssh.install import quoted_folders
from providers.ssh.running import RunningJob
from providers.ssh.transfer import RemoteTree

STARTED_S = 60.0
"""How long the box may take to begin a job; then it is asked over another connection what became of it."""


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
        self._is_given = self._is_left = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_left = True
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
        """Starts the job, whose this channel is from now on.

        Raises SshFailure where the workspace is left meanwhile by another thread: the job may begin all the same.
        A box that was asked and is silent may do so as well, however little it then knows of the job.
        """
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
            self._session.hear("started", timeout_s=STARTED_S)
        except Refusal:
            raise
        except SshFailure as failure:
            if self._is_left:
                raise
            # Torn or silent: whether it was begun is asked on the next connection.
            running.may_begin_yet = isinstance(failure, NoAnswer)
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
