"""`recover` as a command: which leases it looks at and under which key, what it shows, and what it ends with."""

import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from providers.emulator.faults import DropBefore, Fault, Status
from providers.emulator.serve import Emulator
from tests.cli.leftovers import action, actions_object, alive, in_doubt, killed_before, nothing
from tests.cli.running import Rentroll, finish, spawn

WARMUP = ("warmup", "--slug", "job")
RUN = ("run", "--no-sync", "--slug", "job", "--", "true")
NO_KEY = {"RENTROLL_FAL_KEY": None}


report = partial(actions_object, "recover")


@pytest.mark.holds("CLN-10", "W-30", "W-32")
def test_one_lease_that_fails_keeps_no_other_from_being_finished(rentroll: Rentroll, emulator: Emulator) -> None:
    for slug in ("bad", "good"):
        killed_before("ready", "warmup", "--slug", slug)
    bad, _ = alive(emulator)
    denied = Status(status=401, error_type="authorization_error", message="no")
    emulator.add_fault(Fault(call="delete", instance_id=bad, effects=(denied,), count=None))

    ran = rentroll("recover")

    lines = [line.split()[:3] for line in ran.out.splitlines()[:3]]
    by_slug = [["LEASE", "ACTION", "RESULT"], ["bad", "roll-back", "failed"], ["good", "roll-back", "rolled-back"]]
    assert (ran.code, [lines[0], *sorted(lines[1:])], alive(emulator)) == (10, by_slug, [bad])
    assert ran.out.splitlines()[3:] == ["1 done, 1 failed, 0 kept, 1 still billable"]
    first, *_, last = [line for line in ran.err.splitlines() if "bad: credentials" in line or "next" in line]
    assert first.startswith("rentroll: bad: credentials: ")
    assert last == "rentroll:   next: rentroll stop bad"


