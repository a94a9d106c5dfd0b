"""A run's folder on the box: who supervises it, how it ended, its log and the socket that leads to its supervisor.

The supervisor holds an flock on the file `pid` while it lives, so that a run whose supervisor was killed is told from
one that
runs: by a lock that the system frees, never by a process id that another process may have by now.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_SEQPACKET, socket
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock

from providers.agent import jsontext
from providers.agent.session import Failed, take_folder

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from typing import Any

SOCKET = "socket"
"""The name of the socket in the folder."""
_KEPT_RUNS = 20
_TRAILER_BYTES = 1024
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")


class Run:
    """The folder of one run, as its supervisor has it. Making it raises Failed where the run is there already."""

    def __init__(self, state: str, run_id: str) -> None:
        self.path = run_path(state, run_id)
        runs = take_folder(os.path.join(take_folder(state), "runs"))
        new = os.path.join(runs, f".{run_id}")  # nobody looks at it before its lock is held and its socket listens
        os.mkdir(new, 0o700)
        self._held = _made(os.path.join(new, "pid"))
        flock(self._held, LOCK_EX)
        self._trailer = _made(os.path.join(new, "ended.json"))
        try:  # the room that the trailer will need, taken while there is some
            os.pwrite(self._trailer, b" " * _TRAILER_BYTES, 0)
        except OSError:
            pass
        os.chdir(new)
        self.listener = socket(AF_UNIX, SOCK_SEQPACKET)
        self.listener.bind(SOCKET)  # a path from here: a whole one may be longer than an address may be
        self.listener.listen()
        try:
            os.rename(new, self.path)
        except OSError:
            self.close()
            remove(new)
            raise Failed("protocol", f"the run {run_id} is there already", self.path) from None

    def say_pid(self, pid: int) -> None:
        """Writes which process the job is. What does not fit on a full disk is done without."""
        try:
            os.pwrite(self._held, jsontext.encode({"pid": pid}), 0)
        except OSError:
            pass

    def script(self, text: bytes) -> str:
        """Writes a script that is to be run, and gives its path."""
        path = os.path.join(self.path, "script")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o700)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
        return path

    def say_ended(self, ended: dict[str, Any]) -> bool:
        """Writes durably how the run ended. False where the disk would not take it."""
        try:
            os.pwrite(self._trailer, jsontext.encode(ended), 0)
            os.fsync(self._trailer)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """The supervisor is done with the run."""
        self.listener.close()
        os.close(self._trailer)
        os.close(self._held)


def run_path(state: str, run_id: object) -> str:
    """The folder of a run. Raises ValueError for what is no plain name."""
    if not isinstance(run_id, str) or not run_id or run_id.startswith(".") or not _NAME.issuperset(run_id):
        raise ValueError(f"{run_id!r} is no run id")
    return os.path.join(state, "runs", run_id)


def supervised(path: str, *, wait: bool = False) -> bool:
    """Whether the run's supervisor lives. With `wait` it is False, once that has ended."""
    try:
        descriptor = os.open(os.path.join(path, "pid"), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        flock(descriptor, LOCK_SH if wait else LOCK_SH | LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def pid_of(path: str) -> int | None:
    """The process that the job is or was."""
    pid = _read(os.path.join(path, "pid")).get("pid")
    return pid if isinstance(pid, int) else None


def ended_of(path: str) -> dict[str, Any] | None:
    """How the run ended; None while it runs, and where its supervisor was killed."""
    return _read(os.path.join(path, "ended.json")) or None


def remove_old(state: str, keep: int = _KEPT_RUNS) -> None:
    """Removes the oldest folders of finished runs, until `keep` are left."""
    runs = os.path.join(state, "runs")
    paths = [os.path.join(runs, name) for name in os.listdir(runs)]
    excess = len(paths) - keep
    if excess <= 0:
        return
    for path in sorted(paths, key=lambda path: os.stat(path).st_mtime_ns):
        if excess > 0 and not supervised(path):
            remove(path)
            excess -= 1


def remove(path: str) -> None:
    """Removes a run's folder."""
    for name in os.listdir(path):
        os.unlink(os.path.join(path, name))
    os.rmdir(path)


def _made(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _read(path: str) -> dict[str, Any]:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return {}
    try:
        return jsontext.decode(os.read(descriptor, 65_536))
    except ValueError:
        return {}
    finally:
        os.close(descriptor)
