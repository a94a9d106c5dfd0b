"""The lock of one lease: exclusive, private, named, and free when its holder is gone."""

import fcntl
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.domain.errors import Conflict, UsageFailure
from ledger.store.file_lock import FileLock
from ledger.store.locks import LeaseLock, is_worked_on
from tests.contract.facts import LEASE_A, LEASE_B

ROOT = Path(__file__).parents[2]
HOLDER = (
    "import sys; from pathlib import Path; from ledger.store.locks import LeaseLock, is_worked_on;"
    "LeaseLock(Path(sys.argv[1]), sys.argv[2], purpose='warmup').acquire();"
    "print('held', flush=True); sys.stdin.read()"
)


class FakeTime:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.mark.holds("LCK-01")
def test_a_held_lock_names_its_holder_after_the_wait(tmp_path: Path) -> None:
    """The wait ends with exit 11."""
    time = FakeTime()
    with LeaseLock(tmp_path, LEASE_A, purpose="run -- true"), pytest.raises(Conflict) as caught:
        LeaseLock(tmp_path, LEASE_A, purpose="stop").acquire(10.0, monotonic=time.monotonic, sleep=time.sleep)
    expected = f"lease {LEASE_A} is being worked on by pid {os.getpid()} on {os.uname().nodename}, run -- true"
    assert (caught.value.message, caught.value.exit_code, caught.value.lease_id) == (expected, 11, LEASE_A)
    assert 10.0 <= time.now_s < 10.1


def test_a_lock_is_free_again_after_its_release_and_releasing_twice_is_harmless(tmp_path: Path) -> None:
    first, second = LeaseLock(tmp_path, LEASE_A, purpose="a"), LeaseLock(tmp_path, LEASE_A, purpose="b")
    assert (first.try_acquire(), second.try_acquire()) == (True, False)
    first.release()
    first.release()
    assert (second.try_acquire(), first.is_held, second.is_held) == (True, False, True)
    second.release()


def test_who_only_asks_whether_a_lock_is_held_keeps_nobody_from_taking_it(tmp_path: Path) -> None:
    path = tmp_path / "asked.lock"
    lock, asker = FileLock(path), path.open("rb")
    fcntl.flock(asker, fcntl.LOCK_SH)
    assert lock.try_acquire(sleep=lambda _: asker.close())
    other = FileLock(path)
    assert not other.try_acquire()
    lock.close()
    other.close()


def test_a_lock_is_held_before_its_holder_has_written_who_it_is(tmp_path: Path) -> None:
    held = FileLock(tmp_path / f"{LEASE_A}.lock")
    assert (held.try_acquire(), is_worked_on(tmp_path, LEASE_A)) == (True, True)
    held.close()
    assert not is_worked_on(tmp_path, LEASE_A)


def test_a_waiter_gets_the_lock_when_it_is_released(tmp_path: Path) -> None:
    first, second = LeaseLock(tmp_path, LEASE_A, purpose="a"), LeaseLock(tmp_path, LEASE_A, purpose="b")
    first.acquire()
    second.acquire(10.0, monotonic=lambda: 0.0, sleep=lambda _: first.release())
    assert (first.is_held, second.is_held) == (False, True)
    second.release()


def test_a_lock_whose_file_was_removed_is_held_no_more(tmp_path: Path) -> None:
    """Whoever comes next makes a new file and holds that."""
    path = tmp_path / f"{LEASE_A}.lock"
    first, second = LeaseLock(tmp_path, LEASE_A, purpose="a"), LeaseLock(tmp_path, LEASE_A, purpose="b")
    first.acquire()
    path.unlink()
    without_a_file = first.is_held
    second.acquire(0.0)
    assert (without_a_file, first.is_held, second.is_held) == (False, False, True)
    first.release()
    assert (second.is_held, path.read_text()) == (True, f"pid {os.getpid()} on {os.uname().nodename}, b\n")
    second.release()


def test_a_lock_whose_file_was_replaced_by_a_copy_is_held_no_more(tmp_path: Path) -> None:
    """As a folder that is restored from a backup would; a link to the very file is another file too."""
    path, moved = tmp_path / f"{LEASE_A}.lock", tmp_path / "moved"
    with LeaseLock(tmp_path, LEASE_A, purpose="a") as lock:
        path.rename(moved)
        path.write_bytes(moved.read_bytes())
        held_beside_a_copy = lock.is_held
        path.unlink()
        path.symlink_to(moved)
        held_behind_a_link = lock.is_held
        moved.rename(path)
        assert (held_beside_a_copy, held_behind_a_link, lock.is_held) == (False, False, True)


def test_locks_of_two_leases_do_not_meet(tmp_path: Path) -> None:
    with LeaseLock(tmp_path, LEASE_A, purpose="a"), LeaseLock(tmp_path, LEASE_B, purpose="b") as other:
        assert other.is_held


def test_the_lock_of_a_leases_client_is_another_than_that_of_who_works_on_it(tmp_path: Path) -> None:
    with LeaseLock(tmp_path, LEASE_A, purpose="run", of_client=True) as client:
        held = (client.is_held, is_worked_on(tmp_path, LEASE_A, by_client=True), is_worked_on(tmp_path, LEASE_A))
        assert held == (True, True, False)
        with LeaseLock(tmp_path, LEASE_A, purpose="stop"):
            assert is_worked_on(tmp_path, LEASE_A)
    assert not is_worked_on(tmp_path, LEASE_A, by_client=True)


@pytest.mark.holds("LCK-02")
def test_the_folder_and_the_file_are_private_and_the_file_stays(tmp_path: Path) -> None:
    """The namespace is made first, in private mode."""
    folder = tmp_path / "state" / "locks"
    with LeaseLock(folder, LEASE_A, purpose="warmup\nnow"):
        content = (folder / f"{LEASE_A}.lock").read_text()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder.parent, folder, folder / f"{LEASE_A}.lock")]
    assert content == f"pid {os.getpid()} on {os.uname().nodename}, warmup now\n"
    assert (modes, (folder / f"{LEASE_A}.lock").read_text()) == ([0o700, 0o700, 0o600], "")


@pytest.mark.holds("LCK-04")
@pytest.mark.parametrize("name", ["", "rl_", "../" + LEASE_A, LEASE_A + "/x", "rl_" + "A" * 26, "rl_../../etc/passwd"])
def test_a_name_that_is_no_lease_id_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageFailure, match=f"^not a lease id: {re.escape(repr(name))}$"):
        LeaseLock(tmp_path, name, purpose="x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.holds("LCK-03")
def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    """Without a durable namespace there is no lock, and so no call of the provider."""
    (tmp_path / "locks").touch()
    with pytest.raises(UsageFailure, match=f"the lock .*/{LEASE_A}.lock cannot be opened: file exists"):
        LeaseLock(tmp_path / "locks", LEASE_A, purpose="x").acquire()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / f"{LEASE_A}.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageFailure, match="cannot be opened: too many levels of symbolic links"):
        LeaseLock(tmp_path, LEASE_A, purpose="x").acquire()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.holds("LCK-05", "PEER-41", "PEER-42", "PEER-43")
def test_the_lock_of_a_process_that_dies_is_free(tmp_path: Path) -> None:
    """That the lock is free is how others learn that its holder is gone."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), LEASE_A],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        lock = LeaseLock(tmp_path, LEASE_A, purpose="recover")
        with pytest.raises(Conflict, match=f"pid {holder.pid} on "):
            lock.acquire(0.0)
        holder.kill()
        holder.wait(60)
        assert lock.try_acquire()
        lock.release()


def test_a_child_process_does_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = LeaseLock(tmp_path, LEASE_A, purpose="run")
    lock.acquire()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child:
        lock.release()
        assert LeaseLock(tmp_path, LEASE_A, purpose="recover").try_acquire()
        assert child.poll() is None
