"""A fresh ledger for each world without making one each time: a migrated file, made once in a process, is copied."""

import functools
import tempfile
from datetime import datetime
from pathlib import Path

from ledger.store.private_files import FILE_MODE
from ledger.store.sqlite import SqliteRegister, open_sqlite

MEMORY = Path("/dev/shm")


def quick_folder() -> "tempfile.TemporaryDirectory[str]":
    """A folder in memory, where there is such a thing: what a death leaves in a file does not depend on the disk."""
    return tempfile.TemporaryDirectory(prefix="rentroll-world-", dir=MEMORY if MEMORY.is_dir() else None)


def put_ledger(path: Path, made_at: datetime) -> None:
    """Puts an empty ledger at `path`. Every one has the same identity and salt: a world is to be repeatable."""
    path.touch(mode=FILE_MODE)
    path.write_bytes(_empty_ledger(made_at))


@functools.cache
def _empty_ledger(made_at: datetime) -> bytes:
    with tempfile.TemporaryDirectory(prefix="rentroll-ledger-") as folder:
        path = Path(folder) / "ledger.db"
        open_sqlite(path, create=True, random_bytes=lambda count: bytes(range(count)), now=lambda: made_at).close()
        return path.read_bytes()


def open_ledger(path: Path, made_at: datetime) -> SqliteRegister:
    """A connection to the ledger at `path`, which must be there."""
    opened = open_sqlite(path, create=False, random_bytes=bytes, now=lambda: made_at)
    if opened is None:
        raise FileNotFoundError(path)
    return opened
