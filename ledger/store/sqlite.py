"""The ledger in one SQLite file: what the flows append to and read from."""

import os
import sqlite3
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, overload

from ledger.domain.errors import IntegrityFailure
from ledger.domain.events import ACCOUNT_STREAM, InventoryObserved
from ledger.domain.state import Lease
from ledger.domain.suspects import Seen
from ledger.store import sqlite_text as sql
from ledger.store.codec import recorded
from ledger.store.file_lock import FileLock
from ledger.store.sqlite_append import load
from ledger.store.sqlite_connect import BUSY_TIMEOUT_S, connect, exists
from ledger.store.sqlite_errors import sqlite_errors
from ledger.store.sqlite_read import SqliteReader
from ledger.store.sqlite_writing import SqliteWriting


@overload
def open_sqlite(
    path: str | os.PathLike[str],
    *,
    create: Literal[True],
    random_bytes: Callable[[int], bytes],
    now: Callable[[], datetime],
    busy_timeout_s: float = BUSY_TIMEOUT_S,
) -> "SqliteRegister": ...
@overload
def open_sqlite(
    path: str | os.PathLike[str],
    *,
    create: bool,
    random_bytes: Callable[[int], bytes],
    now: Callable[[], datetime],
    busy_timeout_s: float = BUSY_TIMEOUT_S,
) -> "SqliteRegister | None": ...
def open_sqlite(
    path: str | os.PathLike[str],
    *,
    create: bool,
    random_bytes: Callable[[int], bytes],
    now: Callable[[], datetime],
    busy_timeout_s: float = BUSY_TIMEOUT_S,
) -> "SqliteRegister | None":
    """The ledger at `path`; with `create` it is made if missing, without it a missing one is None.

    `random_bytes` and `now` make the identity of a new ledger. Each write waits at most `busy_timeout_s` for its turn.
    Raises `UsageFailure` where it cannot be opened, is no ledger or needs an upgrade, `IntegrityFailure` where it is
    empty or newer than this program, `Conflict` where another process holds it for too long.
    """
    text = os.path.abspath(path)  # noqa: PTH100 - Path.absolute keeps `..`
    with sqlite_errors(text):
        if not exists(text):
            if not create:
                return None
            from ledger.store.sqlite_create import create_ledger

            create_ledger(Path(text), random_bytes=random_bytes, now=now, timeout_s=busy_timeout_s)
        return SqliteRegister(connect(text, busy_timeout_s=busy_timeout_s), text, busy_timeout_s)


class SqliteRegister(SqliteReader):
    """`ledger.domain.register.Register` on one connection, which the threads of a process may share."""

    def __init__(self, connection: sqlite3.Connection, path: str, busy_timeout_s: float) -> None:
        super().__init__(connection, path)
        self._busy_timeout_s = busy_timeout_s
        self._mutex = threading.RLock()
        self._lock: FileLock | None = None
        self._writing: SqliteWriting | None = None

    def close(self) -> None:
        with self._mutex:
            super().close()
            if self._lock is not None:
                self._lock.close()
                self._lock = self._writing = None

    def load(self, lease_id: str) -> Lease:
        with self._mutex, sqlite_errors(self._path):
            return load(self._connection, lease_id)

    def transaction(self) -> SqliteWriting:
        """Alone on the ledger until the end of the block, which commits; any exception takes everything back.

        Raises `Conflict` if its turn does not come in time. Transactions do not nest.
        """
        return self._writing or self._first_writing()

    def first_position(self, stream: str) -> int:
        found = self._query(sql.FIRST_POSITION, (stream,))
        return int(found[0][0]) if found else 0

    def inventories(self, *, after: int) -> list[Seen]:
        found: list[Seen] = []
        for row in self.rows(ACCOUNT_STREAM, after=after, types=(InventoryObserved.TYPE,)):
            try:
                fact = recorded(row)
            except IntegrityFailure:
                found.clear()  # it may have shown a box: what came before it proves nothing any more
                continue
            observed: Any = fact.event
            found.append(Seen(position=row.position, recorded_at=fact.recorded_at, fact=observed))
        return found

    def _query(self, text: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        with self._mutex:
            return super()._query(text, parameters)

    def _first_writing(self) -> SqliteWriting:
        with self._mutex:
            if self._lock is None or self._writing is None:
                with sqlite_errors(self._path):
                    self._lock = FileLock(Path(f"{self._path}.lock"))
                    self._writing = SqliteWriting(
                        self._connection, self._path, self._mutex, self._lock, self._busy_timeout_s
                    )
            return self._writing
