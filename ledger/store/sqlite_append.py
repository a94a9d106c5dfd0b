"""One write transaction on a SQLite ledger: events, chain and claims, all or nothing."""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime

from ledger.domain.errors import Conflict
from ledger.domain.events import ACCOUNT_STREAM, AccountEvent, LeaseEvent
from ledger.domain.evolve import replay
from ledger.domain.rows import GENESIS, Head, Row
from ledger.domain.state import Lease, Recorded
from ledger.store import sqlite_text as sql
from ledger.store.chain import event_hash
from ledger.store.codec import encode, recorded_stream, time_text
from ledger.store.projection import fold, project


class SqliteTransaction:
    """The writing side of one `BEGIN IMMEDIATE`; of no use after it. Errors of SQLite pass through to the register."""

    __slots__ = ("_cursor", "_head", "_is_known")

    def __init__(self, cursor: sqlite3.Cursor, guessed_head: Head | None = None) -> None:
        """`guessed_head` is what this connection wrote last: the head, unless another one has written since.

        The first append tries it, which spares a read. The database refuses an event that does not follow its newest
        one, by position and hash (the trigger `events_in_order`); then the head is read.
        """
        self._cursor = cursor
        self._head = guessed_head
        self._is_known = False

    @property
    def known_head(self) -> Head | None:
        """The head, where it was read or written in this transaction."""
        return self._head if self._is_known else None

    def load(self, lease_id: str) -> Lease:
        return load(self._cursor, lease_id)

    def head(self) -> Head:
        """Read once: nobody else can append while this transaction lasts."""
        if self._head is None or not self._is_known:
            found = self._cursor.execute(sql.HEAD).fetchone()
            self._head = Head._make(found) if found else Head(0, GENESIS, None)
            self._is_known = True
        return self._head

    def append(self, lease: Lease, facts: Sequence[LeaseEvent], *, at: datetime, actor: str) -> Lease:
        for fact in facts:
            try:
                event = self._insert(lease.lease_id, lease.sequence + 1, fact, at, actor)
            except sqlite3.IntegrityError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_CONSTRAINT_TRIGGER:
                    raise
                name = lease.slug or lease.lease_id
                raise Conflict(f"lease {name} has changed meanwhile, try again", lease_id=lease.lease_id) from error
            lease, failure = fold(lease, event)
            head = self.head()
            project(self._cursor, lease, head.position, failure, event, head.recorded_at)
        return lease

    def append_account(self, fact: AccountEvent, *, at: datetime, actor: str) -> int:
        newest = self._cursor.execute(sql.STREAM_SEQUENCE, (ACCOUNT_STREAM,)).fetchone()[0]
        self._insert(ACCOUNT_STREAM, newest + 1, fact, at, actor)
        return self.head().position

    def slug_holder(self, slug: str) -> str | None:
        return self._holder(sql.SLUG_HOLDER, slug)

    def instance_holder(self, instance_id: str) -> str | None:
        return self._holder(sql.INSTANCE_HOLDER, instance_id)

    def _holder(self, statement: str, value: str) -> str | None:
        found = self._cursor.execute(statement, (value,)).fetchone()
        return None if found is None else str(found[0])

    def _insert(
        self, stream: str, sequence: int, fact: LeaseEvent | AccountEvent, at: datetime, actor: str
    ) -> Recorded:
        if at.tzinfo is None:
            raise TypeError("a fact is recorded at a time with a zone")
        head = self._head or self.head()
        position, recorded_at = head.position + 1, time_text(at)
        payload, event = encode(fact)
        covered = (position, stream, sequence, fact.TYPE, fact.VERSION, recorded_at, actor, payload)
        digest = event_hash(head.hash, covered)
        try:
            self._cursor.execute(sql.INSERT_EVENT, (*covered, head.hash, digest))
        except sqlite3.IntegrityError:
            if self._is_known:
                raise
            self.head()  # the guess may have been wrong
            return self._insert(stream, sequence, fact, at, actor)
        self._head = Head(position, digest, recorded_at)
        self._is_known = True
        return Recorded(stream=stream, sequence=sequence, recorded_at=at.astimezone(UTC), actor=actor, event=event)


def load(connection: sqlite3.Connection | sqlite3.Cursor, lease_id: str) -> Lease:
    """The lease as its stream says. Raises `IntegrityFailure` where one of its events cannot be read."""
    rows: list[Row] = []
    while page := connection.execute(sql.STREAM_ROWS, (lease_id, rows[-1].sequence if rows else 0)).fetchall():
        rows += [Row(*values) for values in page]
    return replay(lease_id, recorded_stream(rows))
