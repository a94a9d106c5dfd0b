"""Reads of a SQLite ledger, for listings and reports: claims and rows, without understanding an event.

It must stay cheap to import: `sqlite3`, `os` and named tuples, nothing else; `rentroll list` is this and a table.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, Self

from ledger.domain.claim import Claim, newest_first
from ledger.domain.errors import IntegrityFailure
from ledger.domain.rows import GENESIS, Head, Row, Verification
from ledger.store import sqlite_text as sql
from ledger.store.sqlite_connect import connect_to_read, exists
from ledger.store.sqlite_errors import sqlite_errors

ACCOUNT = "account"
"""The account's stream: `ledger.domain.events`, which a listing does not load, says the same."""


class SqliteReader:
    """The reading half of `Register`, on one connection of one thread."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self._path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with sqlite_errors(self._path):
            self._connection.close()

    def _query(self, text: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        with sqlite_errors(self._path):
            return self._connection.execute(text, parameters).fetchall()

    def head(self) -> Head:
        found = self._query(sql.HEAD)
        return Head(*found[0]) if found else Head(0, GENESIS, None)

    def ledger_id(self) -> str:
        """The ledger's own name, made with it: a copy has it too."""
        return str(self._meta()[0])

    def salt(self) -> bytes:
        return bytes.fromhex(self._meta()[1])

    def _meta(self) -> tuple[str, str, str]:
        found: list[tuple[str, str, str]] = self._query(sql.META)
        if not found:
            raise IntegrityFailure(f"the ledger {self._path} has lost its identity", hint="put a backup in its place")
        return found[0]

    def verify(self) -> Verification:
        from ledger.store.verify import verify_ledger

        with sqlite_errors(self._path):
            connection = connect_to_read(self._path)
            try:
                # One snapshot: an append meanwhile must not look like a claim that is ahead of the log.
                connection.execute("BEGIN")
                return verify_ledger(connection)
            finally:
                connection.close()

    def claim(self, lease_id: str) -> Claim | None:
        found = self._query(sql.CLAIM, (lease_id,))
        return Claim(*found[0]) if found else None

    def claims(self, *, include_released: bool = False) -> list[Claim]:
        return [Claim(*row) for row in self._query(sql.ALL_CLAIMS if include_released else sql.OPEN_CLAIMS)]

    def find(self, name: str) -> list[Claim]:
        found = (
            self._query(sql.CLAIM, (name,))
            or self._query(sql.CLAIM_BY_SLUG, (name,))
            or self._query(sql.CLAIMS_BY_INSTANCE, (name, name))
        )
        return [Claim(*row) for row in found]

    def released_since(self, moment: str) -> list[Claim]:
        return [Claim(*row) for row in self._query(sql.RELEASED_SINCE, (moment,))]

    def suspects(self, since: str) -> list[Claim]:
        return newest_first([Claim(*row) for row in self._query(sql.SUSPECTS, (since, since))])

    def rows(self, stream: str | None = None, *, after: int = 0, types: Iterable[str] = ()) -> Iterator[Row]:
        """Events in order of position, a page at a time: no snapshot is held between two pages."""
        wanted = frozenset(types)
        pages = self._stream_pages(stream) if stream not in (None, ACCOUNT) else self._pages(stream, after)
        for page in pages:
            for values in page:
                row = Row(*values)
                if row.position > after and (not wanted or row.type in wanted):
                    yield row

    def _pages(self, stream: str | None, after: int) -> Iterator[list[Any]]:
        while page := self._query(sql.ROWS if stream is None else sql.ACCOUNT_ROWS, (after,)):
            yield page
            after = page[-1][0]

    def _stream_pages(self, stream: str) -> Iterator[list[Any]]:
        sequence = 0
        while page := self._query(sql.STREAM_ROWS, (stream, sequence)):
            yield page
            sequence = page[-1][2]


def open_sqlite_reader(path: str | os.PathLike[str]) -> SqliteReader | None:
    """The ledger at `path` for reading, or None where there is none; never makes a file.

    Raises `UsageFailure` where it cannot be opened, is no ledger or needs an upgrade, `IntegrityFailure` where it is
    empty or newer than this program.
    """
    text = os.fspath(path)
    with sqlite_errors(text):
        return SqliteReader(connect_to_read(text), text) if exists(text) else None
