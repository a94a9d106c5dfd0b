"""A copy of the ledger, on a machine that has nothing else of the first one."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from providers.emulator.serve import Emulator
from tests.cli.running import Like, Rentroll


@pytest.fixture
def copied(box: Any, tmp_path: Path) -> dict[str, str]:
    """The settings of a machine to which the ledger was copied while it was in use; the keys were not."""
    folder = tmp_path / "elsewhere"
    folder.mkdir(mode=0o700)
    with (
        closing(sqlite3.connect(Path(os.environ["RENTROLL_STATE_DIR"]) / "ledger.db")) as ledger,
        closing(sqlite3.connect(folder / "ledger.db")) as copy,
    ):
        ledger.backup(copy)
    return {"RENTROLL_STATE_DIR": str(folder)}


@pytest.mark.holds("W-22", "PEER-40")
def test_a_copy_verifies_and_shows_the_same_leases(rentroll: Rentroll, box: Any, copied: dict[str, str]) -> None:
    verified = rentroll("verify", "--json", env=copied)
    assert (verified.code, verified.json["ok"], verified.json["events"]) == (0, True, 4)
    shown = rentroll("status", "box", "--json", env=copied).json
    differs = {name for name in box if name != "schema" and shown[name] != box[name]} - {"cost"}
    assert differs == {"ssh"}
    assert shown["ssh"] == box["ssh"] | {"key_path": Like(r".*/elsewhere/keys/.*")}


@pytest.mark.holds("W-22", "PEER-40")
def test_a_box_is_given_back_with_a_copy_and_the_first_ledger_learns_it(
    rentroll: Rentroll, box: Any, copied: dict[str, str], emulator: Emulator
) -> None:
    """The API key is enough: the lease's own key is for work on the box."""
    assert rentroll("stop", "box", env=copied).code == 0
    assert [view.id for view in emulator.instances() if view.deleted_at is None] == []
    before = len(emulator.journal())

    late = rentroll("stop", "box", "--json")

    assert (late.code, late.json["actions"][0]["result"]) == (0, "completed")
    assert "delete" not in [entry.call for entry in emulator.journal()[before:]]
