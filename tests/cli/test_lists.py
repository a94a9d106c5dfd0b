"""What a list, a status and a name show and find: our leases, all of them, and nothing else."""

import os
from pathlib import Path
from typing import Any

import pytest

from ledger.domain.state import Lease
from ledger.store.sqlite import SqliteRegister
from providers.emulator.faults import DropAfter, Fault, Rewrite, Status
from providers.emulator.serve import Emulator
from tests.cli.running import Ran, Rentroll
from tests.contract.conftest import sqlite_ledger
from tests.contract.facts import ACTOR, BOX, LEASE_A, LEASE_B, NOW, bound, requested, sent


def listed(ran: Ran) -> dict[str, tuple[str, str | None]]:
    """Phase and provider status of each lease in a list."""
    assert ran.code == 0, ran.err
    return {lease["slug"]: (lease["phase"], lease["provider_status"]) for lease in ran.json["leases"]}


@pytest.fixture
def unready(rentroll: Rentroll, emulator: Emulator) -> None:
    """A kept lease, `box`, whose instance never got an address."""
    pending = Rewrite(put={"status": "pending"}, omit=("ip",))
    emulator.add_fault(Fault(call="get", effects=(pending,), count=None))
    ran = rentroll("warmup", "--slug", "box", "--keep", "--reason", "to look at it", "--timeout", "1s")
    assert ran.code == 5, ran.err


@pytest.mark.holds("LST-01", "W-38")
def test_a_list_shows_the_leases_of_every_endpoint_and_no_box_of_somebody_else(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    emulator.change(lambda state, now: state.add_instance("emulated-team", now))
    elsewhere = emulator.url.replace("127.0.0.1", "localhost")
    assert rentroll("warmup", "--slug", "elsewhere", "--api-url", elsewhere).code == 0

    assert listed(rentroll("list", "--json")) == {"box": ("ready", "ready"), "elsewhere": ("ready", "ready")}
    assert listed(rentroll("list", "--refresh", "--json")) == {
        "box": ("ready", "ready"),
        "elsewhere": ("ready", "provider-verification-unavailable"),
    }


@pytest.mark.holds("LST-02")
def test_a_create_in_doubt_is_listed_without_an_instance_and_nobody_is_asked(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    emulator.add_fault(Fault(call="create", effects=(Status(status=500),), count=None))
    assert rentroll("warmup", "--slug", "doubt", "--timeout", "1s").code == 75
    before = len(emulator.journal())

    for words in (("list",), ("list", "--refresh")):
        (shown,) = rentroll(*words, "--json").json["leases"]
        assert (shown["slug"], shown["phase"], shown["instance_id"]) == ("doubt", "in-doubt", None)
    assert len(emulator.journal()) == before


@pytest.mark.holds("LST-07")
@pytest.mark.usefixtures("unready")
def test_a_lease_without_an_address_has_a_status(rentroll: Rentroll) -> None:
    ran = rentroll("status", "box", "--refresh", "--json")
    assert (ran.code, ran.json["phase"], ran.json["provider_status"]) == (0, "provisioning", "ready")
    assert (ran.json["ssh"]["host"], ran.json["ssh"]["host_key_fingerprint"]) == (None, None)
    assert ran.json["instance_id"] is not None
    assert ran.json["keep"]["reason"] == "to look at it"


@pytest.mark.holds("LST-07", "LST-09")
@pytest.mark.usefixtures("unready")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("run", "--id", "box", "--no-sync", "--", "true"), 125),
        (("ssh", "box", "--", "true"), 4),
        (("touch", "box"), 4),
    ],
)
def test_nothing_runs_on_a_lease_without_an_address(rentroll: Rentroll, words: tuple[str, ...], code: int) -> None:
    ran = rentroll(*words)
    assert (ran.code, ran.out) == (code, "")
    assert "rentroll: not-found: lease box: it is provisioning, not ready" in ran.err.splitlines()


def bind_one_box_twice(register: SqliteRegister) -> None:
    """As two ledgers that were put together may have it; no command of ours does so."""
    for lease_id, slug in ((LEASE_A, "one"), (LEASE_B, "two")):
        with register.transaction() as transaction:
            transaction.append(Lease(lease_id=lease_id), [requested(slug), sent(), bound()], at=NOW, actor=ACTOR)


@pytest.mark.holds("LST-11")
def test_a_box_that_two_leases_claim_is_no_name_of_either(rentroll: Rentroll, emulator: Emulator) -> None:
    with sqlite_ledger(Path(os.environ["RENTROLL_STATE_DIR"])) as register:
        bind_one_box_twice(register)
    before = len(emulator.journal())

    status = rentroll("status", BOX, "--json")
    stopped = rentroll("stop", BOX, "--json")

    (action,) = stopped.json["actions"]
    for error in (status.error, action["error"]):
        assert (error["code"], error["exit_code"], error["hint"]) == ("usage", 2, "use a lease id")
        assert error["message"].startswith(f"'{BOX}' means several leases: ")
        assert {LEASE_A, LEASE_B} == set(error["message"].partition(": ")[2].split(", "))
    assert (status.code, stopped.code, len(emulator.journal())) == (2, 2, before)


LOOKS = (
    ("list",),
    ("list", "--all", "--refresh"),
    ("status", "box"),
    ("status", "box", "--refresh"),
    ("events",),
    ("verify",),
    ("ssh", "box", "--print"),
    ("cleanup", "--dry-run"),
    ("warmup", "--dry-run"),
)


@pytest.mark.holds("LST-12", "PEER-44")
@pytest.mark.parametrize("key", ["own", "of another account", "none"])
def test_looking_writes_nothing_whatever_key_is_set(rentroll: Rentroll, box: Any, emulator: Emulator, key: str) -> None:
    emulator.change(lambda state, _now: state.add_account("another", "another:key"))
    keys: dict[str, str | None] = {"own": emulator.key, "of another account": "another:key", "none": None}
    before = rentroll("events", "--jsonl").out

    for words in LOOKS:
        ran = rentroll(*words, env={"RENTROLL_FAL_KEY": keys[key]})
        assert ran.code == 0, (words, ran.err)

    assert rentroll("events", "--jsonl").out == before


@pytest.mark.holds("TCH-03")
def test_a_touch_keeps_the_leases_own_limits_whatever_the_settings_say_now(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll("touch", "box", "--json", env={"RENTROLL_TTL": "1m", "RENTROLL_IDLE_TIMEOUT": "1m"})
    assert (ran.code, ran.json["ttl_seconds"], ran.json["idle_timeout_seconds"]) == (0, 5400, 1800)


@pytest.mark.holds("PEER-18", "PEER-45")
def test_asking_again_for_a_name_whose_create_is_in_doubt_buys_nothing(rentroll: Rentroll, emulator: Emulator) -> None:
    emulator.add_fault(Fault(call="create", effects=(DropAfter(),)))
    lost = rentroll("warmup", "--slug", "job", "--timeout", "1s", "--json")
    assert lost.code == 75
    before = [entry.call for entry in emulator.journal()].count("create")

    again = rentroll("warmup", "--slug", "job", "--json")

    assert (again.code, again.error["lease_id"], again.error["next"]) == (
        2,
        lost.error["lease_id"],
        "rentroll status job",
    )
    assert [entry.call for entry in emulator.journal()].count("create") == before
    assert len([view for view in emulator.instances() if view.deleted_at is None]) == 1
