"""What cannot be understood or believed: that lease is left alone and named, every other one is finished."""

import os
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ledger.flows.release import delete_box
from providers.emulator.faults import DropAfter, Fault, Hide, Rewrite
from providers.emulator.serve import Emulator
from tests.cli.leftovers import ago, alive, booted, killed_before
from tests.cli.running import ROOT, Ran, Rentroll, finish
from tests.kills.door import Door
from tests.kills.left import GONE, MADE, Left, calls, facts, ledger, left, process_of

DELETED = ["delete-requested", "delete-accepted", "deletion-confirmed", "released"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass gives up on a box after a second, not after a minute."""
    monkeypatch.setattr("ledger.flows.recover.delete_box", partial(delete_box, timeout_s=1.0))


def leftover(emulator: Emulator, slug: str) -> str:
    """The box of an acquire that was killed while the box booted."""
    before = alive(emulator)
    killed_before("ready", "warmup", "--slug", slug)
    (box,) = set(alive(emulator)) - set(before)
    return box


def results(ran: Ran) -> dict[str, tuple[str, str | None]]:
    """Of each lease by its slug: what came of it, and the code of its failure."""
    return {shown["slug"]: (shown["result"], shown.get("error", {}).get("code")) for shown in ran.json["actions"]}


@pytest.mark.holds("W-04", "CLN-10", "CLN-27")
def test_a_lease_with_a_damaged_event_is_named_with_10_and_only_the_other_one_is_deleted(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    bad, _ = leftover(emulator, "bad"), leftover(emulator, "good")
    with closing(sqlite3.connect(ledger())) as other, other:
        for (name,) in other.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            other.execute(f"DROP TRIGGER {name}")
        its_first = "(SELECT min(position) FROM events WHERE stream = (SELECT lease_id FROM claims WHERE slug = 'bad'))"
        other.execute(f"UPDATE events SET payload = '{{}}' WHERE position = {its_first}")

    recovered, stopped = rentroll("recover", "--json"), rentroll("stop", "bad", "--json")

    assert (recovered.code, stopped.code) == (10, 9)
    assert results(recovered) == {"bad": ("failed", "integrity"), "good": ("rolled-back", None)}
    assert results(stopped) == {"bad": ("failed", "integrity")}
    assert (alive(emulator), calls(emulator)) == ([bad], [MADE, MADE, GONE])
    assert (rentroll("verify").code, "bad " in rentroll("list").out) == (9, True)


@pytest.mark.holds("W-22")
def test_a_create_in_doubt_whose_key_files_are_gone_is_proven_by_the_ledgers_public_key(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    emulator.add_fault(Fault(call="create", effects=(DropAfter(),)))
    killed_before("create-in-doubt", "warmup", "--slug", "job")
    shutil.rmtree(ledger().parent / "keys")
    booted(emulator)

    ran = rentroll("recover", "--json")

    assert (ran.code, results(ran)) == (0, {"job": ("rolled-back", None)})
    found = ["create-requested", "create-sent", "acquire-fenced", "candidate-tried", "instance-id-bound"]
    assert left(emulator) == Left([*found, *DELETED], [MADE, GONE], 0)


@pytest.mark.holds("API-05", "PEER-35")
@pytest.mark.usefixtures("impatient")
def test_a_box_that_answers_with_another_ones_id_is_not_deleted_and_neither_is_that_one_for_it(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    bad, _ = leftover(emulator, "bad"), leftover(emulator, "good")
    wrong = Rewrite(put={"id": box["instance_id"]})
    emulator.add_fault(Fault(call="get", instance_id=bad, effects=(wrong,), count=None))

    ran = rentroll("recover", "--json")

    told = {"bad": ("failed", "provider"), "good": ("rolled-back", None), "box": ("nothing to do", None)}
    assert (ran.code, results(ran)) == (10, told)
    assert (alive(emulator), calls(emulator)) == ([box["instance_id"], bad], [MADE] * 3 + [GONE])


@pytest.mark.holds("DEL-07", "PEER-33")
@pytest.mark.usefixtures("impatient")
def test_a_box_that_only_the_inventory_shows_is_neither_believed_gone_nor_deleted_unseen(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    with ago(emulator, hours=2):
        late = rentroll("warmup", "--slug", "late", "--ttl", "1h", "--json").json["instance_id"]
    leftover(emulator, "good")
    emulator.add_fault(Fault(call="get", instance_id=late, effects=(Hide(),), count=None))

    ran = rentroll("cleanup", "--json")

    assert (ran.code, results(ran)) == (10, {"late": ("failed", "provider"), "good": ("rolled-back", None)})
    assert (alive(emulator), calls(emulator)) == ([late], [MADE, MADE, GONE])

    emulator.change(lambda state, _now: state.script.clear())
    again = rentroll("cleanup", "--json")
    assert (again.code, results(again), alive(emulator)) == (0, {"late": ("completed", None)}, [])


@pytest.mark.holds("PEER-40")
def test_two_ledgers_that_claim_one_box_both_end_when_they_delete_it_at_once(
    rentroll: Rentroll, emulator: Emulator, door: Door, tmp_path: Path
) -> None:
    """A state folder that was copied while the lease was open."""
    with ago(emulator, hours=2):
        rentroll("warmup", "--slug", "late", "--ttl", "1h")
    copy = tmp_path / "copy"
    shutil.copytree(ledger().parent, copy)
    elsewhere = {**os.environ, "PYTHONPATH": str(ROOT), "RENTROLL_STATE_DIR": str(copy)}
    with process_of("cleanup") as one, process_of("cleanup", env=elsewhere) as two:
        with door.held("delete") as delete:
            delete.arrived(2)
        ran = [finish(one), finish(two)]

    assert [each.code for each in ran] == [0, 0], ran
    assert (sorted(calls(emulator), key=str), alive(emulator)) == ([MADE, GONE, ("delete", 404)], [])
    assert [kinds[-2:] for kinds in (facts(), facts(copy / "ledger.db"))] == [["deletion-confirmed", "released"]] * 2
