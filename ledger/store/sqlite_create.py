"""Makes a new ledger file: under another name first, so that a crash never leaves half a ledger in its place."""

import os
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ledger.domain.errors import IntegrityFailure
from ledger.domain.units import format_time
from ledger.store import sqlite_text as sql
from ledger.store.file_lock import FileLock
from ledger.store.private_files import FILE_MODE, make_private_folder, sync_folder
from ledger.store.sqlite_connect import connect
from ledger.store.sqlite_errors import busy

_SALT_BYTES = 32
_ID_BYTES = 16


def create_ledger(
    path: Path, *, random_bytes: Callable[[int], bytes], now: Callable[[], datetime], timeout_s: float
) -> None:
    """Makes the ledger at `path` unless another process has just done so; its folder is made 0700 if missing.

    Raises `Conflict` where another process is at it for longer than `timeout_s`.
    """
    make_private_folder(path.parent)
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        if not lock.acquire(timeout_s):
            raise busy(str(path))
        if not path.exists():
            _make(path, random_bytes, now)
    finally:
        lock.close()


def _make(path: Path, random_bytes: Callable[[int], bytes], now: Callable[[], datetime]) -> None:
    if path.with_name(f"{path.name}-wal").exists():
        # SQLite would replay it into whatever stood here, and it may hold the only trace of a box.
        raise IntegrityFailure(
            f"the ledger {path} is gone but its write-ahead log is still there",
            hint=f"put the ledger or a backup back; remove {path.name}-wal only if no ledger is missing",
        )
    new = path.with_name(f"{path.name}.new")
    _remove(new)
    try:
        os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE))
        _fill(new, random_bytes, now)
        # Only holders of the lock make ledgers, so nothing can be at `path` that this would overwrite.
        new.rename(path)
        sync_folder(path.parent)
    finally:
        _remove(new)


def _fill(new: Path, random_bytes: Callable[[int], bytes], now: Callable[[], datetime]) -> None:
    from ledger.store.migrate import upgrade

    upgrade(new)
    connection = connect(str(new))
    try:
        identity = (1, f"rr_{random_bytes(_ID_BYTES).hex()}", random_bytes(_SALT_BYTES).hex(), format_time(now()))
        connection.execute(sql.INSERT_META, identity)
        # Kept in the file: every later connection is in WAL mode.
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise sqlite3.OperationalError(f"no write-ahead log on this file system (journal mode {mode})")
    finally:
        connection.close()


def _remove(new: Path) -> None:
    """What a maker that died left behind, with SQLite's own files beside it."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        new.with_name(new.name + suffix).unlink(missing_ok=True)
