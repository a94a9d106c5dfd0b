"""A workspace on a box that is a folder: the agent as the process that it is there, and pipes for the connection."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ledger.domain.errors import SshFailure
from ledger.domain.ports import Entry, JobSpec, Progress, Running, Sink
from providers.agent import frames, jsontext
from providers.agent.manifest import encode, entry_at
from providers.ssh import rsync
from providers.ssh.transfer import RemoteTree
from providers.worktree.scan import scan
from providers.worktree.tree import ScanOptions, Tree

START = Path(__file__).parents[2] / "providers" / "agent" / "start.py"
HOLDER = {"run": None, "host": "here", "pid": 1, "purpose": "sync"}
HERE_FOR_THERE = ("sh", "-c", 'shift; exec sh -c "$*"', "sh")
"""What stands for ssh: it takes the host away and runs the line."""


class Cut(SshFailure):
    """The connection was cut by the test."""


class Pipes:
    """An agent's channel. After `cut_after_bytes` more bytes were written it is cut."""

    def __init__(self, workspace: Path, state: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-IS", START, workspace, state],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self.cut_after_bytes: int | None = None
        self.written = 0
        self._reader = frames.Reader(after_magic=True)
        self._came: list[tuple[bytes, bytes]] = []

    def send(self, message: dict[str, Any]) -> None:
        self.write(frames.pack(frames.JSON, jsontext.encode(message)))

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        view = memoryview(data)
        if self.cut_after_bytes is not None:
            view = view[: self.cut_after_bytes]
            self.cut_after_bytes -= len(view)
        self.written += len(view)
        while view:
            view = view[os.write(self.process.stdin.fileno(), view) :]
        if self.cut_after_bytes == 0:
            self.end()
            raise Cut("cut", stage="session")

    def receive(self) -> tuple[bytes, bytes]:
        assert self.process.stdout is not None
        while not self._came:
            chunk = os.read(self.process.stdout.fileno(), 1_048_576)
            if not chunk:
                raise SshFailure("the agent has ended", stage="session")
            self._came.extend(self._reader.feed(chunk))
        return self._came.pop(0)

    def hear(self) -> dict[str, Any]:
        return jsontext.decode(self.receive()[1])

    def end(self) -> bytes:
        """Ends the channel, as a connection that tears does; gives what the agent said on stderr."""
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        said = self.process.stderr.read()
        self.process.wait(20)
        for pipe in (self.process.stderr, self.process.stdout):
            pipe.close()
        return said


class FolderWorkspace(RemoteTree):
    """The port `Workspace` as far as files go, on `folder/workspace`, under its lock."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "work" / "rl_1"
        self.state = folder / "work" / ".rentroll" / "rl_1"
        self.pipes = Pipes(self.root, self.state)
        super().__init__(self.pipes)
        assert self.pipes.hear()["is"] == "hello"
        self.pipes.send({"op": "lock", "holder": HOLDER, "wait_ms": 0})
        told = self.pipes.hear()
        assert told["is"] == "locked"
        self.token = int(told["token"])
        self.rsyncs = 0
        self.remote_shell: Sequence[str] = HERE_FOR_THERE

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.pipes.process.poll() is None:
            assert self.pipes.end() == b""

    def rsync(self, root: bytes, paths: Sequence[bytes], progress: Progress) -> None:
        self.rsyncs += 1
        remote = rsync.Remote(self.remote_shell, "box", f"'{self.root}'", f"'{self.state}'", self.token)
        rsync.send(remote, root, paths, progress)

    def start(self, job: JobSpec, on_stdout: Sink, on_stderr: Sink, **_: Any) -> Running:
        raise NotImplementedError


def no_progress(_files: int, _bytes: int) -> None:
    """Nobody watches."""


def whole(root: Path) -> Tree:
    """All of a folder, as a plain sync takes it."""
    return scan(root, ScanOptions(path_mode=True))


def entries(root: Path) -> list[Entry]:
    """All that stands in a folder, found without any of ours that look for it."""
    found = sorted(os.fsencode(path.relative_to(root)) for path in root.rglob("*"))
    return [entry for path in found if (entry := entry_at(os.fsencode(root), path)) is not None]


def listing(root: Path) -> bytes:
    """The same as a manifest."""
    return encode(entries(root))


def contents(root: Path) -> dict[str, bytes]:
    """What the files of a folder hold."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
