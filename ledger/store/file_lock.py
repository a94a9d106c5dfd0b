"""An exclusive lock on a file that the operating system frees when its holder dies."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from ledger.store.private_files import FILE_MODE

_FIRST_PAUSE_S = 0.000_05
_LONGEST_PAUSE_S = 0.001
_ASKERS_AT_MOST = 1000


class FileLock:
    """`flock` on one file, made if missing (0600) and never removed: a removed file could be locked twice.

    The descriptor is not inherited by child processes, so that only this process's end frees it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)

    def try_acquire(self, *, sleep: Callable[[float], None] = time.sleep) -> bool:
        """Takes the lock if nobody holds it.

        Who only asks whether it is held has it shared, for an instant: that is not holding it, so it is tried again.
        """
        for _ in range(_ASKERS_AT_MOST):
            if self._try(fcntl.LOCK_EX):
                return True
            if not self._try(fcntl.LOCK_SH):
                return False
            self.release()
            sleep(_LONGEST_PAUSE_S)
        return False

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def acquire(
        self,
        timeout_s: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> bool:
        """Waits for the lock at most `timeout_s`, looking again after a short, growing pause."""
        return self._try(fcntl.LOCK_EX) or self._wait(timeout_s, monotonic, sleep)

    def _wait(self, timeout_s: float, monotonic: Callable[[], float], sleep: Callable[[float], None]) -> bool:
        deadline = monotonic() + timeout_s
        pause_s = _FIRST_PAUSE_S
        while monotonic() < deadline:
            sleep(pause_s)
            if self._try(fcntl.LOCK_EX):
                return True
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
        return False

    def is_at(self, path: Path) -> bool:
        """Whether this is still the file that another process would open at `path`."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), path.lstat())
        except OSError:
            return False

    def release(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def read(self) -> str:
        """What its holder left in the file."""
        return os.pread(self._descriptor, 4096, 0).decode(errors="replace")

    def write(self, line: str) -> None:
        os.ftruncate(self._descriptor, os.pwrite(self._descriptor, line.encode(errors="replace"), 0))

    def close(self) -> None:
        """Frees the lock, if held, with the descriptor; twice is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
