"""Opening, making and refusing the file of a ledger."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ledger.domain.errors import IntegrityFailure, RentrollError, UsageFailure
from ledger.domain.state import Lease
from ledger.store.sqlite import SqliteRegister, open_sqlite
from ledger.store.sqlite_read import open_sqlite_reader
from tests.contract.conftest import sqlite_ledger
from tests.contract.facts import ACTOR, LEASE_A, NOW, requested
from tests.contract.test_register import begin

NOBODY = 65534


def opened(path: Path, *, create: bool = True) -> SqliteRegister | None:
    return open_sqlite(path, create=create, random_bytes=os.urandom, now=lambda: NOW)


def refusal(path: Path, *, create: bool = True) -> RentrollError:
    with pytest.raises(RentrollError) as caught:
        opened(path, create=create)
    return caught.value


@contextmanager
def without_privileges() -> Iterator[Path]:
    """A folder of an ordinary user, who the permissions of files hold for."""
    if os.geteuid() != 0:
        with TemporaryDirectory() as folder:
            yield Path(folder)
        return
    os.seteuid(NOBODY)
    try:
        with TemporaryDirectory() as folder:
            yield Path(folder)
    finally:
        os.seteuid(0)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_missing_ledger_is_none_for_a_reader_and_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "none" / "ledger.db"
    assert (opened(path, create=False), open_sqlite_reader(path), list(tmp_path.iterdir())) == (None, None, [])


def test_a_new_ledger_and_its_folder_are_private_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "state" / "deep" / "ledger.db"
    register = opened(path)
    assert register is not None
    register.close()
    assert [mode(path), mode(path.parent), mode(path.parent.parent)] == [0o600, 0o700, 0o700]
    assert {file.name: mode(file) for file in path.parent.iterdir()} == {"ledger.db": 0o600, "ledger.db.lock": 0o600}


def test_a_ledger_keeps_its_identity_when_it_is_opened_again(ledger_path: Path) -> None:
    with sqlite_ledger(ledger_path.parent) as first, sqlite_ledger(ledger_path.parent) as second:
        assert (first.salt(), first.ledger_id()) == (second.salt(), second.ledger_id())


@pytest.mark.parametrize("name", ["a b.db", "50%.db", "what?.db", "sharp#1.db", "ünï.db"])
def test_any_file_name_is_a_file_name(tmp_path: Path, name: str) -> None:
    register = opened(tmp_path / name)
    assert register is not None
    register.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([name, f"{name}.lock"])


@pytest.mark.holds("CRE-31", "LCK-10")
def test_commits_are_durable(ledger_path: Path) -> None:
    with sqlite_ledger(ledger_path.parent) as register:
        pragmas = [register._query(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]


def test_a_half_made_ledger_of_a_maker_that_died_is_made_anew(tmp_path: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        (tmp_path / f"ledger.db.new{suffix}").write_bytes(b"half")
    with sqlite_ledger(tmp_path) as register:
        assert (begin(register, LEASE_A, requested()).sequence, register.verify().problems) == (1, ())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ledger.db", "ledger.db.lock"]


@pytest.mark.holds("LCK-13")
def test_an_empty_file_is_a_ledger_that_was_cut_off_and_is_not_overwritten(tmp_path: Path) -> None:
    """Empty is told from missing, and damaged bytes stay as they are."""
    path = tmp_path / "ledger.db"
    path.touch()
    error = refusal(path)
    assert isinstance(error, IntegrityFailure)
    assert error.message == f"the ledger {path} is empty: it was cut off, and what it held is not in it any more"
    assert path.read_bytes() == b""


def test_a_log_without_its_ledger_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "ledger.db-wal").write_bytes(b"log")
    error = refusal(tmp_path / "ledger.db")
    assert isinstance(error, IntegrityFailure)
    assert error.message == f"the ledger {tmp_path / 'ledger.db'} is gone but its write-ahead log is still there"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ledger.db-wal", "ledger.db.lock"]


def test_a_file_that_is_no_database_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("dear diary, " * 500)
    error = refusal(path)
    assert (type(error), error.message) == (UsageFailure, f"{path} is not a ledger of rentroll")
    assert path.read_text() == "dear diary, " * 500


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    error = refusal(path, create=False)
    assert (type(error), error.message) == (UsageFailure, f"{path} is not a ledger of rentroll")


def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    error = refusal(tmp_path)
    assert (type(error), error.message) == (UsageFailure, f"the ledger {tmp_path} cannot be opened")


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "ledger.db"
    error = refusal(path)
    assert (type(error), error.message) == (UsageFailure, f"the ledger {path} cannot be opened: not a directory")


def test_a_newer_ledger_is_refused_and_not_guessed_at(ledger_path: Path) -> None:
    with closing(sqlite3.connect(ledger_path)) as raw:
        raw.execute("PRAGMA user_version = 2")
    error = refusal(ledger_path)
    assert (type(error), error.message, error.hint) == (
        IntegrityFailure,
        f"the ledger {ledger_path} was written by a newer rentroll (schema 2; this one knows 1)",
        "upgrade this program; it does not guess at what it cannot read",
    )


def test_an_older_ledger_names_the_command_that_upgrades_it(ledger_path: Path) -> None:
    with closing(sqlite3.connect(ledger_path)) as raw:
        raw.execute("PRAGMA user_version = 0")
    error = refusal(ledger_path)
    assert (type(error), error.message, error.next_step) == (
        UsageFailure,
        f"the ledger {ledger_path} was written by an older rentroll (schema 0; this one needs 1)",
        "rentroll ledger upgrade",
    )


def test_a_folder_that_may_not_be_written_is_refused() -> None:
    with without_privileges() as folder:
        folder.chmod(0o500)
        error = refusal(folder / "state" / "ledger.db")
        folder.chmod(0o700)
    assert (type(error), error.message) == (
        UsageFailure,
        f"the ledger {folder / 'state' / 'ledger.db'} cannot be opened: permission denied",
    )


def test_a_folder_that_may_not_be_entered_is_refused_and_not_taken_for_missing() -> None:
    with without_privileges() as folder:
        folder.chmod(0)
        error = refusal(folder / "ledger.db", create=False)
        folder.chmod(0o700)
    assert (type(error), error.message) == (
        UsageFailure,
        f"the ledger {folder / 'ledger.db'} cannot be opened: permission denied",
    )


def test_a_file_that_may_not_be_read_is_refused() -> None:
    with without_privileges() as folder:
        sqlite_ledger(folder).close()
        (folder / "ledger.db").chmod(0)
        error = refusal(folder / "ledger.db")
    assert (type(error), error.message) == (UsageFailure, f"the ledger {folder / 'ledger.db'} cannot be opened")


def test_a_read_only_file_can_be_read_and_says_so_when_it_is_written() -> None:
    with without_privileges() as folder:
        with sqlite_ledger(folder) as register:
            begin(register, LEASE_A, requested())
        (folder / "ledger.db").chmod(0o400)
        register = sqlite_ledger(folder)
        with register:
            assert [claim.lease_id for claim in register.claims()] == [LEASE_A]
            with pytest.raises(UsageFailure) as caught, register.transaction() as transaction:
                transaction.append(Lease(lease_id="rl_b"), [requested()], at=NOW, actor=ACTOR)
            assert caught.value.message == "the ledger cannot be written: it is read-only"
            assert register.head().position == 1


def test_a_ledger_in_a_folder_that_may_not_be_written_can_be_read_and_verified() -> None:
    with without_privileges() as folder:
        with sqlite_ledger(folder) as register:
            begin(register, LEASE_A, requested())
        folder.chmod(0o500)
        reader = open_sqlite_reader(folder / "ledger.db")
        assert reader is not None
        with reader:
            assert [claim.lease_id for claim in reader.claims()] == [LEASE_A]
            assert (reader.verify().events, reader.verify().problems) == (1, ())
        assert refusal(folder / "ledger.db").message == "the ledger cannot be written: it is read-only"
        folder.chmod(0o700)
