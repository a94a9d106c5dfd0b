"""`recover --write-off`: a person ends what no evidence can settle, never unasked and never inside the window."""

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ledger.store.locks import LeaseLock
from providers.emulator.faults import DropBefore, Fault, Status
from providers.emulator.serve import ACCOUNT, Emulator
from tests.cli.leftovers import ago, alive, in_doubt, killed_before
from tests.cli.running import LEASE_ID, Like, Rentroll, spawn

WRITE_OFF = ("recover", "--only", "job", "--write-off", "--reason", "nothing at fal")
LIMIT_S = 30


def report(**fields: Any) -> dict[str, Any]:
    done = {"lease_id": LEASE_ID, "slug": "job", "instance_id": None, "action": "write-off", "reason": "nothing at fal"}
    return {"schema": "rentroll.recover/1", "dry_run": False, "actions": [done | fields], "tally": None}


@pytest.mark.holds("W-01")
def test_after_the_window_a_lease_is_written_off_with_its_reason_and_an_unknown_cost(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    in_doubt(rentroll, emulator, DropBefore(), minutes=10)
    suspect = emulator.change(lambda state, now: state.add_instance(ACCOUNT, now))

    ran = rentroll(*WRITE_OFF, "--yes", "--json")

    assert (ran.code, ran.json) == (0, report(result="written-off"))
    shown = Like(rf"rentroll: job: {suspect} could be its box: gpu_1x_h100_sxm5, ready, 127\.0\.\d\.\d+")
    assert ran.err.splitlines() == [shown]
    (lease,) = rentroll("list", "--all", "--json").json["leases"]
    assert (lease["outcome"], lease["cost"]["accrued"], alive(emulator)) == ("written-off", None, [suspect])


def test_its_box_is_still_looked_for_afterwards(rentroll: Rentroll, emulator: Emulator) -> None:
    in_doubt(rentroll, emulator, DropBefore(), minutes=10)
    rentroll(*WRITE_OFF, "--yes")
    (event,) = rentroll("events", "--type", "create-requested", "--jsonl").out.splitlines()
    key = json.loads(event)["payload"]["public_key"]
    emulator.change(lambda state, now: state.add_instance(ACCOUNT, now, public_key=key))

    ran = rentroll("recover", "--json")

    (done,) = ran.json["actions"]
    assert (ran.code, done["action"], done["result"]) == (0, "search", "1 found and deleted")
    assert alive(emulator) == []


def test_inside_the_window_it_is_refused_and_says_from_when_on(rentroll: Rentroll, emulator: Emulator) -> None:
    in_doubt(rentroll, emulator, DropBefore())
    before = rentroll("events", "--jsonl").out

    ran = rentroll(*WRITE_OFF, "--yes", "--json")

    error = {
        "code": "conflict",
        "exit_code": 11,
        "message": "lease job: it cannot be released as written-off: a box of it may exist",
        "hint": Like(r"it may be written off from \d\d:\d\d:\d\dZ on"),
        "next": "rentroll recover --only job",
        "lease_id": LEASE_ID,
    }
    assert (ran.code, ran.json) == (11, report(result="failed", error=error))
    assert rentroll("events", "--jsonl").out == before


def test_without_a_terminal_or_yes_it_is_refused_with_what_to_type(rentroll: Rentroll, emulator: Emulator) -> None:
    in_doubt(rentroll, emulator, DropBefore(), minutes=10)
    calls, before = len(emulator.journal()), rentroll("events", "--jsonl").out

    ran = rentroll(*WRITE_OFF)

    assert (ran.code, ran.err.splitlines()[-1]) == (
        2,
        "  next: rentroll recover --only job --write-off --reason 'nothing at fal' --yes",
    )
    assert (len(emulator.journal()), rentroll("events", "--jsonl").out) == (calls, before)


@pytest.mark.parametrize(("answer", "code", "outcome"), [(b"y\n", 0, "written-off"), (b"n\n", 2, None)])
def test_at_a_terminal_it_asks_once_the_boxes_are_shown(
    rentroll: Rentroll, emulator: Emulator, answer: bytes, code: int, outcome: str | None
) -> None:
    in_doubt(rentroll, emulator, DropBefore(), minutes=10)
    ours, theirs = pty.openpty()
    with spawn(WRITE_OFF, stdin=theirs, stderr=theirs, stdout=subprocess.DEVNULL) as process:
        os.close(theirs)
        seen = b""
        while b"[y/N]" not in seen:
            seen += os.read(ours, 4096)
        os.write(ours, answer)
        assert process.wait(LIMIT_S) == code
    os.close(ours)
    assert b"fal shows no instance that could be its box" in seen
    (lease,) = rentroll("list", "--all", "--json").json["leases"]
    assert lease["outcome"] == outcome


def test_where_fal_cannot_be_asked_it_says_so_and_goes_on_only_with_yes(rentroll: Rentroll, emulator: Emulator) -> None:
    in_doubt(rentroll, emulator, DropBefore(), minutes=10)
    emulator.add_fault(Fault(call="any", effects=(Status(status=401, error_type="authorization_error"),), count=None))

    ran = rentroll(*WRITE_OFF, "--yes")

    assert ran.code == 0
    assert ran.out == Like(r"job rl_\w{26}: written-off\n")
    assert ran.err.startswith("rentroll: job: fal could not be asked what could be its box: ")


def test_a_box_that_is_bound_may_be_written_off_too(rentroll: Rentroll, emulator: Emulator) -> None:
    """Say that its account is gone, and its time is over: who says so sees first that the box is still there."""
    with ago(emulator, minutes=10):
        box = rentroll("warmup", "--slug", "box", "--ttl", "5m", "--json").json
    ran = rentroll("recover", "--only", "box", "--write-off", "--reason", "the account is closed", "--yes")
    assert (ran.code, ran.err.splitlines()[0].split(": ")[1:3]) == (
        0,
        ["box", f"{box['instance_id']} is its box"],
    )
    assert rentroll("status", box["lease_id"], "--json").json["outcome"] == "written-off"


def test_of_what_was_never_sent_it_says_how_to_give_it_back(rentroll: Rentroll) -> None:
    killed_before("create-sent", "warmup", "--slug", "job")
    ran = rentroll(*WRITE_OFF, "--yes", "--json")
    assert (ran.code, ran.json["actions"][0]["error"]["next"]) == (11, "rentroll stop job")


def test_a_released_lease_needs_no_writing_off(rentroll: Rentroll, box: Any) -> None:
    rentroll("stop", "box")
    ran = rentroll("recover", "--only", box["lease_id"], "--write-off", "--reason", "x", "--json")
    (done,) = ran.json["actions"]
    assert (ran.code, done["action"], done["result"]) == (0, "none", "nothing to do")


def test_a_dry_run_shows_it_and_asks_nobody(rentroll: Rentroll, emulator: Emulator) -> None:
    in_doubt(rentroll, emulator, DropBefore(), minutes=10)
    before = len(emulator.journal())
    ran = rentroll(*WRITE_OFF, "--dry-run", "--json")
    assert (ran.code, ran.json) == (0, report(result="not done: dry run") | {"dry_run": True})
    assert len(emulator.journal()) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--write-off", "--reason", "x"), "--write-off goes with --only LEASE, once"),
        (("--write-off", "--only", "a", "--only", "b", "--reason", "x"), "--write-off goes with --only LEASE, once"),
        (("--write-off", "--only", "a"), "--write-off needs --reason"),
        (("--write-off", "--only", "a", "--reason", " "), "--write-off needs --reason"),
        (("--reason", "x"), "--reason goes with --write-off"),
        (("--yes",), "--yes goes with --write-off"),
    ],
)
def test_flags_that_do_not_go_together_are_a_usage_error(
    rentroll: Rentroll, words: tuple[str, ...], message: str
) -> None:
    ran = rentroll("recover", *words, "--json")
    assert (ran.code, ran.error["message"]) == (2, message)


