"""Many leases at once against a served emulator: what `list --refresh` asks, and a recovery of fifty against one."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.bench.report import Result, at_most
from tests.bench.served import control, emulator, pages
from tests.bench.timing import Ratios

SCRIPT = str(Path(__file__).parent / "many.py")
LISTED = 100
RECOVERED = 50
CALL_S = 0.2


def results(app: Path, folder: Path, environment: Mapping[str, str], rounds: int) -> Iterator[Result]:
    """The count of requests first, then the times of whole passes."""
    yield _refresh(app, folder, environment)
    python = str(app / "bin" / "python")
    with _served(python, folder / "recovered", environment) as ours:
        delay = {"call": "any", "effects": [{"type": "delay", "seconds": CALL_S}], "count": None}
        control(ours, "POST", "faults", delay)
        found = _output([python, SCRIPT, "recover", "1", str(RECOVERED), str(rounds)], ours)
    figures, case_s = json.loads(found)
    yield Result(
        f"{RECOVERED} leases recovered, of one, {CALL_S:g} s a call", at_most(3.0), Ratios((*figures,), case_s)
    )


def _refresh(app: Path, folder: Path, environment: Mapping[str, str]) -> Result:
    python, rentroll = str(app / "bin" / "python"), str(app / "bin" / "rentroll")
    with _served(python, folder / "listed", environment) as ours:
        _output([python, SCRIPT, "lease", str(LISTED)], ours)
        before = len(control(ours, "GET", "journal")["journal"])
        shown = json.loads(_output([rentroll, "list", "--refresh", "--json"], ours))["leases"]
        asked = len(control(ours, "GET", "journal")["journal"]) - before
        walk = pages(ours)
    if [lease["provider_status"] for lease in shown] != ["provisioning"] * LISTED:
        raise RuntimeError(f"a refreshed list does not show {LISTED} boxes as they are")
    name = f"requests of list --refresh, {LISTED} leases, of a walk's ({asked} and {walk})"
    return Result(name, at_most(1.0), Ratios((asked / walk,), asked))


@contextmanager
def _served(python: str, folder: Path, environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """An emulator without boots and the environment of a client of it, whose state is in `folder`."""
    boxes = folder / "boxes"
    boxes.mkdir(parents=True, mode=0o700)
    with emulator([python, SCRIPT, "serve", str(boxes)], environment) as served:
        yield {**environment, **served, "RENTROLL_STATE_DIR": str(folder)}


def _output(command: list[str], environment: Mapping[str, str]) -> str:
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
