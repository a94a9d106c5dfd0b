"""The compiled statements are those that the declarations make, and the plans that the indexes are there for."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ledger.domain.claim import Claim
from ledger.domain.rows import Row
from ledger.store import sqlite_text as sql
from ledger.store.compile_sql import TARGET, sqlite_module
from ledger.store.schema import claims, events
from ledger.store.statements import sqlite_statements

ROOT = Path(__file__).parents[2]


def test_the_compiled_text_is_what_the_declarations_make() -> None:
    """`python -m ledger.store.compile_sql` writes it anew."""
    assert TARGET.read_text(encoding="utf-8") == sqlite_module()


def test_rows_and_claims_are_stored_field_by_field_in_their_own_order() -> None:
    columns = {name: parameters for name, (_, parameters) in sqlite_statements().items()}
    assert columns["INSERT_EVENT"] == Row._fields == tuple(column.name for column in events.c)
    assert columns["UPSERT_CLAIM"] == Claim._fields == tuple(column.name for column in claims.c)


@pytest.mark.parametrize(
    ("statement", "parameters", "plan"),
    [
        (sql.HEAD, (), ["SCAN events"]),
        (sql.ROWS, (0,), ["SEARCH events USING INTEGER PRIMARY KEY (rowid>?)"]),
        (
            sql.STREAM_ROWS,
            ("s", 0),
            ["SEARCH events USING INDEX sqlite_autoindex_events_1 (stream=? AND sequence>?)"],
        ),
        (sql.STREAM_SEQUENCE, ("s",), ["SEARCH events USING COVERING INDEX sqlite_autoindex_events_1 (stream=?)"]),
        (sql.STREAM_PLACES, (), ["SCAN events USING COVERING INDEX sqlite_autoindex_events_1"]),
        (sql.SLUG_HOLDER, ("s",), ["SEARCH claims USING INDEX claims_open_slug (slug=?)"]),
        (sql.INSTANCE_HOLDER, ("i",), ["SEARCH claims USING INDEX claims_instance (instance_id=?)"]),
        (
            sql.CLAIMS_BY_INSTANCE,
            ("i", "i"),
            [
                "COMPOUND QUERY",
                "LEFT-MOST SUBQUERY",
                "SEARCH claims USING INDEX claims_instance (instance_id=?)",
                "UNION ALL",
                "SEARCH claims USING INDEX claims_contradicted (instance_id=?)",
            ],
        ),
    ],
)
def test_each_lookup_uses_the_index_that_is_there_for_it(
    statement: str, parameters: tuple[object, ...], plan: list[str]
) -> None:
    assert explained(statement, parameters) == plan


def test_open_work_is_found_by_index() -> None:
    """What it costs follows what is open, not how much has happened."""
    assert explained(sql.OPEN_CLAIMS, ())[0] == "SCAN claims USING INDEX claims_open"


def explained(statement: str, parameters: tuple[object, ...]) -> list[str]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for text in sql.SCHEMA.values():
            connection.execute(text)
        return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]


def imported_by(module: str) -> set[str]:
    """What importing one module loads in a new process, beside what its own start-up has loaded."""
    code = f"import sys; before = set(sys.modules); import {module}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return set(done.stdout.split())


def test_reading_a_ledger_loads_nothing_that_a_listing_can_do_without() -> None:
    heavy = {"msgspec", "sqlalchemy", "alembic", "json", "hashlib", "pathlib", "threading", "urllib", "asyncio"}
    assert imported_by("ledger.store.sqlite_read") & heavy == set()


def test_appending_loads_neither_sqlalchemy_nor_alembic() -> None:
    assert imported_by("ledger.store.sqlite") & {"sqlalchemy", "alembic", "json", "asyncio"} == set()
