"""`ssh`: one command or a session under the pinned key of the lease, through the system's ssh or without it."""

import os
import pty
import select
import shlex
import shutil
import subprocess
import termios
from pathlib import Path
from typing import Any

import pytest

from providers.emulator.serve import Emulator
from tests.cli.running import LIMIT_S, ROOT, Rentroll, run_process, spawn

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh on this machine")


both_ways = pytest.mark.usefixtures("way")


@pytest.fixture(params=[pytest.param("", marks=needs_ssh), "library"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the system's ssh, and as where there is none."""
    monkeypatch.setenv("RENTROLL_SSH", request.param)


@both_ways
def test_a_command_runs_on_the_box_with_its_own_streams_and_code(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll("ssh", "box", "--", "sh", "-c", 'printf "<%s>" "$@"; echo err >&2; exit 5', "sh", "a b", "", "$HOME")
    assert ran == (5, "<a b><><$HOME>", "err\n")


@needs_ssh
def test_without_a_name_it_is_the_repositorys_only_open_lease(rentroll: Rentroll, repository: Path, box: Any) -> None:
    assert rentroll("ssh", "--", "echo", "here") == (0, "here\n", "")


@both_ways
def test_stdin_reaches_the_command(box: Any) -> None:
    ran = run_process("ssh", "box", "--", "cat", stdin=b"through")
    assert (ran.code, ran.out) == (0, "through")


@pytest.mark.holds("SSH-03")
@needs_ssh
def test_print_gives_a_command_that_works_in_a_shell(rentroll: Rentroll, box: Any) -> None:
    line = rentroll("ssh", "box", "--print", "--", "echo", "a  b").out.strip()
    assert shlex.split(line)[0] == "ssh"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, "a  b\n")


def test_what_is_printed_wants_a_terminal_whoever_reads_it(rentroll: Rentroll, box: Any) -> None:
    words = shlex.split(rentroll("ssh", "box", "--print").out)
    assert [word for word in words if word.lower() in ("-t", "-tt")] == ["-t"]


@pytest.mark.holds("W-27", "PEER-34")
@both_ways
def test_a_host_key_that_changed_is_7(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    emulator.rekey(box["instance_id"])
    ran = rentroll("ssh", "box", "--", "true")
    assert (ran.code, ran.err.splitlines()[-1]) == (7, "  next: rentroll status box --refresh")


@pytest.mark.holds("PEER-27")
def test_without_the_systems_ssh_a_signal_that_ends_the_command_is_its_code(rentroll: Rentroll, box: Any) -> None:
    killed = rentroll("ssh", "box", "--", "sh", "-c", "kill -TERM $$", env={"RENTROLL_SSH": "library"})
    assert killed.code == 128 + 15


@both_ways
@pytest.mark.parametrize("code", [5, 255])
def test_a_reader_that_goes_away_is_no_failure(box: Any, code: int) -> None:
    """As of `ssh HOST CMD | head -1`: nothing is said. ssh gives the command's code, or 255 where a signal ended it."""
    with spawn(["ssh", "box", "--", "sh", "-c", f"echo first; head -n 1; exit {code}"]) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"first\n"
            process.stdout.close()
            process.stdin.write(b"more\n")
            process.stdin.flush()
            assert (process.wait(LIMIT_S), process.stderr.read()) == (code, b"")
        finally:
            process.kill()


def test_what_a_reader_that_is_gone_cannot_stop_is_hung_up(rentroll: Rentroll, box: Any) -> None:
    """A server that does not know OpenSSH's request for that goes on to send."""
    with spawn(
        ["ssh", "box", "--", "yes"], env={**os.environ, "PYTHONPATH": str(ROOT), "RENTROLL_SSH": "library"}
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert (process.wait(LIMIT_S), process.stderr.read()) == (255, b"")
        finally:
            process.kill()


@both_ways
def test_a_session_has_a_terminal_that_is_as_large_as_ours_and_follows_it(box: Any) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (33, 101))
    before = termios.tcgetattr(theirs)
    ends: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with spawn(["ssh", "box"], **ends, preexec_fn=lambda: os.login_tty(0)) as process:
        try:
            os.write(ours, b"stty size; echo rea''dy\n")
            assert b"33 101\r\n" in read_until(ours, b"ready\r\n")
            termios.tcsetwinsize(theirs, (44, 99))
            os.write(ours, b"while [ \"$(stty size)\" != '44 99' ]; do :; done; echo fol''lowed; exit 7\n")
            read_until(ours, b"followed\r\n")
            assert process.wait(LIMIT_S) == 7
        finally:
            process.kill()
    assert termios.tcgetattr(theirs) == before
    for end in (ours, theirs):
        os.close(end)


def read_until(terminal: int, mark: bytes) -> bytes:
    seen = b""
    while mark not in seen:
        assert select.select([terminal], [], [], LIMIT_S)[0], seen
        seen += os.read(terminal, 4096)
    return seen


@needs_ssh
def test_sessions_share_one_connection(rentroll: Rentroll, box: Any) -> None:
    """Which nothing of the caller's is held by."""
    shown = [run_process("ssh", "box", "--", "sh", "-c", "echo $SSH_CONNECTION") for _ in range(2)]
    assert [ran.code for ran in shown] == [0, 0]
    assert shown[0].out == shown[1].out


@both_ways
def test_using_a_box_is_a_sign_of_life(rentroll: Rentroll, box: Any) -> None:
    rentroll("ssh", "box", "--", "true")
    assert rentroll("status", "box", "--json").json["last_touched_at"] > box["last_touched_at"]


def test_two_words_before_the_dashes_are_refused(rentroll: Rentroll, box: Any) -> None:
    assert rentroll("ssh", "box", "true", "--", "false").code == 2


@pytest.mark.holds("LST-09")
def test_a_released_lease_cannot_be_entered(rentroll: Rentroll, box: Any) -> None:
    rentroll("stop", "box")
    assert rentroll("ssh", box["lease_id"], "--", "true").code == 4
    assert rentroll("ssh", "box", "--", "true").code == 4
