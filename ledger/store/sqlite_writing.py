"""The block in which a process is alone on a SQLite ledger: its turn, its signals, its transaction."""

import sqlite3
import threading

from ledger.store.file_lock import FileLock
from ledger.store.held_signals import HeldStops
from ledger.store.sqlite_append import SqliteTransaction
from ledger.store.sqlite_errors import busy, file_error, ledger_error


class SqliteWriting:
    """One `with` block. Threads of this process wait on `mutex`, other processes on `queue`.

    The queue stands in front of SQLite's own lock, whose busy handler starves writers when many wait. A class and
    not generators: this is on the path of every append.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: str, mutex: threading.RLock, queue: FileLock, busy_timeout_s: float
    ) -> None:
        self._connection = connection
        self._path = path
        self._mutex = mutex
        self._queue = queue
        self._busy_timeout_s = busy_timeout_s
        self._stops = HeldStops()

    def __enter__(self) -> SqliteTransaction:
        if not self._mutex.acquire(timeout=self._busy_timeout_s):
            raise busy(self._path)
        try:
            if self._connection.in_transaction:
                raise RuntimeError("transactions do not nest")
            if not self._queue.acquire(self._busy_timeout_s):
                raise busy(self._path)
        except BaseException as error:
            self._mutex.release()
            if isinstance(error, OSError):
                raise file_error(error, self._path) from error
            raise
        try:
            self._stops.hold()
            self._connection.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            self._leave()
            if isinstance(error, sqlite3.Error):
                raise ledger_error(error, self._path) from error
            raise
        return SqliteTransaction(self._connection)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            if error is None:
                self._connection.execute("COMMIT")
        except sqlite3.Error as failed:
            error = failed
        finally:
            try:
                # Also after a COMMIT that failed: SQLite takes back only some of those by itself.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            finally:
                self._leave()
        if isinstance(error, sqlite3.Error):
            raise ledger_error(error, self._path) from error

    def _leave(self) -> None:
        """Signals come through last: what they raise must not leave the ledger held."""
        self._queue.release()
        self._mutex.release()
        self._stops.let_through()
