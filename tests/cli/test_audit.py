"""`audit`: its whole object, its table, its exit codes, and that it changes nothing but its own evidence."""

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from providers.emulator.faults import Fault, Status
from providers.emulator.serve import ACCOUNT, Emulator
from providers.emulator.state import FalState
from tests.cli.running import TIME, Like, Rentroll, until

SCOPE = Like(r"endpoint:http://127\.0\.0\.1:\d+/v1")
NO_KEY = {"RENTROLL_FAL_KEY": None}


def ledger() -> Path:
    return Path(os.environ["RENTROLL_STATE_DIR"]) / "ledger.db"


def stranger(emulator: Emulator, name: str | None = None) -> str:
    """A box in our account that this ledger did not lease."""
    return emulator.change(lambda state, now: state.add_instance(ACCOUNT, now, instance_id=name))


def audited(**fields: Any) -> dict[str, Any]:
    """The object of an audit that found nothing, with other values on top."""
    places = ("owned", "overdue", "gone", "returned", "in_doubt", "foreign", "elsewhere", "unsent")
    return {
        "schema": "rentroll.audit/1",
        "as_of": TIME,
        "position": 1,
        "begun_at": TIME,
        "scope": SCOPE,
        **{place: [] for place in places},
        "complete": True,
        "differences": 0,
    } | fields


def owned(box: Any) -> dict[str, Any]:
    return {
        "lease_id": box["lease_id"],
        "slug": "box",
        "instance_id": box["instance_id"],
        "instance_type": "gpu_1x_h100_sxm5",
        "phase": "ready",
        "expires_at": box["expires_at"],
        "reason": "inside its time",
        "is_difference": False,
        "provider_status": "ready",
        "is_other_key": False,
    }


def foreign(name: str) -> dict[str, Any]:
    return {
        "instance_id": name,
        "instance_type": "gpu_1x_h100_sxm5",
        "region": "us-west",
        "provider_status": "ready",
        "creator": "emulated-team",
        "first_seen_at": TIME,
        "absent_at": None,
        "could_be_of": [],
    }


@pytest.mark.holds("W-23", "HOLE-05", "PEER-20")
def test_on_a_host_with_an_empty_ledger_every_box_is_foreign(rentroll: Rentroll, emulator: Emulator) -> None:
    box = foreign(stranger(emulator))
    ran = rentroll("audit", "--json")
    assert (ran.code, ran.json) == (10, audited(foreign=[box], differences=1))
    allowed = rentroll("audit", "--json", "--allow-foreign")
    assert (allowed.code, allowed.json) == (
        0,
        audited(foreign=[box | {"first_seen_at": ran.json["begun_at"]}], position=2),
    )


@pytest.mark.holds("PEER-10", "PEER-24")
def test_a_box_whose_ledger_was_lost_is_foreign_and_fails_the_job_that_left_it(
    rentroll: Rentroll, box: Any, tmp_path: Path
) -> None:
    ran = rentroll("audit", "--json", env={"RENTROLL_STATE_DIR": str(tmp_path / "another")})
    assert (ran.code, ran.json) == (10, audited(foreign=[foreign(box["instance_id"])], differences=1))


def test_an_account_that_holds_what_the_ledger_says_ends_with_0(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll("audit", "--json")
    assert (ran.code, ran.json) == (0, audited(owned=[owned(box)], position=5))


@pytest.mark.holds("W-23")
def test_it_appends_one_inventory_as_evidence_reads_only_and_changes_nothing_else(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    stranger(emulator)
    before, claims = len(emulator.journal()), rentroll("list", "--all", "--json").json["leases"]
    position = rentroll("audit", "--json").json["position"]
    events = [line.split()[2] for line in rentroll("events").out.splitlines()]
    assert (len(events), events[-1], position) == (5, "inventory-observed", 5)
    after = rentroll("list", "--all", "--json").json["leases"]
    for lease in (*claims, *after):
        del lease["cost"]
    assert after == claims
    assert [entry.call for entry in emulator.journal()[before:]] == ["list"]
    assert rentroll("verify").code == 0


def test_a_box_that_is_gone_and_one_that_is_overdue_are_differences(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    rentroll("warmup", "--slug", "late", "--ttl", "1s")
    until(lambda: rentroll("status", "late", "--json").json["attention"])

    def remove(state: FalState, now: datetime) -> None:
        state.remove_instance(box["instance_id"], now)

    emulator.change(remove)
    ran = rentroll("audit")
    rows = [line.split(maxsplit=3) for line in ran.out.splitlines()]
    assert (ran.code, [row[:2] for row in rows[1:3]]) == (10, [["overdue", "late"], ["gone", "box"]])
    assert rows[1][3] == Like(r"\ds past its end, \$0\.\d\d so far")
    assert rows[2][3] == Like(r"last seen \ds ago")
    assert ran.out.splitlines()[-1] == Like(r"1 listed, 2 open leases at \S+Z: 2 differences")
    assert (
        "rentroll: gone, in doubt or unfinished: `rentroll recover` looks closer, and goes on where it can" in ran.err
    )
    assert rentroll("audit", "--allow-foreign").code == 10


def test_in_words_it_fits_80_columns(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    rentroll("audit")
    stranger(emulator, f"inst_{os.urandom(20).hex()}")
    ran = rentroll("audit")
    lines = ran.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["STATE", "LEASE", "INSTANCE", "DETAIL"]
    assert lines[1] == Like(rf"owned +box +{box['instance_id']} +inside its time")
    assert lines[2] == Like(r"foreign +- +inst_[0-9a-f]+….*")


def test_in_words_it_says_since_when_a_foreign_box_has_been_there(rentroll: Rentroll, emulator: Emulator) -> None:
    rentroll("audit")
    box = stranger(emulator)
    row = rentroll("audit").out.splitlines()[1]
    assert row == Like(rf"foreign +- +{box} +by emulated-team, up \ds to \ds")


@pytest.mark.holds("W-38")
def test_leases_of_another_key_are_counted_and_named(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    emulator.change(lambda state, _now: state.add_account("others", "others:key"))
    ran = rentroll("audit", env={"RENTROLL_FAL_KEY": "others:key"})
    assert ran.code == 0
    assert ran.out.splitlines()[1] == Like(rf"elsewhere +box +{box['instance_id']} +of another key, ready")
    assert "rentroll: elsewhere: 1 open lease of another key or endpoint: look with that one" in ran.err


@pytest.mark.parametrize(
    ("fault", "key", "code"),
    [
        (Status(status=503), "emulator", 5),
        (Status(status=401, error_type="authorization_error"), "emulator", 3),
        (None, None, 3),
    ],
)
def test_where_the_account_cannot_be_asked_it_says_so_and_makes_no_ledger(
    rentroll: Rentroll, emulator: Emulator, fault: Status | None, key: str | None, code: int
) -> None:
    if fault is not None:
        emulator.add_fault(Fault(call="list", effects=(fault,), count=None))
    ran = rentroll("audit", "--json", env={} if key else NO_KEY)
    assert (ran.code, ran.error["exit_code"], ledger().exists()) == (code, code, False)
