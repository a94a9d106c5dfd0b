"""Opens the file of a ledger and makes sure that it is one which this program understands."""

import os
import sqlite3

from ledger.domain.errors import IntegrityFailure, UsageFailure
from ledger.store.sqlite_errors import not_a_ledger

APPLICATION_ID = 0x72656E74
"""`rent`: what tells a ledger from any other SQLite file (PRAGMA application_id). It never changes."""
SCHEMA_VERSION = 1
"""The schema that this program reads and writes (PRAGMA user_version): the number of its newest migration."""
BUSY_TIMEOUT_S = 10.0
"""How long a process waits for its turn to write before it says that the ledger is busy."""

_NO_FILE_BESIDE = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_READONLY_CANTINIT,
    sqlite3.SQLITE_READONLY_DIRECTORY,
    sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_SHMSIZE,
)
"""What SQLite says where it cannot make the file by which a write-ahead log is read (sqlite.org/rescode.html)."""


def exists(path: str) -> bool:
    """Whether there is anything at `path`. A missing folder is a missing ledger; one that cannot be one raises."""
    try:
        os.stat(path)  # noqa: PTH116 - pathlib is not worth its import to a listing
    except FileNotFoundError:
        return False
    return True


def connect(path: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """A connection to an existing ledger; never makes a file. Raises `sqlite3.Error` as well as our own errors."""
    connection = connect_unchecked(path, busy_timeout_s=busy_timeout_s)
    try:
        _check_version(connection, path)
        # FULL makes a commit in WAL mode durable: one fsync (sqlite.org/pragma.html#pragma_synchronous).
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: str) -> sqlite3.Connection:
    """The same for reading, also where nothing can be written: a file system that is read-only, or full.

    A write-ahead log is read by way of a file that SQLite makes beside it. Where it cannot, the ledger is read as one
    that does not change; with events that are only in the log that would hide them, so it is refused. Raises as
    `connect` does.
    """
    try:
        return connect(path)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in _NO_FILE_BESIDE or not os.path.isfile(path):  # noqa: PTH113
            raise
        if _size(f"{path}-wal"):
            raise UsageFailure(
                f"the newest events of the ledger {path} are in its write-ahead log, which cannot be read where it is",
                hint=f"copy it with {os.path.basename(path)}-wal to a folder that you may write in",  # noqa: PTH119
            ) from error
    connection = connect_unchecked(path, mode="ro&immutable=1")
    try:
        _check_version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_unchecked(path: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S, mode: str = "rw") -> sqlite3.Connection:
    """A connection in autocommit mode to an existing SQLite file, whatever it holds."""
    quoted = os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")  # noqa: PTH100
    return sqlite3.connect(
        f"file://{quoted}?mode={mode}",
        uri=True,
        isolation_level=None,
        timeout=busy_timeout_s,
        check_same_thread=False,
    )


def _size(path: str) -> int:
    return os.stat(path).st_size if exists(path) else 0  # noqa: PTH116


def _check_version(connection: sqlite3.Connection, path: str) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        if os.stat(path).st_size == 0:  # noqa: PTH116
            raise IntegrityFailure(
                f"the ledger {path} is empty: it was cut off, and what it held is not in it any more",
                hint="put a backup in its place; remove the file only if no ledger ever was there",
            )
        raise not_a_ledger(path)
    if version > SCHEMA_VERSION:
        raise IntegrityFailure(
            f"the ledger {path} was written by a newer rentroll (schema {version}; this one knows {SCHEMA_VERSION})",
            hint="upgrade this program; it does not guess at what it cannot read",
        )
    if version < SCHEMA_VERSION:
        raise UsageFailure(
            f"the ledger {path} was written by an older rentroll (schema {version}; this one needs {SCHEMA_VERSION})",
            next_step="rentroll ledger upgrade",
        )
