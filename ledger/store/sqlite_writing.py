"""The block in which a process is alone on a SQLite ledger: its turn, its signals, its transaction."""

import sqlite3
import threading

from ledger.domain.rows import Head
from ledger.store.file_lock import FileLock
from ledger.store.held_signals import HeldStops
from ledger.store.sqlite_append import SqliteTransaction
from ledger.store.sqlite_errors import busy, file_error, ledger_error


class SqliteWriting:
    """The `with` blocks of one connection, one at a time: threads of this process wait on `mutex`, others on `queue`.

    The queue stands in front of SQLite's own lock, whose busy handler starves writers when many wait. A class and
    not generators, one object for all blocks: this is on the path of every append.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: str, mutex: threading.RLock, queue: FileLock, busy_timeout_s: float
    ) -> None:
        self._connection = connection
        self._cursor = connection.cursor()  # one for all statements: to make one is a tenth of each
        self._path = path
        self._mutex = mutex
        self._queue = queue
        self._busy_timeout_s = busy_timeout_s
        # Of the block that is open:
        self._stops = HeldStops()
        self._transaction = SqliteTransaction(self._cursor)
        # What the last block left; the next one guesses that it still is the head.
        self._head: Head | None = None

    def __enter__(self) -> SqliteTransaction:
        if not (self._mutex.acquire(False) or self._mutex.acquire(timeout=self._busy_timeout_s)):
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
        self._stops = HeldStops()
        try:
            self._stops.hold()
            self._cursor.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            self._leave()
            if isinstance(error, sqlite3.Error):
                raise ledger_error(error, self._path) from error
            raise
        self._transaction = transaction = SqliteTransaction(self._cursor, self._head)
        self._head = None  # until this block is committed
        return transaction

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            if error is None:
                self._cursor.execute("COMMIT")
                self._head = self._transaction.known_head
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
        stops = self._stops  # another thread may begin its block as soon as it has the mutex
        self._queue.release()
        self._mutex.release()
        stops.let_through()
