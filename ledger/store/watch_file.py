"""Who enforces the ends of a ledger's leases: the lock that its one watch holds, and its note of the last pass."""

import fcntl
import os
from datetime import datetime
from pathlib import Path
from typing import Self

from msgspec import DecodeError, Struct, ValidationError, json

from ledger.domain.errors import Conflict, UsageFailure
from ledger.store.file_lock import FileLock
from ledger.store.private_files import keep_private_file, make_private_folder

LOCK_WAIT_S = 1.0
"""A reader that asks who watches holds the lock shared for an instant: that is no second watch."""


class LastPass(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The newest pass of a watch, as its note beside the ledger says.

    `once` says that no process stayed: whoever called it comes again every `interval_seconds`. `failure` is why the
    pass as a whole could not do its work, `trouble` what became of single leases. `scope` and `credential_binding` say
    whose leases it could act on.
    """

    pid: int
    host: str
    started_at: datetime
    finished_at: datetime
    interval_seconds: float
    once: bool = False
    failure: str | None = None
    trouble: str | None = None
    scope: str | None = None
    credential_binding: str | None = None


def write_last_pass(ledger_path: str, last: LastPass) -> None:
    """Puts the note in place, 0600, whole or not at all. Raises OSError."""
    keep_private_file(_note(ledger_path), json.encode(last) + b"\n")


def read_last_pass(ledger_path: str) -> LastPass | None:
    """The note; None where there is none or it is damaged: it is news, and the next pass writes it anew."""
    try:
        return json.decode(_note(ledger_path).read_bytes(), type=LastPass)
    except (OSError, DecodeError, ValidationError):
        return None


def watching(ledger_path: str) -> str | None:
    """Who holds the watch's lock now, as `pid 7 on host`; None for nobody. Makes no file and does not wait."""
    try:
        descriptor = os.open(_lock(ledger_path), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        holder = os.pread(descriptor, 4096, 0)
        if holder:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return holder.decode(errors="replace").strip()
    finally:
        os.close(descriptor)
    return None


class WatchLock:
    """The one watch of a ledger, while this is entered. Its holder's death frees it."""

    def __init__(self, ledger_path: str) -> None:
        self._path = _lock(ledger_path)
        self._held: FileLock | None = None

    def __enter__(self) -> Self:
        lock = self._open()
        try:
            if not lock.acquire(LOCK_WAIT_S):
                raise Conflict(
                    f"this ledger is watched already, by {lock.read().strip() or 'another process'}",
                    hint="one watch is enough; `rentroll doctor` says when it last ran",
                )
            lock.write(f"{me()}\n")
        except BaseException:
            lock.close()
            raise
        self._held = lock
        return self

    def __exit__(self, *_: object) -> None:
        held, self._held = self._held, None
        if held is not None:
            try:
                held.write("")
            finally:
                held.close()

    def _open(self) -> FileLock:
        try:
            make_private_folder(self._path.parent)
            return FileLock(self._path)
        except OSError as error:
            raise UsageFailure(
                f"the lock {self._path} cannot be opened: {(error.strerror or str(error)).lower()}",
                hint="its folder must be one that you may write in",
            ) from error


def me() -> str:
    """This process, as the lock names its holder."""
    return holder(os.getpid(), os.uname().nodename)


def holder(pid: int, host: str) -> str:
    """How a holder is named."""
    return f"pid {pid} on {host}"


def _note(ledger_path: str) -> Path:
    return Path(f"{ledger_path}.watch")


def _lock(ledger_path: str) -> Path:
    return Path(f"{ledger_path}.watch.lock")
