"""verify, doctor, types, config and cleanup: their whole objects and their codes."""

import hashlib
import os
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ledger.store.locks import LeaseLock, is_worked_on
from providers.emulator.faults import DateSkew, Fault, Status
from providers.emulator.serve import Emulator
from providers.emulator.state import FalState
from tests.cli.running import HASH, TIME, Like, Rentroll, until

NO_KEY = {"RENTROLL_FAL_KEY": None}
EMPTY = hashlib.sha256(b"").hexdigest()


def ledger() -> Path:
    return Path(os.environ["RENTROLL_STATE_DIR"]) / "ledger.db"


def test_verify_of_a_sound_ledger(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll("verify", "--json", env=NO_KEY)
    assert (ran.code, ran.json) == (
        0,
        {"schema": "rentroll.verify/1", "ok": True, "events": 4, "head_hash": HASH, "problems": []},
    )


def test_verify_without_a_ledger_finds_nothing_and_makes_none(rentroll: Rentroll) -> None:
    ran = rentroll("verify", "--json")
    assert (ran.code, ran.json["ok"], ran.json["events"], ledger().exists()) == (0, True, 0, False)


def test_verify_of_a_changed_claim_is_9_and_still_its_report(rentroll: Rentroll, box: Any) -> None:
    connection = sqlite3.connect(ledger())
    connection.execute("UPDATE claims SET ttl_ms = 1")
    connection.commit()
    connection.close()
    ran = rentroll("verify", "--json")
    assert (ran.code, ran.json["ok"], ran.json["schema"]) == (9, False, "rentroll.verify/1")
    assert ran.json["problems"] == [
        {"position": problem["position"], "kind": Like(r"[a-z-]+"), "message": Like(r".+")}
        for problem in ran.json["problems"]
    ]
    assert len(ran.json["problems"]) == 1
    assert "DOES NOT VERIFY" in rentroll("verify").out


@pytest.mark.holds("DOC-02")
def test_doctor_of_a_good_setup_makes_only_reads(rentroll: Rentroll, emulator: Emulator) -> None:
    before = len(emulator.journal())
    ran = rentroll("doctor", "--json")
    assert (ran.code, ran.json["ok"], ran.json["mutated"], ran.json["schema"]) == (0, True, False, "rentroll.doctor/1")
    assert {check["name"]: check["ok"] for check in ran.json["checks"]} == dict.fromkeys(
        (
            *("python", "settings", "state", "ledger", "clock", "spool", "leases", "watch", "ssh", "credentials"),
            "provider",
        ),
        True,
    )
    assert ran.json["checks"][-1] == {
        "name": "provider",
        "ok": True,
        "detail": f"auth, control plane and inventory ready: 0 instances; fingerprint {EMPTY}",
        "hint": None,
        "exit_code": 0,
    }
    assert {entry.call for entry in emulator.journal()[before:]} == {"list"}
    assert not ledger().exists()


@pytest.mark.holds("DOC-02")
def test_doctors_fingerprint_is_of_the_sorted_ids(rentroll: Rentroll, emulator: Emulator) -> None:
    def add(state: FalState, now: datetime) -> None:
        for name in ("inst_b", "inst_a"):
            state.add_instance("emulated-team", now, instance_id=name)

    emulator.change(add)
    wanted = hashlib.sha256(b"inst_a\ninst_b").hexdigest()
    assert f"2 instances; fingerprint {wanted}" in rentroll("doctor", "--json").json["checks"][-1]["detail"]


@pytest.mark.holds("DOC-01")
def test_doctor_without_a_key_says_so_and_asks_nobody(rentroll: Rentroll, emulator: Emulator) -> None:
    before = len(emulator.journal())
    ran = rentroll("doctor", "--json", env=NO_KEY)
    failed = [(check["name"], check["exit_code"]) for check in ran.json["checks"] if not check["ok"]]
    assert (ran.code, failed) == (3, [("credentials", 3), ("provider", 3)])
    assert "RENTROLL_FAL_KEY" not in ran.out
    assert len(emulator.journal()) == before


@pytest.mark.holds("DOC-03")
def test_doctor_ends_with_the_first_failures_code_and_its_whole_report(rentroll: Rentroll, emulator: Emulator) -> None:
    emulator.add_fault(Fault(call="list", effects=(Status(status=500),), count=None))
    ran = rentroll("doctor", "--json")
    failed = [(check["name"], check["exit_code"]) for check in ran.json["checks"] if not check["ok"]]
    assert (ran.code, ran.json["ok"], len(ran.json["checks"]), failed) == (5, False, 11, [("provider", 5)])


def test_doctor_finds_a_clock_that_is_off(rentroll: Rentroll, emulator: Emulator) -> None:
    emulator.add_fault(Fault(call="list", effects=(DateSkew(seconds=-300.0),), count=None))
    ran = rentroll("doctor", "--json")
    assert (ran.code, ran.json["checks"][-1]["hint"]) == (2, "set the clock")


def test_doctor_tells_all_that_it_can_of_a_folder_that_it_cannot_look_at(rentroll: Rentroll) -> None:
    ran = rentroll("doctor", "--json", env={"RENTROLL_STATE_DIR": "/" + "x" * 1000})
    assert (ran.code, [check["name"] for check in ran.json["checks"]][-2:]) == (2, ["credentials", "provider"])
    assert {"name": "state", "ok": False, "hint": None, "exit_code": 2}.items() <= ran.json["checks"][2].items()


def test_an_id_that_the_ledger_does_not_take_is_told_by_every_command_that_writes_and_by_doctor(
    rentroll: Rentroll, box: Any
) -> None:
    spool = Path(os.environ["RENTROLL_STATE_DIR"]) / "spool"
    spool.mkdir()
    files = [spool / name for name in ("damaged.json", "half.partial")]
    for file in files:
        file.write_text("{")
    told = rentroll("touch", "box").err.splitlines()
    assert told == [
        f"rentroll: {file} could not be appended: it may name a box that bills; `rentroll doctor` says what to do"
        for file in files
    ]
    ran = rentroll("doctor", "--json")
    (failed,) = [check for check in ran.json["checks"] if not check["ok"]]
    assert (ran.code, failed["name"], failed["exit_code"]) == (9, "spool", 9)
    assert failed["hint"].startswith("`rentroll recover` appends what is readable; ")
    assert all(str(file) in failed["detail"] for file in files)


def test_doctors_words_fit_80_columns(rentroll: Rentroll) -> None:
    lines = rentroll("doctor", env={"RENTROLL_STATE_DIR": "/tmp/rentroll-no-such-folder"}).out.splitlines()
    assert max(map(len, lines)) <= 80


def test_types_shows_rates_and_where_they_came_from(rentroll: Rentroll) -> None:
    ran = rentroll("types", "--json", env={**NO_KEY, "RENTROLL_RATES_GPU_8X_H100_SXM5": None})
    assert (ran.code, ran.json) == (
        0,
        {
            "schema": "rentroll.types/1",
            "types": [
                {
                    "name": "gpu_1x_h100_sxm5",
                    "gpus": 1,
                    "rate_per_hour": "3.00",
                    "currency": "USD",
                    "source": "settings: environment",
                },
                {"name": "gpu_8x_h100_sxm5", "gpus": 8, "rate_per_hour": None, "currency": None, "source": None},
            ],
        },
    )


@pytest.mark.holds("HOLE-09")
def test_cleanup_dry_run_tells_what_it_would_do_and_ends_with_0(rentroll: Rentroll) -> None:
    leased = rentroll("warmup", "--slug", "late", "--ttl", "1.5s", "--json").json
    kept = rentroll("warmup", "--slug", "kept", "--keep", "--reason", "x", "--json").json
    until(lambda: rentroll("status", "late", "--json").json["attention"])
    ran = rentroll("cleanup", "--dry-run", "--json", env=NO_KEY)
    assert (ran.code, ran.json["schema"], ran.json["dry_run"]) == (0, "rentroll.cleanup/1", True)
    assert sorted(ran.json["actions"], key=lambda action: action["slug"], reverse=True) == [
        {
            "lease_id": leased["lease_id"],
            "slug": "late",
            "instance_id": leased["instance_id"],
            "action": "delete",
            "reason": Like(rf"expired at {TIME.pattern}"),
            "result": "not done: dry run",
        },
        {
            "lease_id": kept["lease_id"],
            "slug": "kept",
            "instance_id": kept["instance_id"],
            "action": "none",
            "reason": "kept",
            "result": "nothing to do",
        },
    ]


def test_cleanup_dry_run_makes_no_lock_and_sees_the_held_ones(rentroll: Rentroll, box: Any) -> None:
    locks = Path(f"{ledger()}.locks")
    lock = locks / f"{box['lease_id']}.lock"
    lock.unlink()
    assert rentroll("cleanup", "--dry-run", "--json").json["actions"][0]["reason"] == "inside its time"
    assert list(locks.iterdir()) == []
    held = LeaseLock(locks, box["lease_id"], purpose="test")
    assert not is_worked_on(locks, box["lease_id"])
    with held:
        assert is_worked_on(locks, box["lease_id"])
    assert not is_worked_on(locks, box["lease_id"])
    lock.write_text("pid 1 on a machine that lost its power\n")
    assert not is_worked_on(locks, box["lease_id"])


def test_cleanup_only_narrows_and_reports_what_is_unknown_inside_its_actions(rentroll: Rentroll, box: Any) -> None:
    rentroll("warmup", "--slug", "other")
    ran = rentroll("cleanup", "--dry-run", "--only", "box", "--only", "nobody", "--json")
    assert ran.code == 4
    assert [(action["slug"], action.get("error", {}).get("code")) for action in ran.json["actions"]] == [
        ("box", None),
        ("nobody", "not-found"),
    ]


@pytest.mark.parametrize("words", [("cost",), ("report",), ("ledger", "info")])
def test_what_is_not_built_yet_is_refused(rentroll: Rentroll, words: tuple[str, ...]) -> None:
    ran = rentroll(*words, "--json")
    assert (ran.code, ran.error["code"], "not built yet" in ran.error["message"]) == (2, "usage", True)
