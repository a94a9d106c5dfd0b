"""A durable append, with its hash and its claim, against a bare insert and commit, in one process and one folder.

`append.py FOLDER ROUNDS` prints the ratios of the rates as JSON, one for each round; the application's own Python
runs it. `append.py FOLDER trace ours|bare COUNT` appends COUNT times and nothing else, for a count of the fsyncs.
"""

import gc
import json
import os
import sqlite3
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import msgspec

# Last, so that what is measured is the installed program and not the checkout.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from ledger.domain import events as e
from ledger.domain.state import Lease
from ledger.store.sqlite import open_sqlite
from tests.bench.make_ledger import ACTOR, created

APPENDS = 300
STRETCH = 30
PAYLOAD_BYTES = 355
LEASE_ID = "rl_" + "a" * 26
TEXT = "x" * PAYLOAD_BYTES
NOW = datetime(2026, 9, 20, 2, 0, tzinfo=UTC)
TABLE = """CREATE TABLE events (position INTEGER PRIMARY KEY, stream TEXT NOT NULL, sequence INTEGER NOT NULL,
    type TEXT NOT NULL, version INTEGER NOT NULL, recorded_at TEXT NOT NULL, actor TEXT NOT NULL,
    payload TEXT NOT NULL, UNIQUE (stream, sequence))"""
INSERT = "INSERT INTO events (stream, sequence, type, version, recorded_at, actor, payload) VALUES (?,?,?,?,?,?,?)"


def facts() -> list[e.LeaseEvent]:
    """What each append appends: facts of one length that leave a lease as large as it was."""

    def of(number: int, digest: str) -> e.SyncFinished:
        return e.SyncFinished(
            files=5000,
            sent_files=10_000 + number,
            sent_bytes=44_700_000,
            deleted_files=1,
            duration_ms=900,
            manifest_digest=digest,
        )

    shortest = msgspec.json.encode(of(0, ""))
    return [of(number, "d" * (PAYLOAD_BYTES - len(shortest))) for number in range(APPENDS)]


def ours(folder: Path) -> Callable[[int], None]:
    """One append through the store: its queue, its transaction, the chain and the claim."""
    register = open_sqlite(folder / "ours.db", create=True, random_bytes=os.urandom, now=lambda: NOW)
    with register.transaction() as transaction:
        lease = transaction.append(Lease(lease_id=LEASE_ID), created(LEASE_ID, 1, NOW), at=NOW, actor=ACTOR)
    ready = facts()
    times = [NOW + timedelta(milliseconds=number) for number in range(APPENDS)]

    def append(number: int) -> None:
        nonlocal lease
        with register.transaction() as transaction:
            lease = transaction.append(lease, [ready[number]], at=times[number], actor=ACTOR)

    append(0)
    stored = [len(row.payload) for row in register.rows(LEASE_ID)][-1]
    if stored != PAYLOAD_BYTES:
        raise RuntimeError(f"a payload of {stored} bytes, not {PAYLOAD_BYTES}")
    return append


def bare(folder: Path) -> Callable[[int], None]:
    """One insert and commit on a connection with the store's own pragmas, on a table of the same columns."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(TABLE)
    sequence = 0

    def append(_: int) -> None:
        nonlocal sequence
        sequence += 1
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(INSERT, (LEASE_ID, sequence, "sync-finished", 1, "2026-09-20T02:00:00.000000Z", ACTOR, TEXT))
        connection.execute("COMMIT")

    return append


def seconds(append: Callable[[int], None], numbers: range) -> float:
    """How long an append of each number takes."""
    started = perf_counter()
    for number in numbers:
        append(number)
    return perf_counter() - started


def rates(folder: Path, rounds: int) -> list[float]:
    """Our rate as a part of the bare one, round by round; within a round both take turns in short stretches."""
    theirs, mine = bare(folder), ours(folder)
    gc.freeze()  # what was imported is no part of an append
    found = []
    for _ in range(rounds + 1):
        bare_s = ours_s = 0.0
        for first in range(0, APPENDS, STRETCH):
            stretch = range(first, first + STRETCH)
            bare_s += seconds(theirs, stretch)
            ours_s += seconds(mine, stretch)
        found.append(bare_s / ours_s)
    return found[1:]  # the first one warms the caches


if __name__ == "__main__":
    root = Path(sys.argv[1])
    if sys.argv[2] == "trace":
        seconds({"ours": ours, "bare": bare}[sys.argv[3]](root), range(int(sys.argv[4])))
    else:
        sys.stdout.write(json.dumps(rates(root, int(sys.argv[2]))) + "\n")
