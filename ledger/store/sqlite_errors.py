"""What a failure of SQLite or of the file below it is to a user. Imports nothing that a listing would not load."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ledger.domain.errors import Conflict, IntegrityFailure, RentrollError, UsageFailure

_PRIMARY_CODE = 0xFF
"""SQLite's extended result codes carry the primary one in their low byte (sqlite.org/rescode.html)."""


@contextmanager
def sqlite_errors(path: str) -> Iterator[None]:
    """Turns errors of the database file and of the operating system into ours; `path` names the ledger."""
    try:
        yield
    except sqlite3.Error as error:
        raise ledger_error(error, path) from error
    except OSError as error:
        raise file_error(error, path) from error


def ledger_error(error: sqlite3.Error, path: str) -> RentrollError:
    """The error to raise for one of SQLite's."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY_CODE
    match code:
        case sqlite3.SQLITE_FULL:
            return UsageFailure(
                "the ledger cannot be written: disk full",
                hint=f"nothing of this step was recorded; make room where {path} is, then try again",
            )
        case sqlite3.SQLITE_READONLY:
            return UsageFailure(
                "the ledger cannot be written: it is read-only",
                hint=f"check the permissions of {path}, of its folder and of its file system",
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return busy(path)
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return UsageFailure(
                f"the ledger {path} cannot be opened",
                hint="it must be a file that you may read and write, in a folder that you may write in",
            )
        case sqlite3.SQLITE_NOTADB:
            return not_a_ledger(path)
        case sqlite3.SQLITE_IOERR:
            return UsageFailure(
                f"the ledger cannot be read or written: {error}",
                hint=f"nothing of this step was recorded; check that the file system of {path} works and has room",
            )
        case _:
            return IntegrityFailure(
                f"the ledger {path} is damaged: {error}",
                hint="keep a copy of it before anything else",
                next_step="rentroll verify",
            )


def file_error(error: OSError, path: str) -> RentrollError:
    """The error to raise where the file or its folder could not be reached."""
    return UsageFailure(
        f"the ledger {path} cannot be opened: {(error.strerror or str(error)).lower()}",
        hint="it must be a file that you may read and write, in a folder that you may write in",
    )


def busy(path: str) -> Conflict:
    """Other processes held the ledger for too long."""
    return Conflict(
        f"the ledger {path} is busy: another process is writing to it",
        hint="a write takes milliseconds; a process that is stopped or hangs may hold it",
    )


def not_a_ledger(path: str) -> UsageFailure:
    return UsageFailure(
        f"{path} is not a ledger of rentroll",
        hint="check the setting ledger.url; nothing was changed in that file",
    )
