"""Walks a whole ledger once and names everything that does not hold, going on after each.

What is checked: the declared schema; positions without a gap; each hash over the exact stored text and the hash
before it; each stream's sequence; that each event can be read; that the claims are what the log comes to. Memory
follows what is open, not how much has happened.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import chain, groupby, pairwise
from typing import Any

from ledger.domain.claim import Claim
from ledger.domain.errors import IntegrityFailure
from ledger.domain.rows import GENESIS, Problem, Row, Verification
from ledger.store import sqlite_text as sql
from ledger.store.chain import event_hash
from ledger.store.rebuild import ClaimRebuild

_BEFORE_ALL = -(2**63)


def verify_ledger(connection: sqlite3.Connection) -> Verification:
    """What a walk finds. The connection must hold one snapshot; nothing is written to it."""
    problems = [*_schema(connection)]
    scratch = new_claims_table()
    try:
        rebuild = ClaimRebuild(scratch, lambda stream: _pages(connection, sql.STREAM_ROWS, 2, (stream,)))
        events, head_hash = _walk(connection, rebuild, problems)
        rebuild.finish()
        problems += _sequences(connection, events)
        problems += _projection(connection, scratch, rebuild.damaged)
    finally:
        scratch.close()
    return Verification(events, head_hash, tuple(problems))


def new_claims_table() -> sqlite3.Connection:
    """An empty `claims` table with its indexes, in a private temporary file that SQLite removes."""
    scratch = sqlite3.connect("", isolation_level=None)
    scratch.execute("PRAGMA journal_mode = OFF")
    for name, statement in sql.SCHEMA.items():
        if name.startswith("claims"):
            scratch.execute(statement)
    scratch.execute("BEGIN")
    return scratch


def _schema(connection: sqlite3.Connection) -> Iterator[Problem]:
    found = {name: text for name, text in connection.execute("SELECT name, sql FROM sqlite_master") if text}
    for name, statement in sql.SCHEMA.items():
        kind = statement.split(name)[0].strip().removeprefix("CREATE").strip().lower()
        if name not in found:
            yield Problem(0, "schema", f"the {kind} {name} is missing")
        elif _words(found[name]) != _words(statement):
            yield Problem(0, "schema", f"the {kind} {name} is not the declared one")


def _words(text: str) -> list[str]:
    return text.replace("(", " ( ").replace(")", " ) ").replace(",", " , ").split()


def _pages(connection: sqlite3.Connection, statement: str, key: int, fixed: tuple[str, ...] = ()) -> Iterator[Row]:
    after = _BEFORE_ALL
    while page := connection.execute(statement, (*fixed, after)).fetchall():
        yield from map(Row._make, page)
        after = page[-1][key]


def _walk(connection: sqlite3.Connection, rebuild: ClaimRebuild, problems: list[Problem]) -> tuple[int, str]:
    count, position, head_hash = 0, 0, GENESIS
    for row in _pages(connection, sql.ROWS, 0):
        count += 1
        problems += _link(row, position, head_hash)
        position, head_hash = row.position, row.hash
        try:
            rebuild.feed(row)
        except IntegrityFailure as error:
            problems.append(Problem(row.position, "payload", error.message))
    return count, head_hash


def _link(row: Row, before: int, hash_before: str) -> Iterator[Problem]:
    if row.position != before + 1:
        yield Problem(row.position, "chain", f"event {row.position} follows event {before}: positions have no gaps")
    if row.prev_hash != hash_before:
        yield Problem(row.position, "chain", f"event {row.position} does not follow the event that stands before it")
    try:
        intact = event_hash(row.prev_hash, row[:8]) == row.hash
    except ValueError:
        intact = False
    if not intact:
        yield Problem(row.position, "chain", f"event {row.position} is not what its hash covers: it was changed")


def _sequences(connection: sqlite3.Connection, events: int) -> Iterator[Problem]:
    """Read from the index of (stream, sequence) alone, which must agree with the table in number."""
    count = 0
    places: Iterable[tuple[str, int, int]] = connection.execute(sql.STREAM_PLACES)
    start = ("", 0, 0)
    for (stream_before, *before), (stream, sequence, position) in pairwise(chain([start], places)):
        count += 1
        last, last_position = before if stream == stream_before else (0, 0)
        if sequence != last + 1:
            text = f"event {position} of {stream} has sequence {sequence}, after {last}"
            yield Problem(position, "sequence", text)
        if position <= last_position:
            text = f"event {position} of {stream} has sequence {sequence} but stands before sequence {last}"
            yield Problem(position, "sequence", text)
    if count != events:
        yield Problem(0, "schema", f"the index of streams holds {count} events, the table {events}")


def _projection(connection: sqlite3.Connection, rebuilt: sqlite3.Connection, damaged: set[str]) -> Iterator[Problem]:
    """Compares the two tables in the order of lease ids; a damaged lease has no right claim to compare with."""
    sides = merge(_claims(connection, "stored"), _claims(rebuilt, "right"), key=_lease_id)
    for _, same_lease in groupby(sides, key=_lease_id):
        found = dict(same_lease)
        stored, right = found.get("stored"), found.get("right")
        claim = right or stored
        if claim is None or claim.lease_id in damaged or stored == right:
            continue
        if right is None:
            message = f"claim {claim.lease_id} has no events in the log"
        elif stored is None:
            message = f"lease {claim.lease_id} has no claim"
        else:
            message = _difference(stored, right)
        yield Problem(claim.position, "projection", message)


def _claims(connection: sqlite3.Connection, side: str) -> Iterator[tuple[str, Claim]]:
    rows: Iterable[tuple[Any, ...]] = connection.execute(sql.CLAIMS_BY_LEASE)
    return ((side, Claim._make(row)) for row in rows)


def _lease_id(item: tuple[str, Claim]) -> str:
    return item[1].lease_id


def _difference(stored: Claim, right: Claim) -> str:
    fields = [name for name in Claim._fields if getattr(stored, name) != getattr(right, name)]
    return f"claim {right.lease_id} is not what its events come to: {', '.join(fields)}"
