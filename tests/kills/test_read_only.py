"""A ledger where nothing can be written: what only reads works, what would write is refused before anything is made."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from providers.emulator.serve import Emulator
from tests.cli.running import Rentroll
from tests.kills.disk import read_only
from tests.kills.left import ledger, left

READS = (
    ("list", "-q"),
    ("list", "--as-of", "4"),
    ("list", "--refresh", "-q"),
    ("status", "box", "--json"),
    ("events", "box"),
    ("verify", "--json"),
    ("recover", "--dry-run", "--json"),
    ("cleanup", "--dry-run", "--json"),
)
WRITES = (
    ("warmup", "--slug", "other"),
    ("run", "--no-sync", "--", "true"),
    ("touch", "box"),
    ("stop", "box"),
    ("recover",),
    ("cleanup",),
    ("watch", "--once"),
    ("rotate",),
)
RUN_FAILED = 125


def test_what_only_reads_says_the_same_where_nothing_can_be_written(rentroll: Rentroll, box: Any) -> None:
    before = [rentroll(*words) for words in READS]
    with read_only(ledger().parent):
        during = [rentroll(*words) for words in READS]
    assert [ran.code for ran in during] == [0] * len(READS), during
    assert [ran.out for ran in during] == [ran.out for ran in before]


@pytest.mark.holds("W-12")
@pytest.mark.parametrize("words", WRITES, ids=[words[0] for words in WRITES])
def test_what_would_write_is_refused_and_nothing_is_sent(
    rentroll: Rentroll, box: Any, emulator: Emulator, words: tuple[str, ...]
) -> None:
    before = left(emulator)
    with read_only(ledger().parent):
        ran = rentroll(*words, env={"RENTROLL_FAL_KEY_OLD": "old:key"})
    refusals = (
        f"rentroll: usage: the ledger {ledger()} cannot be opened\n",
        "rentroll: usage: the ledger cannot be written: it is read-only\n",
        f"rentroll: usage: the lock {ledger()}.watch.lock cannot be opened: ",
    )
    assert (ran.code, any(told in ran.err for told in refusals)) == (RUN_FAILED if words[0] == "run" else 2, True), ran
    assert left(emulator) == before


def test_a_copy_whose_newest_events_are_only_in_its_write_ahead_log_is_not_shown_without_them(
    rentroll: Rentroll, box: Any, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    with closing(sqlite3.connect(ledger())) as other:
        other.execute("SELECT count(*) FROM events").fetchall()
        rentroll("touch", "box")  # stays in the log, for this connection has the ledger open
        for name in ("ledger.db", "ledger.db-wal"):
            shutil.copy(ledger().with_name(name), copy)
    with read_only(copy):
        ran = rentroll("list", env={"RENTROLL_STATE_DIR": str(copy)})
    told = f"rentroll: usage: the newest events of the ledger {copy}/ledger.db are in its write-ahead log"
    hint = "copy it with ledger.db-wal to a folder that you may write in"
    assert (ran.code, ran.out, ran.err) == (2, "", f"{told}, which cannot be read where it is\n  hint: {hint}\n")
    assert rentroll("list", "-q", env={"RENTROLL_STATE_DIR": str(copy)}).out == f"{box['lease_id']}\n"