@pytest.mark.holds("CLN-22", "W-19")
def test_without_a_key_what_is_local_is_done_and_what_bills_is_left_with_10(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    killed_before("released", *RUN)
    killed_before("ready", "warmup", "--slug", "bills")

    ran = rentroll("recover", "--json", env=NO_KEY)

    by_slug = {shown["slug"]: (shown["result"], shown.get("error", {}).get("code")) for shown in ran.json["actions"]}
    assert (ran.code, by_slug) == (10, {"job": ("completed", None), "bills": ("failed", "credentials")})
    assert ran.json["tally"] == report(done=1, failed=1, still_billable=1, elsewhere=None)["tally"]
    assert len(alive(emulator)) == 1


@pytest.mark.holds("CRD-03", "CLN-21", "W-38")
def test_with_another_accounts_key_nothing_is_touched_and_it_is_counted(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    killed_before("ready", *WARMUP)
    emulator.change(lambda state, _now: state.add_account("other", "other:key"))

    ran = rentroll("recover", env={"RENTROLL_FAL_KEY": "other:key"})

    assert (ran.code, len(alive(emulator))) == (10, 2)
    tally = "0 done, 1 failed, 1 kept, 1 still billable; 2 open leases are under other endpoints or keys"
    assert ran.out.splitlines()[-1] == tally


def test_with_a_key_that_fal_rejects_nothing_is_touched(rentroll: Rentroll, emulator: Emulator) -> None:
    killed_before("ready", *WARMUP)
    ran = rentroll("recover", "--json", env={"RENTROLL_FAL_KEY": "nobody:key"})
    assert (ran.code, ran.json["actions"][0]["error"]["code"], len(alive(emulator))) == (10, "credentials", 1)


@pytest.mark.holds("REL-03")
def test_a_lease_of_another_endpoint_is_left_alone_and_says_so(rentroll: Rentroll, emulator: Emulator) -> None:
    killed_before("ready", *WARMUP)
    other = f"http://127.0.0.1:{emulator.http_port}/other"
    ran = rentroll("recover", "--api-url", other, "--json")
    (shown,) = ran.json["actions"]
    assert (ran.code, shown["error"]["code"], ran.json["tally"]["elsewhere"]) == (10, "usage", 1)
    assert len(alive(emulator)) == 1


def test_only_the_leases_that_are_named_are_looked_at(rentroll: Rentroll, emulator: Emulator) -> None:
    for slug in ("one", "two"):
        killed_before("ready", "warmup", "--slug", slug)

    ran = rentroll("recover", "--only", "one", "--json")

    done = action(slug="one", action="roll-back", reason="its acquirer is gone", result="rolled-back")
    assert (ran.code, ran.json) == (0, report(done, done=1))
    assert len(alive(emulator)) == 1


def test_a_released_lease_that_is_named_needs_nothing(rentroll: Rentroll, box: Any) -> None:
    rentroll("stop", "box")
    ran = rentroll("recover", "--only", box["lease_id"], "--json")
    assert (ran.code, ran.json) == (0, report(nothing("it is released (completed)", slug="box")))


@pytest.mark.parametrize(("names", "code"), [(("nobody",), 4), (("nobody", "job"), 10)])
def test_an_unknown_name_is_its_own_failed_action(
    rentroll: Rentroll, emulator: Emulator, names: tuple[str, ...], code: int
) -> None:
    """Its code gives way to that of what is still billable."""
    in_doubt(rentroll, emulator, DropBefore())
    ran = rentroll("recover", *(word for name in names for word in ("--only", name)), "--json")
    assert (ran.code, ran.json["actions"][-1]) == (
        code,
        {
            "lease_id": None,
            "slug": "nobody",
            "instance_id": None,
            "action": "none",
            "reason": "--only",
            "result": "failed",
            "error": {
                "code": "not-found",
                "exit_code": 4,
                "message": "no lease 'nobody' in this ledger",
                "next": "rentroll list --all",
            },
        },
    )


def test_an_unknown_name_is_told_to_people_with_what_to_type(rentroll: Rentroll) -> None:
    ran = rentroll("recover", "--only", "nobody")
    assert (ran.code, ran.out, ran.err.splitlines()) == (
        4,
        "",
        [
            "rentroll: nobody: not-found: no lease 'nobody' in this ledger",
            "rentroll:   next: rentroll list --all",
        ],
    )


@pytest.mark.holds("CLN-02")
def test_nothing_to_do_needs_no_provider_no_key_and_no_ledger(rentroll: Rentroll, emulator: Emulator) -> None:
    before = len(emulator.journal())
    assert rentroll("recover").out == "no open leases\n"
    ran = rentroll("recover", "--json", env=NO_KEY)
    assert (ran.code, ran.json) == (0, report(elsewhere=None))
    assert (len(emulator.journal()), list(Path(os.environ["RENTROLL_STATE_DIR"]).iterdir())) == (before, [])


def test_a_pass_that_is_impossible_is_still_an_actions_object(rentroll: Rentroll, box: Any) -> None:
    (Path(os.environ["RENTROLL_STATE_DIR"]) / "ledger.db").write_bytes(b"no database at all, but long enough")
    ran = rentroll("recover", "--json")
    (shown,) = ran.json["actions"]
    error = shown.pop("error")
    assert (ran.code, ran.json["tally"], shown) == (
        error["exit_code"],
        None,
        {
            "lease_id": None,
            "slug": None,
            "instance_id": None,
            "action": "none",
            "reason": "the whole pass failed",
            "result": "failed",
        },
    )
    assert (error["code"], ran.code) in (("usage", 2), ("integrity", 9))


@pytest.mark.holds("CLN-08", "W-31")
def test_a_dry_run_is_the_plan_from_the_ledger_alone(rentroll: Rentroll, emulator: Emulator) -> None:
    killed_before("ready", *WARMUP)
    before, events = len(emulator.journal()), rentroll("events", "--jsonl").out

    ran = rentroll("recover", "--dry-run", "--json", env=NO_KEY)

    planned = action(action="roll-back", reason="its acquirer is gone", result="not done: dry run")
    whole = report(planned, dry_run=True, still_billable=1, elsewhere=None)
    assert (ran.code, ran.json) == (0, whole)
    told = rentroll("recover", "--dry-run").out.splitlines()
    assert (told[1].split(), told[2:]) == (
        ["job", "roll-back", "its", "acquirer", "is", "gone"],
        ["0 kept, 1 to be ended"],
    )
    assert (len(emulator.journal()), rentroll("events", "--jsonl").out) == (before, events)


@pytest.mark.holds("CFG-17")
def test_what_to_type_next_carries_the_flags_that_were_needed_here(rentroll: Rentroll, emulator: Emulator) -> None:
    in_doubt(rentroll, emulator, DropBefore())
    ran = rentroll("recover", "--api-url", emulator.url, "--json")
    assert ran.json["actions"][0]["error"]["next"] == f"rentroll recover --only job --api-url {emulator.url}"


def test_two_at_once_finish_the_same_lease_once(rentroll: Rentroll, emulator: Emulator) -> None:
    killed_before("ready", *WARMUP)
    with spawn(["recover", "--json"]) as one, spawn(["recover", "--json"]) as two:
        ran = [finish(one), finish(two)]
    assert [one.code for one in ran] == [0, 0], [one.err for one in ran]
    assert (alive(emulator), rentroll("list", "-q").out, rentroll("verify").code) == ([], "", 0)


def test_it_says_how_many_leases_and_never_a_secret(rentroll: Rentroll, emulator: Emulator) -> None:
    killed_before("ready", *WARMUP)
    ran = rentroll("recover", "-h")
    assert re.search(r"--write-off", ran.out)
    ran = rentroll("recover", "--only", emulator.key)
    assert (ran.code, emulator.key in ran.out + ran.err) == (4, False)
