"""Copies between two folders, with the agent as the process that it is on a box and nothing between but pipes."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ledger.domain.copying import Copied, CopyOrder
from ledger.domain.errors import SshFailure
from ledger.domain.ports import Endpoint, Place
from providers.agent import frames, jsontext
from providers.ssh.copying import AgentCopier

START = Path(__file__).parents[2] / "providers" / "agent" / "start.py"
ENDPOINT = Endpoint(lease_id="rl_1", host="box", port=22, user="ubuntu")
PLACE = Place(root="~/work", lease_id="rl_1")


class Pipes:
    """An agent's channel. `on_write` and `on_frame` see what passes, and may cut it by raising."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-IS", START, "~/work/rl_1", "~/work/.rentroll/rl_1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"HOME": str(home)},
        )
        self._reader = frames.Reader(after_magic=True)
        self._came: list[tuple[bytes, bytes]] = []
        self.on_write: Callable[[bytes], None] = lambda data: None
        self.on_frame: Callable[[bytes, bytes], None] = lambda kind, payload: None
        assert jsontext.decode(self.receive()[1])["is"] == "hello"

    def send(self, message: dict[str, Any]) -> None:
        self.write(frames.pack(frames.JSON, jsontext.encode(message)))

    def write(self, data: bytes) -> None:
        self.on_write(data)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except OSError:
            raise SshFailure("cut", stage="session") from None

    def receive(self) -> tuple[bytes, bytes]:
        assert self.process.stdout is not None
        while not self._came:
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                raise SshFailure("cut", stage="session")
            self._came.extend(self._reader.feed(chunk))
        kind, payload = self._came.pop(0)
        self.on_frame(kind, payload)
        return kind, payload

    def close(self) -> None:
        self.process.kill()
        self.process.wait()

    def done(self) -> None:
        """Once nobody reads any more."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


class Seen:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.all: list[tuple[int, int]] = []
        self.sent = 0
        self.there = 0
        self.lines: list[str] = []

    def listed(self, files: int, size: int) -> None:
        self.all.append((files, size))

    def moved(self, size: int) -> None:
        self.sent += size

    def kept(self, size: int) -> None:
        self.there += size

    def lost(self, why: str) -> None:
        self.lines.append(why)


class Both:
    """A box's home and a local folder, and copies between them in either direction."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.here = folder / "here"
        self.work = self.home / "work" / "rl_1"
        for made in (self.work, self.here):
            made.mkdir(parents=True)
        self.seen = Seen()
        self.all: list[Pipes] = []
        self.opened: Callable[[Pipes], None] = lambda pipes: None

    def talk(self, endpoint: Endpoint, place: Place) -> Pipes:
        pipes = Pipes(self.home)
        self.all.append(pipes)
        self.opened(pipes)
        return pipes

    def copier(self) -> AgentCopier:
        return AgentCopier(self.talk, private=self.here / "state")

    def put(self, *sources: str, to: str, into: bool = False) -> Copied:
        return self._copy(sources, to, to_box=True, into=into)

    def get(self, *sources: str, to: str, into: bool = False) -> Copied:
        return self._copy(sources, to, to_box=False, into=into)

    def _copy(self, sources: tuple[str, ...], to: str, *, to_box: bool, into: bool) -> Copied:
        order = CopyOrder(to_box=to_box, sources=tuple(map(os.fsencode, sources)), target=os.fsencode(to), into=into)
        return self.copier().copy(ENDPOINT, PLACE, order, self.seen)


def tree(folder: Path) -> dict[bytes, tuple[str, int, object]]:
    """All below a folder: kind, permission bits, and content, target or nothing; mtimes of files."""
    found: dict[bytes, tuple[str, int, object]] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        name = os.fsencode(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("l", 0, os.fsencode(path.readlink()))
        elif path.is_dir():
            found[name] = ("d", status.st_mode & 0o777, None)
        else:
            found[name] = ("f", status.st_mode & 0o777, (path.read_bytes(), status.st_mtime_ns))
    return found
