"""`ssh`: one command or a session through the system's ssh, under the pinned key of the lease."""

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from providers.emulator.serve import Emulator
from tests.cli.running import Rentroll, run_process

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh on this machine")


@needs_ssh
def test_a_command_runs_on_the_box_with_its_own_streams_and_code(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll("ssh", "box", "--", "sh", "-c", 'printf "<%s>" "$@"; echo err >&2; exit 5', "sh", "a b", "", "$HOME")
    assert ran == (5, "<a b><><$HOME>", "err\n")


@needs_ssh
def test_without_a_name_it_is_the_repositorys_only_open_lease(rentroll: Rentroll, repository: Path, box: Any) -> None:
    assert rentroll("ssh", "--", "echo", "here") == (0, "here\n", "")


@needs_ssh
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


@pytest.mark.holds("W-27", "PEER-34")
@needs_ssh
def test_a_host_key_that_changed_is_7(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    emulator.rekey(box["instance_id"])
    ran = rentroll("ssh", "box", "--", "true")
    assert (ran.code, ran.err.splitlines()[-1]) == (7, "  next: rentroll status box --refresh")


@pytest.mark.holds("PEER-27")
@needs_ssh
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
