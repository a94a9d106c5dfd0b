"""A long run renews its lease as long as it works, and a sign that cannot be recorded stops nothing."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from cli.alive import signs_of_life
from cli.app import App, GlobalOptions
from ledger.store.sqlite_read import open_sqlite_reader
from tests.cli.running import LIMIT_S, Rentroll, until


def signs(lease_id: str) -> list[str]:
    """The types of the lease's events after it became ready."""
    reader = open_sqlite_reader(Path(os.environ["RENTROLL_STATE_DIR"]) / "ledger.db")
    assert reader is not None
    with reader:
        return [row.type for row in reader.rows(lease_id)][4:]


@pytest.mark.holds("TCH-06", "HOLE-04", "PEER-26")
def test_a_run_appends_signs_of_life_until_it_ends(
    rentroll: Rentroll, box: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.alive.SIGN_OF_LIFE_S", 0.05)
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def open_the_gate() -> None:
        try:
            until(lambda: signs(box["lease_id"]).count("touched") >= 2)
        finally:
            gate.write_text("on\n")

    thread = threading.Thread(target=open_the_gate)
    thread.start()
    ran = rentroll("run", "--id", "box", "--no-sync", "--", "sh", "-c", f"read line < {gate}")
    thread.join(LIMIT_S)

    *before, last = signs(box["lease_id"])
    assert (ran.code, set(before), before.count("run-started"), last) == (
        0,
        {"touched", "run-started"},
        1,
        "run-finished",
    )
    rows = [json.loads(line) for line in rentroll("events", "box", "--type", "touched", "--jsonl").out.splitlines()]
    assert {row["payload"]["cause"] for row in rows} == {"run"}


@pytest.mark.holds("TCH-06")
def test_a_sign_that_cannot_be_recorded_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Here of a lease that does not exist."""
    monkeypatch.setattr("cli.alive.SIGN_OF_LIFE_S", 0.01)
    app = App(GlobalOptions(ledger=None, config=None, verbosity=0, log_format="console", color=False))
    told: list[str] = []

    def is_told() -> bool:
        told.append(capfd.readouterr().err)
        return "rentroll: no sign of life could be recorded: " in "".join(told)

    with signs_of_life(app, "rl_" + "0" * 26, "run"):
        until(is_told)
    app.close()
