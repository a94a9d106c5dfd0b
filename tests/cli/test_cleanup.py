"""`cleanup`: what has expired is deleted, and only that; what is kept, inside its time or foreign stays."""

import os
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from providers.emulator.faults import DateSkew, Fault, Status
from providers.emulator.serve import ACCOUNT, Emulator
from tests.cli.leftovers import action, actions_object, add_key, ago, alive, killed_before
from tests.cli.running import Like, Rentroll

NO_KEY = {"RENTROLL_FAL_KEY": None}
EXPIRED = Like(r"expired at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


report = partial(actions_object, "cleanup")


@pytest.fixture
def late(rentroll: Rentroll, emulator: Emulator) -> Any:
    """A ready lease whose half hour of idle time was over long ago."""
    with ago(emulator, hours=2):
        return rentroll("warmup", "--slug", "late", "--ttl", "1h", "--json").json


@pytest.mark.holds("CLN-01", "CLN-04", "CLN-05", "W-10")
def test_what_has_expired_is_deleted_and_nothing_else(
    rentroll: Rentroll, late: Any, box: Any, emulator: Emulator
) -> None:
    foreign = emulator.change(lambda state, now: state.add_instance(ACCOUNT, now))

    ran = rentroll("cleanup", "--json")

    done = action(lease_id=late["lease_id"], slug="late", action="delete", reason=EXPIRED, result="completed")
    stays = action(slug="box", action="none", reason="inside its time", result="nothing to do")
    both = sorted(ran.json.pop("actions"), key=lambda shown: shown["slug"], reverse=True)
    assert (ran.code, both) == (0, [done, stays])
    assert rentroll("cleanup", "--json").json == report(stays, kept=1)
    assert sorted(alive(emulator)) == sorted([box["instance_id"], foreign])


@pytest.mark.holds("CLN-08", "W-31")
def test_its_dry_run_is_what_it_then_does(rentroll: Rentroll, late: Any, emulator: Emulator) -> None:
    before = len(emulator.journal())
    planned = rentroll("cleanup", "--dry-run", "--json")
    whole = action(slug="late", action="delete", reason=EXPIRED, result="not done: dry run")
    assert (planned.code, planned.json) == (0, report(whole, dry_run=True, still_billable=1))
    assert len(emulator.journal()) == before

    done = rentroll("cleanup", "--json")

    assert (done.code, done.json) == (0, report(whole | {"result": "completed"}, done=1))


@pytest.mark.holds("CLN-25")
def test_a_dry_run_under_a_new_key_of_the_account_stores_nothing(
    rentroll: Rentroll, late: Any, emulator: Emulator
) -> None:
    add_key(emulator, "new:key")
    before, calls = rentroll("events", "--jsonl").out, len(emulator.journal())
    ran = rentroll("cleanup", "--dry-run", "--json", env={"RENTROLL_FAL_KEY": "new:key"})
    whole = action(slug="late", action="delete", reason=EXPIRED, result="not done: dry run")
    assert (ran.code, ran.json) == (0, report(whole, dry_run=True, still_billable=1, elsewhere=1))
    assert (rentroll("events", "--jsonl").out, len(emulator.journal())) == (before, calls)


@pytest.mark.holds("REL-15", "W-32")
def test_people_see_what_was_done_and_the_tally(rentroll: Rentroll, late: Any, box: Any) -> None:
    ran = rentroll("cleanup")
    heading, *rows, tally = ran.out.splitlines()
    assert (ran.code, heading.split()) == (0, ["LEASE", "ACTION", "RESULT", "REASON"])
    assert sorted(row.split()[:3] for row in rows) == [["box", "none", "nothing"], ["late", "delete", "completed"]]
    assert tally == "1 done, 1 kept, 0 still billable"


@pytest.mark.holds("CLN-03", "KEEP-06", "W-25")
def test_a_kept_box_is_left_until_its_keep_has_ended(rentroll: Rentroll, emulator: Emulator) -> None:
    keep = ("--keep-until", "3h", "--reason", "debugging")
    with ago(emulator, hours=2):
        rentroll("warmup", "--slug", "late", "--ttl", "1h", *keep)

    kept = rentroll("cleanup", "--json")
    with ago(emulator, hours=-2):
        ended = rentroll("cleanup", "--json")

    assert (kept.code, kept.json) == (
        0,
        report(action(slug="late", action="none", reason="kept", result="nothing to do"), kept=1),
    )
    done = action(slug="late", action="delete", reason=EXPIRED, result="completed")
    assert (ended.code, ended.json, alive(emulator)) == (0, report(done, done=1), [])


@pytest.mark.holds("W-15")
def test_what_has_expired_only_by_our_own_clock_is_left_with_10(
    rentroll: Rentroll, late: Any, emulator: Emulator
) -> None:
    emulator.add_fault(Fault(call="any", effects=(DateSkew(seconds=-6600),), count=None))
    ran = rentroll("cleanup", "--json")
    (shown,) = ran.json["actions"]
    assert (ran.code, shown["error"]["code"], shown["error"]["hint"]) == (
        10,
        "provider",
        "set the clock; nothing was deleted",
    )
    assert len(alive(emulator)) == 1


@pytest.mark.holds("CLN-22", "W-19")
def test_without_a_key_a_confirmed_deletion_is_finished_and_the_expired_box_is_left_with_10(
    rentroll: Rentroll, late: Any, emulator: Emulator
) -> None:
    killed_before("released", "run", "--no-sync", "--slug", "job", "--", "true")

    ran = rentroll("cleanup", "--json", env=NO_KEY)

    by_slug = {shown["slug"]: shown for shown in ran.json["actions"]}
    assert (ran.code, by_slug["job"]["result"], by_slug["late"]["result"]) == (10, "completed", "failed")
    assert by_slug["late"]["error"] == {
        "code": "credentials",
        "exit_code": 3,
        "message": "an API key is required from the environment",
        "hint": "`rentroll doctor` checks the set-up",
    }
    assert alive(emulator) == [late["instance_id"]]


@pytest.mark.holds("CLN-21", "W-19", "W-38")
def test_another_keys_leases_do_not_block_mine_and_are_left_with_10(
    rentroll: Rentroll, late: Any, emulator: Emulator
) -> None:
    emulator.change(lambda state, _now: state.add_account("other", "other:key"))
    other = {"RENTROLL_FAL_KEY": "other:key"}
    with ago(emulator, hours=2):
        rentroll("warmup", "--slug", "theirs", "--ttl", "1h", env=other)

    ran = rentroll("cleanup", "--json")

    results = {shown["slug"]: (shown["result"], shown.get("error", {}).get("code")) for shown in ran.json["actions"]}
    assert results == {"late": ("completed", None), "theirs": ("failed", "credentials")}
    tally = {"done": 1, "failed": 1, "kept": 0, "still_billable": 1, "elsewhere": 1}
    assert (ran.code, ran.json["tally"]) == (10, tally)
    assert (alive(emulator), len(alive(emulator, "other"))) == ([], 1)

    theirs = rentroll("cleanup", "--json", env=other)

    assert (theirs.code, alive(emulator, "other")) == (0, [])


@pytest.mark.holds("CRD-02")
def test_a_new_key_of_the_same_account_goes_on_by_itself(rentroll: Rentroll, late: Any, emulator: Emulator) -> None:
    add_key(emulator, "new:key")
    ran = rentroll("cleanup", "--json", env={"RENTROLL_FAL_KEY": "new:key"})
    assert (ran.code, alive(emulator)) == (0, [])
    (event,) = rentroll("events", late["lease_id"], "--type", "credential-rebound", "--jsonl").out.splitlines()
    assert '"evidence": "instance-seen"' in event


@pytest.mark.holds("CLN-26", "CRD-04")
def test_a_rotated_key_that_cannot_be_checked_is_an_error_and_touches_nothing(
    rentroll: Rentroll, late: Any, emulator: Emulator
) -> None:
    add_key(emulator, "new:key")
    emulator.add_fault(Fault(call="get", effects=(Status(status=503, error_type="overloaded"),), count=None))
    ran = rentroll("cleanup", "--json", env={"RENTROLL_FAL_KEY": "new:key"})
    (shown,) = ran.json["actions"]
    assert (ran.code, shown["error"]["code"], alive(emulator)) == (10, "provider", [late["instance_id"]])
    assert rentroll("events", late["lease_id"], "--type", "credential-rebound", "--jsonl").out == ""


@pytest.mark.holds("W-04", "CLN-10")
def test_a_lease_that_cannot_be_read_is_named_and_keeps_no_other_from_being_deleted(
    rentroll: Rentroll, late: Any, emulator: Emulator
) -> None:
    with ago(emulator, hours=2):
        damaged = rentroll("warmup", "--slug", "damaged", "--ttl", "1h", "--json").json
    connection = sqlite3.connect(Path(os.environ["RENTROLL_STATE_DIR"]) / "ledger.db")
    triggers = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
    for name in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute("UPDATE events SET payload = '{}' WHERE stream = ? AND type = 'ready'", (damaged["lease_id"],))
    connection.commit()
    connection.close()

    ran = rentroll("cleanup", "--json")

    results = {shown["slug"]: (shown["result"], shown.get("error", {}).get("code")) for shown in ran.json["actions"]}
    assert (ran.code, results) == (10, {"late": ("completed", None), "damaged": ("failed", "integrity")})
    assert alive(emulator) == [damaged["instance_id"]]
