"""Several processes on one ledger, and processes that end in the middle of it."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from ledger.domain.errors import Conflict, UsageFailure
from ledger.domain.state import Lease
from ledger.store.file_lock import FileLock
from ledger.store.sqlite import SqliteRegister, open_sqlite
from tests.contract.conftest import sqlite_ledger
from tests.contract.facts import ACTOR, LEASE_A, LEASE_B, NOW, requested, sent
from tests.contract.test_register import append, begin

ROOT = Path(__file__).parents[2]
LIMIT_S = 60


@contextmanager
def writer(path: Path, lease_id: str, count: int, *limit: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is ready to append; it is gone at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.contract.writer", str(path), lease_id, str(count), *limit],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.holds("LCK-08", "LCK-10")
def test_four_processes_make_one_ledger_and_append_to_it_without_a_gap(tmp_path: Path) -> None:
    """Every accepted write is present, whoever made the file."""
    path = tmp_path / "state" / "ledger.db"
    with ExitStack() as stack:
        processes = [stack.enter_context(writer(path, f"rl_{n}", 50)) for n in range(4)]
        assert [line(process) for process in processes] == ["ready"] * 4
        for process in processes:
            go(process)
        outputs = [process.communicate(timeout=LIMIT_S)[0].split() for process in processes]
    positions = sorted(int(position) for output in outputs for position in output)
    with sqlite_ledger(path.parent) as register:
        verified = register.verify()
        sequences = [register.load(f"rl_{n}").sequence for n in range(4)]
    assert (positions, sequences) == (list(range(1, 201)), [50] * 4)
    assert (verified.events, verified.problems) == (200, ())
    assert sorted(file.name for file in path.parent.iterdir()) == ["ledger.db", "ledger.db.lock"]


@pytest.mark.holds("LCK-10")
def test_a_writer_killed_in_the_middle_loses_nothing_that_was_committed(ledger_path: Path) -> None:
    with writer(ledger_path, LEASE_A, 1_000_000) as process:
        assert line(process) == "ready"
        go(process)
        told = [int(line(process)) for _ in range(40)]
        process.send_signal(signal.SIGKILL)
        assert process.stdout is not None
        told += [int(position) for position in process.stdout.read().split()]
    with sqlite_ledger(ledger_path.parent) as register:
        verified = register.verify()
        # One more may have been committed and not yet told of.
        assert verified.problems == ()
        assert told == list(range(1, len(told) + 1))
        assert verified.events in (len(told), len(told) + 1)
        assert begin(register, LEASE_B, requested()).sequence == 1


def test_a_full_disk_is_a_clear_error_and_loses_nothing(ledger_path: Path) -> None:
    with sqlite_ledger(ledger_path.parent) as register:
        pages = register._query("PRAGMA page_count")[0][0]
        register._query(f"PRAGMA max_page_count = {pages + 1}")
        leases = [Lease(lease_id=LEASE_A)]

        def fill() -> None:
            for number in range(1000):
                leases.append(append(register, leases[-1], sent(number) if number else requested()))

        with pytest.raises(UsageFailure) as caught:
            fill()
        assert caught.value.message == "the ledger cannot be written: disk full"
        assert 1 < len(leases) < 1000
        assert (register.load(LEASE_A), register.verify().problems) == (leases[-1], ())
        register._query(f"PRAGMA max_page_count = {pages + 1000}")
        assert append(register, leases[-1], sent(9)).sequence == len(leases)


def test_a_file_that_may_not_grow_is_a_clear_error_and_loses_nothing(ledger_path: Path) -> None:
    with writer(ledger_path, LEASE_A, 1000, str(200_000)) as process:
        assert line(process) == "ready"
        output = process.communicate("go\n", timeout=LIMIT_S)[0].splitlines()
    assert output[-1] == "UsageFailure: the ledger cannot be read or written: disk I/O error"
    with sqlite_ledger(ledger_path.parent) as register:
        verified = register.verify()
    assert (verified.events, verified.problems) == (len(output) - 1, ())


def test_a_writer_that_waits_too_long_says_that_the_ledger_is_busy(ledger_path: Path) -> None:
    held = FileLock(Path(f"{ledger_path}.lock"))
    assert held.try_acquire()
    register = open_sqlite(ledger_path, create=True, random_bytes=os.urandom, now=lambda: NOW, busy_timeout_s=0.02)
    with register, pytest.raises(Conflict) as caught:
        begin(register, LEASE_A, requested())
    held.close()
    assert caught.value.message == f"the ledger {ledger_path} is busy: another process is writing to it"


def test_a_program_that_is_not_ours_and_holds_the_file_makes_it_busy_too(ledger_path: Path) -> None:
    register = open_sqlite(ledger_path, create=True, random_bytes=os.urandom, now=lambda: NOW, busy_timeout_s=0.02)
    with register, sqlite_ledger(ledger_path.parent) as other:
        other._query("BEGIN IMMEDIATE")
        with pytest.raises(Conflict) as caught:
            begin(register, LEASE_A, requested())
        other._query("ROLLBACK")
        assert caught.value.message == f"the ledger {ledger_path} is busy: another process is writing to it"
        assert begin(register, LEASE_A, requested()).sequence == 1


def test_threads_share_a_register(ledger_path: Path) -> None:
    with sqlite_ledger(ledger_path.parent) as register:

        def tell(lease_id: str) -> None:
            lease = begin(register, lease_id, requested(lease_id))
            for number in range(1, 25):
                lease = append(register, lease, sent(number))

        threads = [threading.Thread(target=tell, args=(f"rl_{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
        verified = register.verify()
    assert (verified.events, verified.problems) == (100, ())


STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_handlers(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Handles every stop signal in this process, which has a second thread to which they may go."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    before = [signal.signal(number, handler) for number in STOPS]
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(LIMIT_S)
        for number, former in zip(STOPS, before, strict=True):
            signal.signal(number, former)


def append_under_fire(register: SqliteRegister, lease_id: str, arrived: list[int]) -> list[int]:
    """Appends while every stop signal is sent to this process; what of them arrived before the commit."""
    with register.transaction() as transaction:
        for number in STOPS:
            os.kill(os.getpid(), number)
        transaction.append(Lease(lease_id=lease_id), [requested(lease_id)], at=NOW, actor=ACTOR)
        return list(arrived)


def test_a_stop_signal_arrives_after_the_commit_and_not_in_it(ledger_path: Path) -> None:
    arrived: list[int] = []
    rounds = 200

    def handle(number: int, _: object) -> None:
        arrived.append(number)

    with stop_handlers(handle), sqlite_ledger(ledger_path.parent) as register:
        for n in range(rounds):
            assert append_under_fire(register, f"rl_{n}", arrived) == []
            assert sorted(arrived) == sorted(STOPS)
            assert [signal.getsignal(number) for number in STOPS] == [handle] * 3
            arrived.clear()
        assert register.head().position == rounds


def test_a_stop_signal_whose_handler_raises_loses_neither_the_commit_nor_the_next_signal(ledger_path: Path) -> None:
    arrived: list[int] = []

    def handle(number: int, _: object) -> None:
        arrived.append(number)
        raise InterruptedError(number)

    with stop_handlers(handle), sqlite_ledger(ledger_path.parent) as register:
        for n in range(50):
            with pytest.raises(InterruptedError):
                append_under_fire(register, f"rl_{n}", arrived)
            assert sorted(arrived) == sorted(STOPS)
            assert [signal.getsignal(number) for number in STOPS] == [handle] * 3
            assert register.head().position == n + 1
            arrived.clear()


def test_a_stop_signal_in_a_transaction_that_fails_arrives_too(ledger_path: Path) -> None:
    arrived: list[int] = []
    with stop_handlers(lambda number, _: arrived.append(number)), sqlite_ledger(ledger_path.parent) as register:
        with suppress(ZeroDivisionError), register.transaction():
            os.kill(os.getpid(), signal.SIGTERM)
            raise ZeroDivisionError
        assert (arrived, register.head().position) == ([signal.SIGTERM], 0)


@pytest.mark.holds("CRE-31", "LCK-10")
@pytest.mark.skipif(shutil.which("strace") is None, reason="counts system calls with strace")
def test_each_commit_is_exactly_one_sync(ledger_path: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-e", "trace=fsync,fdatasync,write", "-o", str(trace)]
    subprocess.run(
        [*command, sys.executable, "-m", "tests.contract.writer", str(ledger_path), LEASE_A, "20"],
        cwd=ROOT,
        input="go\n",
        text=True,
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=LIMIT_S,
    )
    # Between two positions that were told: the first commit also writes the head of a new write-ahead log.
    calls = [text.split(None, 1)[1].split("(")[0] for text in trace.read_text().splitlines() if "(" in text]
    told = [n for n, call in enumerate(calls) if call == "write"][-20:]
    syncs = [calls[before + 1 : after] for before, after in pairwise(told)]
    assert syncs == [["fdatasync"]] * 19
