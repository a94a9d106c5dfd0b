"""`sync`: the working tree to a box, through the emulator's SSH server."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from providers.emulator.serve import Emulator
from tests.cli.running import HASH, Like, Number, Rentroll, lease_object, run_process, spawn

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh on this machine")
ONE_FILE = r"rentroll: box: 1 file in place"


def synced(lease: Any, **counts: Any) -> dict[str, Any]:
    """The object of a sync that did nothing but what is named."""
    zero: dict[str, Any] = dict.fromkeys(("files", "sent_files", "sent_bytes", "deleted_files"), 0)
    rest = {"overwritten": [], "duration_seconds": Number(), "manifest_digest": HASH}
    return {"schema": "rentroll.sync/1", "lease": lease, "sync": {**zero, **rest, **counts}}


def there(rentroll: Rentroll) -> str:
    """What is on the box, by name."""
    listed = rentroll("run", "--id", "box", "--no-sync", "--", "find", ".", "-type", "f")
    assert listed.code == 0, listed.err
    return " ".join(sorted(line.removeprefix("./") for line in listed.out.splitlines()))


def git(*words: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], check=True, capture_output=True)


def types(rentroll: Rentroll) -> Sequence[str]:
    """The facts about the box after it became ready."""
    lines = rentroll("events", "box", "--jsonl").out.splitlines()
    return [line.split('"type": "')[1].split('"')[0] for line in lines][4:]


def test_what_git_says_is_copied_and_a_second_time_nothing_differs(
    rentroll: Rentroll, repository: Path, box: Any
) -> None:
    (repository / ".gitignore").write_text("*.log\n")
    for name in ("tracked", "new", "ignored.log"):
        (repository / name).write_text("12345")
    git("add", "tracked", ".gitignore")

    first = rentroll("sync", "box", "--json")
    second = rentroll("sync", "--json", "box")

    assert (first.code, first.err) == (0, "")
    lease = lease_object(repo=str(repository), sequence=6, position=6)
    assert first.json == synced(lease, files=3, sent_files=3, sent_bytes=16)
    assert second.json == synced({**lease, "sequence": 7, "position": 7}, files=3)
    assert first.json["sync"]["manifest_digest"] == second.json["sync"]["manifest_digest"]
    assert types(rentroll) == ["touched", "sync-finished", "touched"]
    assert there(rentroll) == ".gitignore new tracked"


@pytest.mark.parametrize("words", [(), ("--no-rsync",)])
@pytest.mark.parametrize("ssh", ["system", "library"])
def test_a_person_is_told_in_one_line_what_was_done(
    rentroll: Rentroll, box: Any, words: tuple[str, ...], ssh: str
) -> None:
    """The same by every way."""
    for number in range(300):
        Path(f"f{number}").write_text("x" * 10)
    sync = ("sync", "box", "--path", ".", *words)
    env = {"RENTROLL_SSH": ssh}

    first = rentroll(*sync, env=env)
    again = rentroll(*sync, env=env)
    Path("f7").unlink()
    Path("f8").write_text("y")
    more = rentroll(*sync, env=env)

    assert [first.out, again.out, more.out] == [""] * 3
    assert first.err == Like(r"rentroll: box: 300 files in place, 300 sent \(2\.9 KiB\), in \S+ s\n")
    assert again.err == Like(r"rentroll: box: 300 files in place, nothing differed, in \S+ s\n")
    assert more.err == Like(r"rentroll: box: 299 files in place, 1 sent \(1 B\), 1 deleted, in \S+ s\n")


def test_what_a_command_changed_is_replaced_and_named_before_it_is(rentroll: Rentroll, box: Any) -> None:
    Path("a").write_text("mine")
    assert rentroll("sync", "box", "--path", ".").code == 0
    assert rentroll("run", "--id", "box", "--no-sync", "--shell", "--", "echo theirs > a; echo out > out").code == 0

    done = rentroll("sync", "box", "--path", ".")

    assert done.err == Like(
        r"rentroll: box: replacing 1 changed on the box by what is here: a\n"
        rf"{ONE_FILE}, 1 sent \(4 B\), 1 of a command's replaced, in \S+ s\n"
    )
    assert there(rentroll) == "a out"
    assert rentroll("run", "--id", "box", "--no-sync", "--", "cat", "a", "out").out == "mineout\n"


def test_a_run_knows_the_tree_that_was_synced_by_its_digest(rentroll: Rentroll, box: Any) -> None:
    Path("a").write_text("1")
    digest = rentroll("sync", "box", "--path", ".", "--json").json["sync"]["manifest_digest"]

    assert rentroll("run", "--id", "box", "--path", ".", "--", "cat", "a").out == "1"

    started = rentroll("events", "box", "--type", "run-started", "--jsonl").json
    assert started["payload"]["manifest_digest"] == digest


def test_a_job_at_work_holds_the_box_and_the_wait_has_a_limit(rentroll: Rentroll, box: Any) -> None:
    Path("a").write_text("1")
    with spawn(("run", "--id", "box", "--no-sync", "--", "sh", "-c", "echo on; sleep 60")) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == b"on\n"

        busy = rentroll("sync", "box", "--path", ".", "--lock-timeout", "0.2", "--json")

        job.terminate()
        job.communicate(timeout=30)
    assert (busy.code, busy.error["code"]) == (11, "conflict")
    assert "rentroll: box: waiting: the box is running run_" in busy.err


def test_without_a_name_it_is_the_repositorys_only_open_lease(rentroll: Rentroll, repository: Path, box: Any) -> None:
    (repository / "f").write_text("x")

    assert rentroll("sync").err == Like(rf"{ONE_FILE}, 1 sent \(1 B\), in \S+ s\n")


def test_another_repositorys_lease_is_refused_until_it_is_taken(
    rentroll: Rentroll, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, box: Any
) -> None:
    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    (other / "f").write_text("x")
    monkeypatch.chdir(other)

    assert rentroll("sync", "box", "--json").error["code"] == "usage"
    assert types(rentroll) == []
    assert rentroll("sync", "box", "--reclaim").code == 0
    assert types(rentroll) == ["claim-moved", "touched", "sync-finished"]


def test_a_tree_that_is_refused_is_6_before_the_box_is_touched(rentroll: Rentroll, repository: Path, box: Any) -> None:
    for number in range(200):
        (repository / f"f{number}").write_text("x")
    git("add", ".")
    git("commit", "-qm", "all")
    for number in range(200):
        (repository / f"f{number}").unlink()

    refused = rentroll("sync", "box", "--json")

    assert (refused.code, refused.error["code"]) == (6, "sync")
    assert "--allow-mass-deletions" in refused.error["hint"]
    assert "sync-finished" not in types(rentroll)
    assert rentroll("sync", "box", "--allow-mass-deletions").code == 0


def test_a_box_without_python_is_refused_with_what_to_install(
    rentroll: Rentroll, box: Any, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The box says so itself: nothing is copied, and the code is that of a sync."""
    from ledger.domain.ports import NoAgent
    from providers.ssh.box import SshBox

    def without(*_: Any, **__: Any) -> None:
        raise NoAgent("the box has no python3.", stage="tools", hint="Install python3 (3.8 or newer) on the box.")

    monkeypatch.setattr(SshBox, "open", without)

    refused = rentroll("sync", "box", "--path", ".", "--json")

    assert (refused.code, refused.error["code"]) == (6, "sync")
    assert refused.error["message"] == "the box has no python3. Nothing was copied."
    assert refused.error["hint"] == "Install python3 (3.8 or newer) on the box."


def test_a_sync_with_ssh_imports_nothing_that_is_slow(rentroll: Rentroll, box: Any) -> None:
    Path("a").write_text("1")
    program = (
        "import sys; from cli.main import main; code = main(); "
        "sys.stderr.write(' '.join(m for m in ('paramiko', 'httpx', 'cryptography', 'asyncio', 'rich', 'pathspec')"
        " if m in sys.modules)); sys.exit(code)"
    )

    ran = run_process("sync", "box", "--path", ".", program=(sys.executable, "-P", "-c", program))

    assert (ran.code, ran.err.splitlines()[1:]) == (0, [])
