"""A disk that is full at some moment of a real program: nothing is made, or nothing is lost, and `recover` ends it."""

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from providers.emulator.serve import Emulator
from tests.cli.leftovers import ago, alive
from tests.cli.running import Ran, Rentroll, finish
from tests.kills.disk import Disk, Limit, SmallDisk, may_mount, mounted
from tests.kills.door import Door
from tests.kills.left import GONE, MADE, WARMUP, Left, facts, ledger, left, process_of

SENT = ["create-requested", "create-sent"]
READY = [*SENT, "instance-id-bound", "ready"]
NOT_THERE = ("delete", 404)
SMALL = "size=2m,mode=700"
CANNOT_BE_WRITTEN = re.compile(
    r"rentroll: usage: the ledger cannot be (written: disk full|read or written: disk I/O error)\n"
    r"  hint: nothing of this step was recorded; [^\n]*\n"
)


@pytest.fixture(params=["limit", *(["small disk"] if may_mount() else [])])
def disk(request: pytest.FixtureRequest, tmp_path: Path, surroundings: None) -> Iterator[Disk]:
    """What the state folder is on."""
    if request.param == "limit":
        yield Limit()
    else:
        with mounted(tmp_path / "state", SMALL):
            yield SmallDisk(tmp_path / "state")


def cannot_be_written(ran: Ran) -> bool:
    return (ran.code, ran.out) == (2, "") and CANNOT_BE_WRITTEN.search(ran.err) is not None


def told(ran: Ran) -> tuple[int, list[tuple[str, str]]]:
    return ran.code, [(shown["action"], shown["result"]) for shown in ran.json["actions"]]


@pytest.mark.parametrize("has_ledger", [False, True], ids=["the first lease", "a ledger that is there"])
def test_full_before_the_intent_nothing_is_asked_of_fal_and_nothing_is_made(
    rentroll: Rentroll, emulator: Emulator, disk: Disk, has_ledger: bool
) -> None:
    before: list[str] = []
    if has_ledger:
        rentroll("warmup", "--slug", "other")
        rentroll("stop", "other")
        before = facts()
    sent = left(emulator).calls

    with process_of(*WARMUP, program=disk.full_from_the_start()) as process:
        ran = finish(process)

    assert cannot_be_written(ran), ran
    disk.free()
    assert left(emulator) == Left(before, sent, 0)
    assert (rentroll(*WARMUP).code, len(alive(emulator))) == (0, 1)


@pytest.mark.holds("W-41", "PEER-17")
def test_full_between_the_create_and_its_record_the_id_is_told_and_its_box_deleted_at_once(
    rentroll: Rentroll, emulator: Emulator, disk: Disk, door: Door
) -> None:
    """Neither ledger nor spool take it. With room again five looks show that nothing is left."""
    with process_of(*WARMUP) as process:
        with door.held("create") as post:
            post.arrived()
            disk.fill(process)
        ran = finish(process)
    (box,) = emulator.instances()

    failed = rf"rentroll: provider: the ledger did not take instance {box.id} of lease job: .*; its DELETE was accepted"
    assert re.search(failed, ran.err)
    assert "  hint: the id could not be kept in a file either: write it down\n" in ran.err
    assert (ran.code, left(emulator)) == (5, Left(SENT, [MADE, GONE], 0))

    disk.free()
    passes = [told(rentroll("recover", "--json"))]
    for minutes in (10, 15, 20, 25, 30):
        with ago(emulator, minutes=-minutes):
            passes.append(told(rentroll("recover", "--json")))
    assert passes == [(10, [("settle", "failed")])] * 5 + [(0, [("settle", "never-created")])]
    assert left(emulator) == Left([*SENT, "acquire-fenced", "released"], [MADE, GONE], 0)


def test_full_during_a_delete_the_next_recover_confirms_it_without_another_one(
    rentroll: Rentroll, disk: Disk, box: Any, emulator: Emulator, door: Door
) -> None:
    with process_of("stop", "box") as process:
        with door.held("delete") as delete:
            delete.arrived()
            disk.fill(process)
        ran = finish(process)
    assert cannot_be_written(ran), ran
    assert left(emulator) == Left([*READY, "delete-requested"], [MADE, GONE], 0)

    disk.free()
    assert told(rentroll("recover", "--json")) == (0, [("delete", "completed")])
    ended = [*READY, "delete-requested", "deletion-confirmed", "released"]
    assert left(emulator) == Left(ended, [MADE, GONE], 0)


@pytest.fixture(params=["refusal", *(["small disk"] if may_mount() else [])])
def refusing(
    request: pytest.FixtureRequest, tmp_path: Path, surroundings: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Callable[[Any], None], Callable[[], None]]]:
    """How a ledger outside of the state folder is made to take no fact, and how to take some again."""
    if request.param == "refusal":
        yield lambda _process: _refuse(ledger()), lambda: _accept(ledger())
        return
    folder = tmp_path / "small"
    folder.mkdir()
    monkeypatch.setenv("RENTROLL_LEDGER_URL", f"sqlite:///{folder}/ledger.db")
    with mounted(folder, SMALL):
        small = SmallDisk(folder)
        yield small.fill, small.free


def _refuse(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no more'); END")


def _accept(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DROP TRIGGER full")


@pytest.mark.holds("W-41", "PEER-17")
def test_an_id_that_only_the_ledger_refuses_is_spooled_and_settled_by_the_next_recover(
    rentroll: Rentroll, emulator: Emulator, door: Door, refusing: tuple[Callable[[Any], None], Callable[[], None]]
) -> None:
    refuse, accept = refusing
    spool = Path(os.environ["RENTROLL_STATE_DIR"]) / "spool"
    with process_of(*WARMUP) as process:
        with door.held("create") as post:
            post.arrived()
            refuse(process)
        ran = finish(process)
    (waiting,) = spool.glob("*.json")
    assert (ran.code, f"  hint: the id is kept in {waiting} and is appended at the next start\n" in ran.err) == (
        5,
        True,
    )

    accept()
    first = rentroll("stop", "job", "--timeout", "1s")
    with ago(emulator, minutes=-40):  # no read has ever shown its box: for half an hour a 404 is no absence
        recovered = rentroll("recover", "--json")

    assert (first.code, told(recovered), list(spool.iterdir())) == (5, (0, [("delete", "rolled-back")]), [])
    looked_for = ["delete-requested", "delete-deferred"] * 2
    ended = [*SENT, "instance-id-bound", *looked_for, "deletion-confirmed", "released"]
    assert left(emulator) == Left(ended, [MADE, GONE, NOT_THERE, NOT_THERE], 0)
