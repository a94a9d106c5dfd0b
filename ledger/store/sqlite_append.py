"""One write transaction on a SQLite ledger: events, chain and claims, all or nothing."""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime

from ledger.domain.errors import Conflict
from ledger.domain.events import ACCOUNT_STREAM, AccountEvent, LeaseEvent
from ledger.domain.evolve import replay
from ledger.domain.rows import GENESIS, Head, Row
from ledger.domain.state import Lease, Recorded
from ledger.domain.units import format_time
from ledger.store import sqlite_text as sql
from ledger.store.chain import event_hash
from ledger.store.codec import encode, recorded_stream
from ledger.store.projection import fold, project


class SqliteTransaction:
    """The writing side of one `BEGIN IMMEDIATE`; of no use after it. Errors of SQLite pass through to the register."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._head: Head | None = None
        self._position = 0

    def load(self, lease_id: str) -> Lease:
        return load(self._connection, lease_id)

    def head(self) -> Head:
        """Read once: nobody else can append while this transaction lasts."""
        if self._head is None:
            found = self._connection.execute(sql.HEAD).fetchone()
            self._head = Head(*found) if found else Head(0, GENESIS, None)
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
            project(self._connection, lease, self._position, failure, event)
        return lease

    def append_account(self, fact: AccountEvent, *, at: datetime, actor: str) -> int:
        newest = self._connection.execute(sql.STREAM_SEQUENCE, (ACCOUNT_STREAM,)).fetchone()[0]
        self._insert(ACCOUNT_STREAM, newest + 1, fact, at, actor)
        return self.head().position

    def slug_holder(self, slug: str) -> str | None:
        return self._holder(sql.SLUG_HOLDER, slug)

    def instance_holder(self, instance_id: str) -> str | None:
        return self._holder(sql.INSTANCE_HOLDER, instance_id)

    def _holder(self, statement: str, value: str) -> str | None:
        found = self._connection.execute(statement, (value,)).fetchone()
        return None if found is None else str(found[0])

    def _insert(
        self, stream: str, sequence: int, fact: LeaseEvent | AccountEvent, at: datetime, actor: str
    ) -> Recorded:
        if at.tzinfo is None:
            raise TypeError("a fact is recorded at a time with a zone")
        head = self.head()
        position, recorded_at = head.position + 1, format_time(at)
        payload, event = encode(fact)
        covered = (position, stream, sequence, fact.TYPE, fact.VERSION, recorded_at, actor, payload)
        digest = event_hash(head.hash, covered)
        self._connection.execute(sql.INSERT_EVENT, (*covered, head.hash, digest))
        self._head = Head(position, digest, recorded_at)
        self._position = position
        return Recorded(stream=stream, sequence=sequence, recorded_at=at.astimezone(UTC), actor=actor, event=event)


def load(connection: sqlite3.Connection, lease_id: str) -> Lease:
    """The lease as its stream says. Raises `IntegrityFailure` where one of its events cannot be read."""
    rows: list[Row] = []
    while page := connection.execute(sql.STREAM_ROWS, (lease_id, rows[-1].sequence if rows else 0)).fetchall():
        rows += [Row(*values) for values in page]
    return replay(lease_id, recorded_stream(rows))
