"""A client that is killed leaves an rsync that writes on: the next holder of the workspace's lock ends it first."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.domain.ports import PlaceFailure
from providers.ssh.rsync import Remote, send
from tests.agent.client import Place, place, until
from tests.agent.workspaces import no_progress

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
REPOSITORY = Path(__file__).parents[2]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process in a session of its own, with a stdin that stays open; all of it is ended with the test."""
    with contextlib.ExitStack() as stack:

        def started(*argv: str | Path, cwd: Path, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
            process = stack.enter_context(
                subprocess.Popen(argv, cwd=cwd, env=env, stdin=-1, stdout=-1, start_new_session=True)
            )
            stack.callback(_end, process)
            return process

        yield started


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def torn(box: Place) -> Place:
    """A box on which a client has begun a sync, and whose channel is then gone."""
    channel = box.channel()
    assert channel.lock() == 1
    (box.state / "incoming").mkdir()
    box.work.mkdir()
    channel.over()
    return box


def remote(box: Place, ssh: str) -> Remote:
    return Remote(("sh", "-c", ssh, "sh"), "box", f"'{box.work}'", f"'{box.state}'", 1)


def line_of(box: Place, folder: Path) -> str:
    """What rsync has ssh run on the box, word by word."""
    (folder / "file").touch()
    with pytest.raises(PlaceFailure):
        send(remote(box, f"shift; printf %s \"$*\" > '{folder}/line'"), bytes(folder), [b"file"], no_progress)
    return (folder / "line").read_text()


def at_work_in(folder: Path) -> list[bytes]:
    """The programs that run in a folder; one that is about to be gone has no name any more."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if path.readlink() == folder and (words := (path.parent / "cmdline").read_bytes()):
                found.append(words.partition(b"\0")[0])
    return found


def test_who_takes_the_lock_next_ends_an_rsync_that_waits_for_its_client(
    torn: Place, tmp_path: Path, start: Start
) -> None:
    process = start("sh", "-c", f"exec {line_of(torn, tmp_path)}", cwd=tmp_path)
    until(lambda: at_work_in(torn.work) == [b"rsync"])
    assert torn.channel().lock() == 2
    assert (process.wait(20), at_work_in(torn.work), (torn.state / "rsync").exists()) == (-signal.SIGKILL, [], False)


def test_a_script_that_has_just_read_the_old_token_is_ended_too(torn: Place, tmp_path: Path, start: Start) -> None:
    """Its `cat` gives the token and does not end: the sh stands between its look and the rsync."""
    gate, slow = tmp_path / "gate", tmp_path / "bin" / "cat"
    os.mkfifo(gate)
    slow.parent.mkdir()
    slow.write_text(f"#!/bin/sh\n/bin/cat \"$1\"\n: > '{tmp_path}/read'\nexec /bin/cat {gate}\n")
    slow.chmod(0o755)
    with gate.open("r+b", buffering=0):
        env = {"PATH": f"{slow.parent}:{os.environ['PATH']}"}
        process = start("sh", "-c", f"exec {line_of(torn, tmp_path)}", cwd=tmp_path, env=env)
        until((tmp_path / "read").exists)
        assert torn.channel().lock() == 2
        assert (process.wait(20), (torn.state / "rsync").exists()) == (-signal.SIGKILL, False)


def test_the_rsync_of_a_client_that_was_killed_in_the_middle_of_a_file_writes_nothing_more(
    torn: Place, tmp_path: Path, start: Start
) -> None:
    """Of what the local rsync sends 100 kB come through; then both of the box's processes wait for the rest."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "large").write_bytes(os.urandom(2_000_000))
    (torn.work / "large").write_bytes(b"as it was")
    ssh = 'shift; { dd bs=1 count=100000; exec sleep 600; } 2>/dev/null | sh -c "$*"'
    sending = f"send({remote(torn, ssh)}, {bytes(tmp_path / 'here')!r}, [b'large'], print)"
    code = f"from providers.ssh.rsync import Remote, send; {sending}"
    client = start(sys.executable, "-c", code, cwd=REPOSITORY)
    until(lambda: [*(torn.state / "incoming").iterdir()])
    client.kill()
    assert at_work_in(torn.work) == [b"rsync", b"rsync"]
    assert torn.channel().lock() == 2
    assert at_work_in(torn.work) == []
    assert (torn.work / "large").read_bytes() == b"as it was"


def test_a_script_that_begins_after_the_next_holder_does_nothing(torn: Place, tmp_path: Path, start: Start) -> None:
    line = line_of(torn, tmp_path)
    assert torn.channel().lock() == 2
    process = start("sh", "-c", f"exec {line}", cwd=tmp_path)
    assert (process.wait(20), (torn.state / "rsync").exists()) == (1, True)


def test_a_lock_ends_no_rsync_of_another_workspace_and_none_of_the_users(
    torn: Place, tmp_path: Path, start: Start
) -> None:
    (tmp_path / "other").mkdir()
    with place(tmp_path / "other") as other:
        other.channel().lock()
        other.work.mkdir()
        theirs = start("sh", "-c", f"exec {line_of(other, tmp_path)}", cwd=tmp_path)
        users = start("rsync", "--server", "-l", ".", "/incoming", cwd=torn.work)
        until(lambda: (at_work_in(other.work), at_work_in(torn.work)) == ([b"rsync"], [b"rsync"]))
        (torn.state / "rsync").touch()
        assert torn.channel().lock() == 2
        assert (theirs.poll(), users.poll(), (torn.state / "rsync").exists()) == (None, None, False)


def test_where_no_rsync_has_begun_nobody_is_looked_for(torn: Place, tmp_path: Path, start: Start) -> None:
    process = start("sh", "-c", f"exec {line_of(torn, tmp_path)}", cwd=tmp_path)
    until(lambda: at_work_in(torn.work) == [b"rsync"])
    (torn.state / "rsync").unlink()
    assert torn.channel().lock() == 2
    assert process.poll() is None
