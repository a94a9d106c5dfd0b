"""The lock of one lease: who is working on it now. That it is free is how others learn that its holder is gone."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from ledger.domain.errors import Conflict, UsageFailure
from ledger.domain.names import is_lease_id
from ledger.store.file_lock import FileLock
from ledger.store.private_files import make_private_folder

WAIT_S = 10.0


def is_worked_on(folder: Path, lease_id: str, *, by_client: bool = False) -> bool:
    """Whether a process holds a lease's lock, without making a file or waiting. A lock file that is missing is free.

    `by_client` asks for the client's lock. The lock is tried, shared and for an instant: what is written in the file
    says nothing, for its holder has the lock before it writes.
    """
    try:
        path = _lock_file(folder, lease_id, of_client=by_client)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # whose it is cannot be told: this lease is left alone, and its own turn says why
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # held, or no lock can be had here
        return True
    finally:
        os.close(descriptor)
    return False


def _lock_file(folder: Path, lease_id: str, *, of_client: bool) -> Path:
    return folder / f"{lease_id}{'.client' if of_client else ''}.lock"


class LeaseLock:
    """An exclusive lock on one lease, held by this process until it is released or the process dies.

    `folder` is where the lock files are (0700, made if missing); `purpose` tells a person what the holder is doing.
    `of_client` is a lock of its own: it says that the `run` which leased a box for itself lives, at work or not.
    """

    def __init__(self, folder: Path, lease_id: str, *, purpose: str, of_client: bool = False) -> None:
        if not is_lease_id(lease_id):
            raise UsageFailure(f"not a lease id: {lease_id!r}")
        self._path = _lock_file(folder, lease_id, of_client=of_client)
        self._lease_id = lease_id
        self._holder = f"pid {os.getpid()} on {os.uname().nodename}, {' '.join(purpose.split())}"
        self._held: FileLock | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock, and others meet it: one on a file that is gone keeps nobody out."""
        return self._held is not None and self._held.is_at(self._path)

    def acquire(
        self,
        timeout_s: float = WAIT_S,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Waits for the lock; raises `Conflict` naming the holder's pid and host after `timeout_s` seconds."""
        lock = self._open()
        try:
            if not lock.acquire(timeout_s, monotonic=monotonic, sleep=sleep):
                holder = lock.read().strip() or "another process"
                raise Conflict(
                    f"lease {self._lease_id} is being worked on by {holder}",
                    hint=f"waited {timeout_s:g} s for it",
                    lease_id=self._lease_id,
                )
            self._take(lock)
        except BaseException:
            lock.close()
            raise

    def try_acquire(self) -> bool:
        """Takes the lock if nobody holds it."""
        lock = self._open()
        try:
            if not lock.try_acquire():
                lock.close()
                return False
            self._take(lock)
        except BaseException:
            lock.close()
            raise
        return True

    def release(self) -> None:
        """Gives the lock back; twice is harmless."""
        held, self._held = self._held, None
        if held is not None:
            try:
                held.write("")
            finally:
                held.close()

    def __enter__(self) -> Self:
        if self._held is None:
            self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _open(self) -> FileLock:
        if self._held is not None:
            raise RuntimeError(f"the lock of {self._lease_id} is held already")
        try:
            make_private_folder(self._path.parent)
            return FileLock(self._path)
        except OSError as error:
            raise UsageFailure(
                f"the lock {self._path} cannot be opened: {(error.strerror or str(error)).lower()}",
                hint="its folder must be one that you may write in",
            ) from error

    def _take(self, lock: FileLock) -> None:
        lock.write(f"{self._holder}\n")
        self._held = lock
