"""An emulated fal of its own for each test, with a door that holds requests; ledger and folders as in `tests/cli`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.clock import SystemClock
from providers.emulator.machines import Settings
from providers.emulator.serve import Emulator
from tests.cli.conftest import box as box
from tests.cli.conftest import emulator as emulator
from tests.cli.conftest import rentroll as rentroll
from tests.cli.conftest import surroundings as surroundings
from tests.kills.door import Door


@pytest.fixture
def door() -> Iterator[Door]:
    with Door() as made:
        yield made


@pytest.fixture
def served(tmp_path: Path, door: Door) -> Iterator[Emulator]:
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    started_at = SystemClock("tests").now()
    settings = Settings(boot_s=0.1, delete_s=0.0)
    with Emulator(boxes, started_at=started_at, settings=settings, observer=door) as emulator:
        yield emulator
        door.open()
