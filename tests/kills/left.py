"""What processes have left behind: the facts of the ledger, the calls in fal's journal, the boxes that bill."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any, NamedTuple

from ledger.store.sqlite_read import open_sqlite_reader
from providers.emulator.serve import Emulator
from tests.cli.leftovers import alive
from tests.cli.running import spawn, until

WARMUP = ("warmup", "--slug", "job")
Answered = tuple[str, int | None]
"""A call that changes something, and fal's answer: None where fal has not acted on it."""
MADE: Answered = ("create", 201)
GONE: Answered = ("delete", 204)


class Left(NamedTuple):
    """The types of all events, without the account's; the calls that change something, with fal's answer; and how many
    boxes bill."""

    facts: list[str]
    calls: list[Answered]
    alive: int


def ledger() -> Path:
    """Where this test's ledger is."""
    url = os.environ.get("RENTROLL_LEDGER_URL")
    return Path(url.removeprefix("sqlite://")) if url else Path(os.environ["RENTROLL_STATE_DIR"]) / "ledger.db"


def facts(path: Path | None = None) -> list[str]:
    """The types of the events of all leases, in order; none where there is no ledger yet."""
    reader = open_sqlite_reader(path or ledger())
    if reader is None:
        return []
    with reader:
        return [row.type for row in reader.rows() if row.stream != "account"]


def calls(emulator: Emulator) -> list[Answered]:
    """What came to fal that changes something, and the status of fal's answer; None while it has not acted."""
    return [(entry.call, entry.status) for entry in emulator.journal() if entry.call in ("create", "delete")]


def left(emulator: Emulator) -> Left:
    return Left(facts(), calls(emulator), len(alive(emulator)))


def wait_for_call(emulator: Emulator, call: Answered) -> None:
    """Waits until fal has acted on such a call, whether or not its answer has left."""
    until(lambda: call in calls(emulator))


def wait_for_fact(kind: str) -> None:
    """Waits until the ledger has an event of that kind."""
    until(lambda: kind in facts())


@contextmanager
def process_of(*words: str, **options: Any) -> "Iterator[Popen[bytes]]":
    """A process of the program that does not outlive its test."""
    with spawn(words, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def kill(process: "Popen[bytes]") -> None:
    """kill -9, and it is gone."""
    process.kill()
    process.wait()


def wait_for_line(process: "Popen[bytes]", text: str) -> None:
    """Reads what a process tells people until a line has this text."""
    assert process.stderr is not None
    seen: list[bytes] = []
    for line in process.stderr:
        if text.encode() in line:
            return
        seen.append(line)
    raise AssertionError(f"{text!r} was not told: {b''.join(seen).decode()}")
