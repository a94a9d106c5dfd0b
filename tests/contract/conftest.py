"""The ledgers that the contract is held against: one factory for each database."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.store.sqlite import SqliteRegister, open_sqlite
from tests.contract.facts import NOW

Factory = Callable[[Path], SqliteRegister]


def sqlite_ledger(folder: Path) -> SqliteRegister:
    return open_sqlite(folder / "ledger.db", create=True, random_bytes=os.urandom, now=lambda: NOW, busy_timeout_s=10.0)


FACTORIES: dict[str, Factory] = {"sqlite": sqlite_ledger}


@pytest.fixture(params=FACTORIES)
def register(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteRegister]:
    """An empty ledger of each kind."""
    opened = FACTORIES[request.param](tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    """Where an empty SQLite ledger is, closed."""
    sqlite_ledger(tmp_path).close()
    return tmp_path / "ledger.db"
