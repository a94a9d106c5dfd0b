"""The line about overdue boxes: every command ends with it, wherever its own words went, and none pays for it."""

import os
from pathlib import Path
from typing import Any

import pytest

from providers.emulator.serve import Emulator
from tests.cli.leftovers import ago
from tests.cli.running import Like, Rentroll

SINCE = r"since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
LINE = Like(rf"rentroll: overdue: late \({SINCE}, \$3\.00/h\): `rentroll cleanup` deletes what nobody wants any more")


@pytest.fixture
def late(rentroll: Rentroll, emulator: Emulator) -> Any:
    with ago(emulator, hours=2):
        return rentroll("warmup", "--slug", "late", "--json").json


@pytest.mark.holds("W-10", "PEER-08", "PEER-23")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("events",), 0),
        (("verify",), 0),
        (("types",), 0),
        (("providers",), 0),
        (("config", "show"), 0),
        (("cleanup", "--dry-run"), 0),
        (("touch", "nobody"), 4),
        (("recover",), 10),
        (("warmup", "--slug", "other"), 0),
        (("list", "-q"), 0),
        (("list", "--json"), 0),
        (("list", "--as-of", "0"), 0),
        (("list", "--refresh", "--as-of", "1"), 2),
        (("status", "late", "--json"), 0),
        (("status", "nobody"), 4),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_every_command_ends_with_what_is_overdue(
    rentroll: Rentroll, late: Any, words: tuple[str, ...], code: int
) -> None:
    ran = rentroll(*words)
    (line,) = [line for line in ran.err.splitlines() if "overdue" in line]
    assert (ran.code, "overdue" in ran.out) == (code, False)
    assert line == LINE


def test_the_class_of_a_failed_run_stays_the_last_line(rentroll: Rentroll, late: Any) -> None:
    ran = rentroll("run", "--id", "nobody", "--no-sync", "--", "true")
    *_, overdue, _next, last = ran.err.splitlines()
    assert (ran.code, last) == (125, "rentroll: not-found: no lease 'nobody' in this ledger")
    assert overdue == LINE


@pytest.mark.parametrize("words", [("list",), ("status", "late")])
def test_list_and_status_say_it_in_their_own_notes(rentroll: Rentroll, late: Any, words: tuple[str, ...]) -> None:
    (line,) = rentroll(*words).err.splitlines()
    assert line.endswith("and it still bills: run `rentroll stop late`")


def test_status_leaves_out_only_its_own_lease(rentroll: Rentroll, late: Any, box: Any) -> None:
    (line,) = rentroll("status", "box").err.splitlines()
    assert line == LINE


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("events", "--help"), ("completion", "bash")])
def test_help_version_and_completion_say_nothing(rentroll: Rentroll, late: Any, words: tuple[str, ...]) -> None:
    assert rentroll(*words).err == ""


def test_what_is_inside_its_time_or_gone_is_not_overdue(rentroll: Rentroll, late: Any, box: Any) -> None:
    rentroll("stop", "late")
    assert rentroll("events").err == ""


def test_many_are_counted(rentroll: Rentroll, emulator: Emulator) -> None:
    with ago(emulator, hours=3):
        for number in range(5):
            rentroll("warmup", "--slug", f"late-{number}", "--ttl", f"{number + 1}m")
    (line,) = rentroll("events").err.splitlines()
    named = ", ".join(rf"late-{number} \({SINCE}, \$3\.00/h\)" for number in range(3))
    assert line == Like(rf"rentroll: overdue: {named} and 2 more: `rentroll cleanup` deletes what .*")


def test_a_rate_that_is_not_known_is_left_out(rentroll: Rentroll, emulator: Emulator) -> None:
    no_rate = {"RENTROLL_RATES_GPU_1X_H100_SXM5": None}
    with ago(emulator, hours=2):
        rentroll("warmup", "--slug", "late", env=no_rate)
    (line,) = rentroll("events").err.splitlines()
    assert line == Like(rf"rentroll: overdue: late \({SINCE}\): .*")


def test_what_to_type_carries_the_ledger_that_was_named(rentroll: Rentroll, emulator: Emulator, tmp_path: Path) -> None:
    ledger = f"sqlite:///{tmp_path}/other.db"
    with ago(emulator, hours=2):
        rentroll("--ledger", ledger, "warmup", "--slug", "late")
    assert f"`rentroll --ledger {ledger} cleanup`" in rentroll("--ledger", ledger, "events").err


def test_no_ledger_is_made_and_one_that_cannot_be_read_stops_nothing(rentroll: Rentroll) -> None:
    state = Path(os.environ["RENTROLL_STATE_DIR"])
    assert (rentroll("types").code, list(state.iterdir())) == (0, [])
    (state / "ledger.db").write_bytes(b"no database at all, but long enough")
    ran = rentroll("types")
    assert (ran.code, ran.err) == (0, "")
