"""What dead processes and long times leave behind: programs killed at a moment of the log, commands of hours ago."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli.app import App
from cli.clock import SystemClock
from providers.emulator.accounts import Permissions
from providers.emulator.faults import DateSkew, DropAfter, DropBefore, Fault
from providers.emulator.serve import ACCOUNT, Emulator
from tests.cli.running import LEASE_ID, Like, Rentroll, run_process, spawn, until

BOX = Like(r"inst_[0-9a-f]{16}")
SIGNALLED = """
import os, sys
from cli.main import main
from ledger.flows.book import Book
def signalled(append):
    def checked(self, lease_id, *facts):
        if any(fact.TYPE == {kind!r} for fact in facts):
            os.kill(os.getpid(), {number})
        return append(self, lease_id, *facts)
    return checked
Book.record, Book.bind = signalled(Book.record), signalled(Book.bind)
sys.exit(main())
"""


def _program(kind: str, number: signal.Signals) -> tuple[str, ...]:
    return (sys.executable, "-P", "-c", SIGNALLED.format(kind=kind, number=int(number)))


def killed_before(kind: str, *words: str) -> None:
    """A command whose process is killed with -9 in the instant before it appends a fact of that kind."""
    ran = run_process(*words, program=_program(kind, signal.SIGKILL))
    assert ran.code == -signal.SIGKILL, ran.err


@contextmanager
def halted_before(kind: str, *words: str) -> "Iterator[subprocess.Popen[bytes]]":
    """The same, but the process only stands still there while the block lasts: it lives, and is killed at its end."""
    with spawn(words, program=_program(kind, signal.SIGSTOP)) as process:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        try:
            yield process
        finally:
            process.kill()


def alive(emulator: Emulator, account: str = ACCOUNT) -> list[str]:
    """The boxes of an account that run, and so bill."""
    return [box.id for box in emulator.instances() if box.deleted_at is None and box.account == account]


def add_key(emulator: Emulator, key: str, *, billing: bool = True) -> None:
    """Another key of the emulator's own account. Without `billing` it may not read the account's name."""
    permissions = Permissions(account=ACCOUNT, billing=billing)
    emulator.change(lambda state, _now: state.accounts.accept_key(key, permissions))


def booted(emulator: Emulator) -> None:
    """Waits until every box that runs answers SSH."""
    until(lambda: {box.id for box in emulator.change(lambda s, now: s.answering_ssh(now))} >= set(alive(emulator)))


@contextmanager
def ago(emulator: Emulator, **length: float) -> Iterator[None]:
    """What runs in this process meanwhile runs so long ago, by its own clock and by the provider's."""
    span = timedelta(**length)

    def now(_self: Any) -> datetime:
        return datetime.now(UTC) - span  # noqa: TID251 - the real clock, and how far it is put back

    emulator.add_fault(Fault(call="any", effects=(DateSkew(seconds=-span.total_seconds()),), count=None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(App, "now", now)
        patch.setattr(SystemClock, "now", now)
        yield
    emulator.change(lambda state, _now: state.script.clear())


def in_doubt(rentroll: Rentroll, emulator: Emulator, effect: DropAfter | DropBefore, *, minutes: float = 0) -> None:
    """A create without an answer, so long ago. Of one that was dropped before it arrived there is no box."""
    skewed = DateSkew(seconds=-60 * minutes)
    emulator.add_fault(Fault(call="create", effects=(effect, skewed)))
    with ago(emulator, minutes=minutes):
        assert rentroll("warmup", "--slug", "job", "--timeout", "1s").code == 75


def action(**fields: object) -> dict[str, Any]:
    """One action on the lease `job`, with other values on top."""
    return {"lease_id": LEASE_ID, "slug": "job", "instance_id": BOX} | fields


def nothing(reason: object, **fields: object) -> dict[str, Any]:
    """The action of a lease with which nothing is to be done."""
    return action(action="none", reason=reason, result="nothing to do", **fields)


def actions_object(command: str, *actions: dict[str, Any], dry_run: bool = False, **counts: int | None) -> Any:
    """The whole object that `recover` or `cleanup` prints; counts of its tally that are not given are zero."""
    none = {"done": 0, "failed": 0, "kept": 0, "still_billable": 0, "elsewhere": 0}
    return {
        "schema": f"rentroll.{command}/1",
        "dry_run": dry_run,
        "actions": list(actions),
        "tally": none | counts,
    }
