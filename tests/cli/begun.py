"""Commands that have begun as processes of their own, and what the ledger shows of their runs."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cli.running import Rentroll, spawn

ON_BOX = ("run", "--id", "box", "--no-sync")
WAITS = "echo up; while [ ! -e {gate} ]; do sleep 0.02; done; echo done; exit 5"
SLEEPS = ("sh", "-c", "echo up; exec sleep 60")


@contextmanager
def begun(*words: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A command as a process of its own, whose job has said that it is up."""
    with spawn(words) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def listed(rentroll: Rentroll, *words: str) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = rentroll("runs", "--json", *words).json["runs"]
    return runs


def only(rentroll: Rentroll) -> dict[str, Any]:
    (one,) = listed(rentroll)
    return one


def ends_of(rentroll: Rentroll) -> list[tuple[int | None, str | None, bool]]:
    """The ends that the ledger has, in order: code, signal, and whether it was left to itself."""
    rows = rentroll("events", "--type", "run-finished", "--jsonl").out.splitlines()
    payloads = [json.loads(row)["payload"] for row in rows]
    return [(each["exit_code"], each["signal"], each["detached"]) for each in payloads]


def phase(rentroll: Rentroll) -> list[tuple[str, str]]:
    return [(c["slug"], c["phase"]) for c in rentroll("list", "--all", "--json").json["leases"]]
