"""Which pages of a SQLite ledger an append writes: an ordinary fact of an open lease leaves claims' indexes alone.

Read from the write-ahead log, which holds exactly the pages that were changed.
"""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.domain import events as e
from ledger.store.sqlite_connect import connect
from tests.contract.conftest import sqlite_ledger
from tests.contract.facts import LATER, LEASE_A, LEASE_FACTS, bound, released, requested, sent
from tests.contract.test_register import append, begin

WAL_HEADER, FRAME_HEADER = 32, 24
TRIED, READY, ENDED = LEASE_FACTS[4], LEASE_FACTS[7], e.Released(outcome="written-off", reason="no answer")
SETTLED = e.CandidatesSettled(inventories=(4,))
DELETE = e.DeleteRequested(instance_id="inst-1", attempt=1, reason="stop", shown=True)


def claim_indexes(path: Path) -> dict[int, str]:
    """The page of each index of claims: in so small a ledger each has one."""
    connection = connect(str(path))
    try:
        rows = connection.execute(
            "SELECT rootpage, name FROM sqlite_master WHERE tbl_name = 'claims' AND type = 'index'"
        )
        return dict(rows.fetchall())
    finally:
        connection.close()


def indexes_written(path: Path, write: Callable[[], object]) -> set[str]:
    log, indexes = path.with_name(f"{path.name}-wal"), claim_indexes(path)
    begin_at = log.stat().st_size
    write()
    written = log.read_bytes()
    page_size = struct.unpack(">I", written[8:12])[0]
    frames = range(max(begin_at, WAL_HEADER), len(written), FRAME_HEADER + page_size)
    assert frames, "the write is not in the log"
    pages = {struct.unpack(">I", written[frame : frame + 4])[0] for frame in frames}
    return {name for page, name in indexes.items() if page in pages}


WRITES = [
    pytest.param((requested(),), sent(), set(), id="a create that is sent"),
    pytest.param((requested(), sent()), TRIED, set(), id="a try, in doubt"),
    pytest.param((requested(), sent(), bound()), READY, set(), id="ready"),
    pytest.param((requested(), sent(), bound(), READY), DELETE, set(), id="a DELETE"),
    pytest.param((requested(), sent(), bound(), READY), LEASE_FACTS[8], set(), id="a touch"),
    pytest.param((requested(), sent(), sent(2), bound()), READY, {"claims_suspect"}, id="but of a suspect its own"),
    pytest.param((requested(), sent(), sent(2), bound()), SETTLED, {"claims_suspect"}, id="also of one no more"),
    pytest.param(
        (requested(), sent(), ENDED), TRIED, {"claims_suspect", "claims_released"}, id="of a released one both"
    ),
]


@pytest.mark.parametrize(("past", "fact", "indexes"), WRITES)
def test_which_indexes_of_claims_a_fact_writes(
    tmp_path: Path, past: tuple[e.LeaseEvent, ...], fact: e.LeaseEvent, indexes: set[str]
) -> None:
    """Each line is one rule."""
    with sqlite_ledger(tmp_path) as register:
        lease = begin(register, LEASE_A, *past)
        assert indexes_written(tmp_path / "ledger.db", lambda: append(register, lease, fact, at=LATER)) == indexes


def test_a_release_writes_the_indexes_that_it_moves_a_lease_between(tmp_path: Path) -> None:
    with sqlite_ledger(tmp_path) as register:
        lease = begin(register, LEASE_A, requested())
        written = indexes_written(tmp_path / "ledger.db", lambda: append(register, lease, released("cancelled")))
    assert written >= {"claims_open", "claims_open_slug", "claims_released"}
