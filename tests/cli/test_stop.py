"""`stop`: by every name, several at once, and what it says when it cannot."""

import os
from pathlib import Path
from typing import Any

import pytest

from ledger.store.locks import LeaseLock
from providers.emulator.faults import Delay, DropAfter, DropBefore, Fault, IgnoreDelete, Status
from providers.emulator.serve import Emulator
from tests.cli.leftovers import add_key, alive, booted, in_doubt
from tests.cli.running import LEASE_ID, Like, Rentroll, finish, spawn, until


def stopped(box: Any, **fields: Any) -> dict[str, Any]:
    return {
        "lease_id": box["lease_id"],
        "slug": box["slug"],
        "instance_id": box["instance_id"],
        "action": "stop",
        "reason": "stop",
        "result": "completed",
    } | fields


@pytest.mark.holds("REL-01", "HOLE-09")
@pytest.mark.parametrize("name", ["slug", "lease_id", "instance_id"])
def test_a_lease_is_stopped_by_each_of_its_names(rentroll: Rentroll, box: Any, emulator: Emulator, name: str) -> None:
    ran = rentroll("stop", box[name], "--reason", "done", "--json")
    assert (ran.code, ran.json) == (
        0,
        {"schema": "rentroll.stop/1", "dry_run": False, "actions": [stopped(box, reason="done")]},
    )
    (view,) = [view for view in emulator.instances() if view.id == box["instance_id"]]
    assert view.deleted_at is not None
    assert not (Path(os.environ["RENTROLL_STATE_DIR"]) / "keys" / box["lease_id"]).exists()


@pytest.mark.holds("REL-15")
def test_in_words_it_says_that_the_box_is_gone(rentroll: Rentroll, box: Any) -> None:
    assert rentroll("stop", "box").out == f"box is released (completed): {box['instance_id']} is gone\n"


@pytest.mark.parametrize("name", ["lease_id", "instance_id"])
def test_a_released_lease_by_its_id_needs_nothing(rentroll: Rentroll, box: Any, name: str) -> None:
    rentroll("stop", "box")
    ran = rentroll("stop", box[name], "--json")
    assert (ran.code, ran.json["actions"]) == (0, [stopped(box, action="none", result="released")])
    assert rentroll("stop", box[name]).out == f"box {box['lease_id']} was released before; nothing was done\n"


@pytest.mark.holds("REL-12")
def test_a_freed_slug_is_not_found(rentroll: Rentroll, box: Any) -> None:
    rentroll("stop", "box")
    assert rentroll("stop", "box").code == 4


@pytest.mark.holds("REL-12", "HOLE-09")
def test_an_unknown_name_is_not_found_and_still_an_actions_object(rentroll: Rentroll, emulator: Emulator) -> None:
    before = len(emulator.journal())
    ran = rentroll("stop", "nobody", "--json")
    assert (ran.code, ran.json["actions"]) == (
        4,
        [
            {
                "lease_id": None,
                "slug": "nobody",
                "instance_id": None,
                "action": "stop",
                "reason": "stop",
                "result": "failed",
                "error": {
                    "code": "not-found",
                    "exit_code": 4,
                    "message": "no lease 'nobody' in this ledger",
                    "next": "rentroll list --all",
                },
            }
        ],
    )
    assert len(emulator.journal()) == before


