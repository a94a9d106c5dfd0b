"""One emulated fal for the session; a ledger, a settings folder and a working folder of its own for each test."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cli.clock import SystemClock
from cli.main import main
from providers.emulator.machines import Settings
from providers.emulator.serve import Emulator
from providers.emulator.state import FalState
from tests.cli.running import Ran, Rentroll


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    started_at = SystemClock("tests").now()
    settings = Settings(boot_s=0.1, delete_s=0.0)
    with Emulator(tmp_path_factory.mktemp("boxes"), started_at=started_at, settings=settings) as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, served: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting of the machine that tests; the emulator's in their place."""
    for name in [name for name in os.environ if name.startswith(("RENTROLL_", "FAL_"))]:
        monkeypatch.delenv(name)
    folders = {name: tmp_path / name for name in ("state", "config", "work")}
    for folder in folders.values():
        folder.mkdir()
    for name, value in {
        **served.environment(),
        "RENTROLL_FAL_POLL_INTERVAL": "0.05",
        "RENTROLL_STATE_DIR": str(folders["state"]),
        "XDG_CONFIG_HOME": str(folders["config"]),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folders["work"])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    logs = logging.getLogger()
    log_handlers, log_level = list(logs.handlers), logs.level
    yield
    logs.handlers[:] = log_handlers
    logs.setLevel(log_level)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    served.change(_clear)


def _clear(state: FalState, now: datetime) -> None:
    """The next test finds no fault and no box of this one; there are addresses for 254 at a time."""
    state.script.clear()
    for view in state.instances(now):
        if view.deleted_at is None:
            state.remove_instance(view.id, now)


@pytest.fixture
def emulator(served: Emulator) -> Emulator:
    return served


@pytest.fixture
def rentroll(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Rentroll:
    """Runs a command in this process, with the real file descriptors 1 and 2 captured."""

    def run(*words: str, env: Mapping[str, str | None] | None = None, stdin: bytes = b"") -> Ran:
        capfd.readouterr()
        fed = tmp_path / "stdin"
        fed.write_bytes(stdin)
        with pytest.MonkeyPatch.context() as patch, fed.open() as file:
            patch.setattr(sys, "stdin", file)
            for name, value in (env or {}).items():
                if value is None:
                    patch.delenv(name, raising=False)
                else:
                    patch.setenv(name, value)
            code = main(words)
        sys.stdout.flush()
        return Ran(code, *capfd.readouterr())

    return run


@pytest.fixture
def box(rentroll: Rentroll) -> Any:
    """A ready box under the slug `box`: its lease object."""
    leased = rentroll("warmup", "--slug", "box", "--json")
    assert leased.code == 0, leased.err
    return leased.json


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The working folder, now a git repository."""
    if shutil.which("git") is None:
        pytest.skip("a repository is made with git, which is not on this machine")
    folder = Path.cwd()
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder
