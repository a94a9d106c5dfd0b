"""A box to work on: the system's sshd, a workspace below a folder of the test, and our end of it."""

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger.domain.ports import Ended, Endpoint, Holder, JobSpec, Place
from providers.ssh.box import SshBox
from providers.ssh.control import socket_path
from providers.ssh.hostkeys import pin
from providers.ssh.keys import known_hosts_path
from tests.providers.sshd import LEASE, Sshd, serving

WAIT_S = 60.0
HOLDER = Holder(run_id="run_1", host="here", pid=1, purpose="run")


def until(holds: Callable[[], object]) -> None:
    """Asks again until it is so. Raises `AssertionError` when the time is over."""
    end_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end_s, "it did not become so in time"
        time.sleep(0.005)


class Site:
    """`box` works on `place` at `endpoint`; `folder` is the work root, `home` the login's home."""

    def __init__(self, server: Sshd, folder: Path, *, use_library: bool) -> None:
        self.server = server
        self.folder = folder / "work"
        self.home = folder / "home"
        self.endpoint: Endpoint = server.endpoint(host_key=server.host_key)
        self.place = Place(root=str(self.folder), lease_id=LEASE)
        self.box = SshBox(server.keys, use_library=use_library, reconnect_s=20.0)
        pin(known_hosts_path(server.keys.root, LEASE), "127.0.0.1", server.port, server.host_key)

    @property
    def workspace(self) -> Path:
        return self.folder / LEASE

    @property
    def socket(self) -> str:
        """Where the master that stays listens."""
        path = socket_path(self.endpoint, self.server.keys.root)
        assert path is not None
        return path

    def run(self, job: JobSpec) -> tuple[Ended, bytes, bytes]:
        """Runs one job to its end; with its outputs."""
        seen = Seen()
        with self.box.open(self.endpoint, self.place, HOLDER, wait_s=WAIT_S) as workspace:
            ended = workspace.start(job, seen.out, seen.err).wait(WAIT_S)
        return replace(ended, duration_ms=0), bytes(seen.stdout), bytes(seen.stderr)


class Seen:
    """What a job wrote, and what was told of its connection. `first` is set with the first output."""

    def __init__(self, on_chunk: Callable[[], None] = lambda: None) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.told: list[str] = []
        self.first = threading.Event()
        self._on_chunk = on_chunk

    def out(self, chunk: bytes) -> None:
        self.stdout += chunk
        self.first.set()
        self._on_chunk()

    def err(self, chunk: bytes) -> None:
        self.stderr += chunk


def shell(run_id: str, line: str, *, stdin: int | None = None) -> JobSpec:
    return JobSpec(run_id=run_id, shell=line, stdin=stdin)


def ended(code: int | None, stdout: int = 0, stderr: int = 0, *, signal: str | None = None) -> Ended:
    return Ended(exit_code=code, signal=signal, stdout_bytes=stdout, stderr_bytes=stderr, duration_ms=0)


@contextlib.contextmanager
def site_of(folder: Path, *, use_library: bool) -> Iterator[Site]:
    """Its sockets are in a folder of its own, whose name is short, as those of tests are not."""
    folder.mkdir(exist_ok=True)
    (folder / "home").mkdir()
    short = tempfile.mkdtemp(prefix="rr-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch, serving(folder / "sshd", f"SetEnv HOME={folder}/home\n") as server:
        patch.setenv("XDG_RUNTIME_DIR", short)
        try:
            yield Site(server, folder, use_library=use_library)
        finally:
            server.keys.destroy(LEASE)
            shutil.rmtree(short)


@contextlib.contextmanager
def fed(data: bytes) -> Iterator[int]:
    """A descriptor that is readable to the end of `data`."""
    reading, writing = os.pipe()

    def feed() -> None:
        with os.fdopen(writing, "wb") as file, contextlib.suppress(BrokenPipeError):
            file.write(data)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield reading
    finally:
        os.close(reading)
        thread.join()