@pytest.mark.holds("W-30")
def test_of_several_each_is_tried_and_the_first_failure_gives_the_code(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll("stop", "nobody", "box", "--json")
    assert ran.code == 4
    assert [action["result"] for action in ran.json["actions"]] == ["failed", "completed"]


def test_the_same_name_twice_is_one_stop(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll("stop", "box", "box", "--json")
    assert (ran.code, ran.json["actions"]) == (0, [stopped(box)])


def test_all_stops_every_open_lease(rentroll: Rentroll, box: Any) -> None:
    rentroll("warmup", "--slug", "other")
    ran = rentroll("stop", "--all", "--json")
    assert (ran.code, {action["slug"]: action["result"] for action in ran.json["actions"]}) == (
        0,
        {"box": "completed", "other": "completed"},
    )
    assert rentroll("list", "-q").out == ""


def test_all_of_nothing_is_fine(rentroll: Rentroll) -> None:
    assert rentroll("stop", "--all", "--json").json["actions"] == []
    assert rentroll("stop", "--all").out == "no open leases\n"


@pytest.mark.holds("REL-12")
def test_all_and_a_name_is_a_usage_error(rentroll: Rentroll, box: Any) -> None:
    assert rentroll("stop", "--all", "box").code == 2
    assert rentroll("status", "box", "--json").json["phase"] == "ready"


@pytest.mark.holds("LST-13")
def test_without_a_name_it_is_the_repositorys_only_open_lease(
    rentroll: Rentroll, repository: Path, box: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rentroll("warmup", "--slug", "elsewhere")
    monkeypatch.chdir(repository)
    ran = rentroll("stop", "--json")
    assert (ran.code, ran.json["actions"]) == (0, [stopped(box)])
    assert [c["slug"] for c in rentroll("list", "--json").json["leases"]] == ["elsewhere"]


def test_without_a_name_two_open_leases_of_the_repository_are_refused(
    rentroll: Rentroll, repository: Path, box: Any
) -> None:
    rentroll("warmup", "--slug", "other")
    ran = rentroll("stop", "--json")
    assert ran.code == 2
    assert ran.json["actions"][0]["error"]["message"] == "name a lease: this repository has several open leases"


@pytest.mark.holds("REL-13", "PEER-05")
def test_without_a_key_nothing_is_deleted(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll("stop", "box", env={"RENTROLL_FAL_KEY": None})
    assert (ran.code, rentroll("status", "box", "--json").json["phase"]) == (3, "ready")
    assert "an API key is required" in ran.err


@pytest.mark.holds("CRD-03")
def test_with_another_accounts_key_nothing_is_deleted(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    emulator.change(lambda state, _now: state.add_account("other", "other:key"))
    ran = rentroll("stop", "box", "--json", env={"RENTROLL_FAL_KEY": "other:key"})
    assert (ran.code, ran.json["actions"][0]["error"]["code"]) == (3, "credentials")
    assert rentroll("status", "box", "--json").json["phase"] == "ready"


@pytest.mark.holds("CRE-17", "W-13")
def test_a_create_in_doubt_that_made_nothing_is_75_and_says_what_settles_it(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    emulator.add_fault(Fault(call="create", effects=(DropBefore(),)))
    leased = rentroll("warmup", "--slug", "lost", "--timeout", "1s", "--json")
    assert (leased.code, leased.error["code"], leased.error["next"]) == (75, "in-doubt", "rentroll stop lost")
    assert rentroll("status", "lost", "--json").json["cost"]["accrued"] is None

    ran = rentroll("stop", "lost", "--json")

    (action,) = ran.json["actions"]
    assert (ran.code, action["result"], action["error"]) == (
        75,
        "failed",
        {
            "code": "in-doubt",
            "exit_code": 75,
            "message": "whether a box was made for lease lost is not known yet, and the lease stays open",
            "hint": Like(".*five looks five minutes apart settle it.*; `rentroll watch` goes on by itself"),
            "next": "rentroll recover --only lost",
            "lease_id": LEASE_ID,
        },
    )
    assert "stop-requested" in rentroll("events", "lost").out
    people = rentroll("stop", "lost")
    assert (people.code, people.err.splitlines()[-1]) == (75, "  next: rentroll recover --only lost")


@pytest.mark.holds("CRE-14", "W-13")
def test_a_create_in_doubt_that_made_a_box_is_stopped_in_one_go(rentroll: Rentroll, emulator: Emulator) -> None:
    in_doubt(rentroll, emulator, DropAfter())
    booted(emulator)
    ran = rentroll("stop", "job")
    assert (ran.code, alive(emulator)) == (0, [])
    assert ran.out == Like(r"job is released \(rolled-back\): inst_\w+ is gone\n")


def test_a_create_in_doubt_that_fal_cannot_be_asked_about_stays_75(rentroll: Rentroll, emulator: Emulator) -> None:
    in_doubt(rentroll, emulator, DropBefore())
    emulator.add_fault(Fault(call="list", effects=(Status(status=503, error_type="overloaded"),), count=None))
    ran = rentroll("stop", "job", "--json")
    error = ran.json["actions"][0]["error"]
    assert (ran.code, error["code"], error["next"]) == (75, "in-doubt", "rentroll recover --only job")
    assert error["message"] == Like(
        "whether a box was made for lease job could not be found out, and it stays open: .*"
    )


@pytest.mark.holds("CRD-02")
def test_with_another_key_of_the_same_account_the_lease_is_bound_to_it_and_given_back(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    add_key(emulator, "new:key")
    ran = rentroll("stop", "box", "--json", env={"RENTROLL_FAL_KEY": "new:key"})
    assert (ran.code, ran.json["actions"]) == (0, [stopped(box)])
    assert "credential-rebound" in rentroll("events", box["lease_id"]).out


@pytest.mark.holds("DEL-01", "PEER-11")
def test_a_box_that_stays_is_a_provider_failure_and_the_lease_stays_open(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    emulator.add_fault(Fault(call="delete", effects=(IgnoreDelete(),), count=None))
    ran = rentroll("stop", "box", "--timeout", "0.2")
    assert (ran.code, rentroll("status", "box", "--json").json["phase"]) == (5, "deleting")
    assert ran.err.splitlines()[-1] == "  next: rentroll stop box"
    assert rentroll("status", "box", "--json").json["attention"] is not None


@pytest.mark.holds("REL-10")
def test_a_lease_that_another_process_works_on_is_a_conflict_naming_it(
    rentroll: Rentroll, box: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.flows.stop.LOCK_WAIT_S", 0.1)
    folder = Path(os.environ["RENTROLL_STATE_DIR"]) / "ledger.db.locks"
    lock = LeaseLock(folder, box["lease_id"], purpose="a test")
    lock.acquire(timeout_s=0)
    try:
        ran = rentroll("stop", "box", "--json")
    finally:
        lock.release()
    error = ran.json["actions"][0]["error"]
    assert (ran.code, error["code"], f"pid {os.getpid()}" in error["message"]) == (11, "conflict", True)


@pytest.mark.holds("CFG-17")
def test_a_stop_hint_carries_the_endpoint_that_a_flag_gave(rentroll: Rentroll, emulator: Emulator) -> None:
    emulator.add_fault(Fault(call="create", effects=(DropAfter(),)))
    flags = ("--slug", "lost", "--timeout", "1s", "--api-url", emulator.url)
    ran = rentroll("warmup", *flags, "--json", env={"RENTROLL_FAL_API_URL": None})
    assert ran.error["next"] == f"rentroll stop lost --api-url {emulator.url}"


@pytest.mark.holds("CFG-17")
def test_the_line_of_a_warm_box_carries_the_flags_that_stop_needs(
    rentroll: Rentroll, emulator: Emulator, tmp_path: Path
) -> None:
    ledger = f"sqlite:///{tmp_path}/other.db"
    ran = rentroll("--ledger", ledger, "warmup", "--slug", "box", "--api-url", emulator.url)
    assert ran.out.splitlines()[-1] == f"  rentroll --ledger {ledger} stop box --api-url {emulator.url}"


@pytest.mark.parametrize(
    ("fault", "code", "error"),
    [
        (
            Status(status=429, error_type="rate_limit_exceeded", retry_after_s=7),
            5,
            {"code": "provider", "exit_code": 5, "retry_after_seconds": 7},
        ),
        (Status(status=401, error_type="authorization_error"), 3, {"code": "credentials", "exit_code": 3}),
    ],
)
def test_a_refused_create_leaves_nothing_open(
    rentroll: Rentroll, emulator: Emulator, fault: Status, code: int, error: dict[str, Any]
) -> None:
    emulator.add_fault(Fault(call="create", effects=(fault,)))
    ran = rentroll("warmup", "--slug", "box", "--json")
    told = {name: ran.error[name] for name in ("code", "exit_code", "retry_after_seconds") if name in ran.error}
    assert (ran.code, told) == (code, error)
    (lease,) = rentroll("list", "--all", "--json").json["leases"]
    assert (lease["outcome"], lease["cost"]["accrued"]) == ("rejected", "0.00")


@pytest.mark.holds("W-42")
def test_a_stop_during_an_acquire_is_met_by_the_acquirer(rentroll: Rentroll, emulator: Emulator) -> None:
    emulator.add_fault(Fault(call="get", effects=(Delay(seconds=1.0),)))
    before = len(emulator.journal())
    with spawn(["warmup", "--slug", "job"]) as process:
        until(lambda: any(entry.call == "get" for entry in emulator.journal()[before:]))
        ran = rentroll("stop", "job", "--json")
        acquirer = finish(process)
    assert (ran.code, ran.json["actions"][0]["result"]) == (0, "rolled-back")
    assert (acquirer.code, acquirer.err.splitlines()[-2].startswith("rentroll: conflict: lease job was stopped")) == (
        11,
        True,
    )
    assert [view for view in emulator.instances() if view.deleted_at is None] == []


@pytest.mark.holds("W-42")
def test_a_stop_while_the_acquirer_does_not_come_round_is_a_recorded_conflict(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    emulator.add_fault(Fault(call="get", effects=(Delay(seconds=2.0),)))
    before = len(emulator.journal())
    with spawn(["warmup", "--slug", "job"]) as process:
        until(lambda: any(entry.call == "get" for entry in emulator.journal()[before:]))
        ran = rentroll("stop", "job", "--timeout", "0.1", "--json")
        finish(process)
    assert (ran.code, ran.json["actions"][0]["error"]["code"]) == (11, "conflict")
    assert [c["outcome"] for c in rentroll("list", "--all", "--json").json["leases"]] == ["rolled-back"]
