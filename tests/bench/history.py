"""Makes a ledger with a long past quickly: `history.py PATH EVENTS`, run by the application's own Python.

The store folds, projects and checks each fact, which takes minutes for a million. So one lease's whole life goes
through it, and the past is copies of what that wrote, each with an id, slug, box and times of its own: rows with a
valid chain, and their claims, such that `rentroll verify` finds nothing. An inventory of the account follows each
lease. The open leases are appended through the store again.
"""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec

# Last, so that what is measured is the installed program and not the checkout.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from ledger.domain import events as e
from ledger.domain.claim import Claim
from ledger.domain.names import lease_id
from ledger.domain.rows import GENESIS
from ledger.domain.state import Lease
from ledger.domain.units import format_time
from ledger.store import sqlite_text as sql
from ledger.store.chain import event_hash
from ledger.store.sqlite import SqliteRegister, open_sqlite
from ledger.store.sqlite_connect import connect
from tests.bench.make_ledger import ACTOR, HOUR, IDLE_MS, created, given_back

NOW = datetime(2026, 9, 20, 2, 0, tzinfo=UTC)
LAST_RELEASE = NOW - timedelta(days=30)
MINUTE = timedelta(minutes=1)
LATER = (timedelta(0), timedelta(milliseconds=IDLE_MS), HOUR)
"""The times in a copied lease: when it all happened, when it would have expired, its deadline."""
COPIED_AT_A_TIME = 1000
SAMPLE = 0xFEDCBA98
"""The number of the lease that is copied: it stands in the name of its box and in its slug."""
PLACE = Claim._fields.index("position")
SCOPE, BINDING = "https://api.fal.ai/v1", "c" * 64
STAGES = (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)
"""How many facts each open lease has: from one that sent nothing to one whose deletion is under way."""


class Life(NamedTuple):
    """What is stored of one lease, as text in which the sample's own names and times are to be replaced."""

    text: str
    names: tuple[str, ...]
    events: int

    def copy(self, number: int, at: datetime) -> tuple[list[list[Any]], list[Any]]:
        """The rows (stream, sequence, type, version, time, actor, payload) and the claim of another such lease."""
        text = self.text
        for old, new in zip(self.names, _names(lease_id(os.urandom), number, at), strict=True):
            text = text.replace(old, new)
        rows, claim = msgspec.json.decode(text)
        return rows, claim


def _names(lease: str, number: int, at: datetime) -> tuple[str, ...]:
    return (lease, f"{number:08x}", f"-{number}", *(format_time(at + later) for later in LATER))


def sample(folder: Path) -> Life:
    """One released lease and one inventory, as the real store writes them."""
    lease, at = lease_id(os.urandom), LAST_RELEASE
    with open_sqlite(folder / "sample.db", create=True, random_bytes=os.urandom, now=lambda: at) as register:
        with register.transaction() as transaction:
            facts = [*created(lease, SAMPLE, at), *given_back(SAMPLE, at)]
            transaction.append(Lease(lease_id=lease), facts, at=at, actor=ACTOR)
            seen = e.InventoryObserved(scope=SCOPE, credential_binding=BINDING, begun_at=at, instances=())
            transaction.append_account(seen, at=at, actor=ACTOR)
        rows = [row[1:8] for row in register.rows()]
        text = msgspec.json.encode((rows, register.claim(lease))).decode()
    return Life(text, _names(lease, SAMPLE, at), len(rows))


def past(path: Path, life: Life, leases: int) -> None:
    """Fills a new ledger. Nobody else is at it, and a crash may spoil it: neither a journal nor an fsync is needed."""
    connection = connect(str(path))
    try:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -200000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        last = (0, GENESIS)
        for first in range(0, leases, COPIED_AT_A_TIME):
            numbers = range(first, min(first + COPIED_AT_A_TIME, leases))
            rows, claims, last = _copies(life, numbers, LAST_RELEASE - leases * MINUTE, last)
            connection.executemany(sql.INSERT_EVENT, rows)
            connection.executemany(sql.UPSERT_CLAIM, claims)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


def _copies(
    life: Life, numbers: range, since: datetime, last: tuple[int, str]
) -> tuple[list[tuple[Any, ...]], list[list[Any]], tuple[int, str]]:
    """Rows that continue the chain after `last`, a position and its hash; their claims; and where they end."""
    position, previous = last
    found, claims = [], []
    for number in numbers:
        rows, claim = life.copy(number, since + number * MINUTE)
        claim[PLACE] = position + rows[-2][1]  # the last event of the lease: the inventory comes after it
        claims.append(claim)
        rows[-1][1] = number + 1  # the account's own sequence
        for row in rows:
            position += 1
            digest = event_hash(previous, (position, *row))
            found.append((position, *row, previous, digest))
            previous = digest
    return found, claims, (position, previous)


def present(register: SqliteRegister) -> None:
    """The open leases, at every stage of their lives; two are in doubt, for which a plan looks at inventories."""
    at = NOW - timedelta(minutes=20)
    with register.transaction() as transaction:
        for number, stage in enumerate(STAGES, start=SAMPLE + 1):
            lease = lease_id(os.urandom)
            facts = [*created(lease, number, at), *given_back(number, at)][:stage]
            transaction.append(Lease(lease_id=lease), facts, at=at, actor=ACTOR)


def main(path: Path, events: int) -> None:
    """Makes a ledger of about so many events."""
    with open_sqlite(path, create=True, random_bytes=os.urandom, now=lambda: LAST_RELEASE):
        pass
    with TemporaryDirectory(dir=path.parent) as folder:
        life = sample(Path(folder))
    past(path, life, events // life.events)
    with open_sqlite(path, create=True, random_bytes=os.urandom, now=lambda: NOW) as register:
        present(register)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
