"""A watch as a process of its own, its note, and boxes whose time is over."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from cli.clock import SystemClock
from ledger.store.watch_file import read_last_pass
from tests.cli.running import Rentroll, finish, spawn, until


def ledger() -> str:
    return f"{os.environ['RENTROLL_STATE_DIR']}/ledger.db"


def note() -> Any:
    return json.loads(Path(f"{ledger()}.watch").read_text())


def expired(rentroll: Rentroll, slug: str = "late") -> Any:
    """A box whose time is over: its lease object."""
    leased = rentroll("warmup", "--slug", slug, "--ttl", "1s", "--json").json
    end = datetime.fromisoformat(leased["expires_at"])
    until(lambda: SystemClock("test").now() >= end)
    return leased


@contextmanager
def process_of(*words: str, **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that does not outlive its test."""
    with spawn(words, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def watch(*words: str, interval: str = "0.2s", **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A watch that has made its first pass."""
    before = read_last_pass(ledger())
    with process_of("watch", "--interval", interval, *words, **options) as process:
        until(lambda: read_last_pass(ledger()) != before)
        yield process


def ended(process: "subprocess.Popen[bytes]", number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
    process.send_signal(number)
    return finish(process)