def test_an_unknown_lease_is_not_found(rentroll: Rentroll) -> None:
    ran = rentroll("recover", "--only", "nobody", "--write-off", "--reason", "x", "--yes", "--json")
    (done,) = ran.json["actions"]
    assert (ran.code, done["lease_id"], done["slug"], done["error"]["code"]) == (4, None, "nobody", "not-found")


def test_a_lease_that_somebody_works_on_is_a_conflict(rentroll: Rentroll, emulator: Emulator) -> None:
    in_doubt(rentroll, emulator, DropBefore(), minutes=10)
    lease_id = rentroll("status", "job", "--json").json["lease_id"]
    folder = Path(os.environ["RENTROLL_STATE_DIR"]) / "ledger.db.locks"
    with LeaseLock(folder, lease_id, purpose="a test"):
        ran = rentroll(*WRITE_OFF, "--yes", "--json")
    assert (ran.code, ran.json["actions"][0]["error"]["code"]) == (11, "conflict")


def test_a_ready_lease_inside_its_time_is_given_back_and_not_written_off(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll("recover", "--only", "box", "--write-off", "--reason", "try", "--yes", "--json")

    error = ran.json["actions"][0]["error"]
    assert (ran.code, error["code"], error["next"]) == (2, "usage", "rentroll stop box")
    assert rentroll("status", "box", "--json").json["phase"] == "ready"
