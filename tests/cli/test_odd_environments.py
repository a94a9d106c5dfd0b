"""What the caller's surroundings may lack: a reader, a stream, a folder, a home, text that is text."""

import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from providers.emulator.faults import Delay, Fault
from providers.emulator.serve import Emulator
from tests.cli.running import PROGRAM, ROOT, Rentroll, finish, run_process, spawn, until

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh on this machine")
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this machine")


def nobody() -> int:
    """The writing end of a pipe whose reader is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def in_shell(script: str) -> "subprocess.CompletedProcess[str]":
    """A line of sh in which `rentroll` is the program."""
    program = f'rentroll() {{ {shlex.join(PROGRAM)} "$@"; }}; {script}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["sh", "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=30
    )


def outcomes(rentroll: Rentroll) -> list[tuple[str, str | None]]:
    leases = rentroll("list", "--all", "--json").json["leases"]
    return [(lease["phase"], lease["outcome"]) for lease in leases]


def test_a_box_becomes_ready_though_nobody_reads_the_progress(rentroll: Rentroll) -> None:
    stderr = nobody()
    assert run_process("warmup", "--slug", "box", stderr=stderr).code == 0
    os.close(stderr)
    assert outcomes(rentroll) == [("ready", None)]


def test_a_run_gives_its_box_back_though_nobody_reads_the_progress(rentroll: Rentroll) -> None:
    stderr = nobody()
    ran = run_process("run", "--no-sync", "--", "echo", "done", stderr=stderr)
    os.close(stderr)
    assert (ran.code, ran.out, outcomes(rentroll)) == (0, "done\n", [("released", "completed")])


def test_a_terminal_that_goes_away_stops_no_acquisition(rentroll: Rentroll, emulator: Emulator) -> None:
    emulator.add_fault(Fault(call="get", effects=(Delay(seconds=0.8),)))
    ours, theirs = os.openpty()
    with spawn(("warmup", "--slug", "box"), stderr=theirs) as process:
        os.close(theirs)
        os.read(ours, 1)
        os.close(ours)
        assert finish(process).code == 0
    assert outcomes(rentroll) == [("ready", None)]


@needs_full
def test_a_full_disk_behind_stderr_keeps_no_box(rentroll: Rentroll, box: Any) -> None:
    assert in_shell("rentroll stop box 2>/dev/full").returncode == 0
    assert outcomes(rentroll) == [("released", "completed")]


def test_without_a_stderr_a_box_is_given_back(rentroll: Rentroll, box: Any) -> None:
    assert in_shell("rentroll stop box 2>&-").returncode == 0
    assert outcomes(rentroll) == [("released", "completed")]


def test_without_any_standard_stream_it_does_its_work(rentroll: Rentroll) -> None:
    assert in_shell("rentroll warmup --slug box <&- >&- 2>&-").returncode == 0
    assert outcomes(rentroll) == [("ready", None)]


@pytest.mark.parametrize("words", ["--version", "list --json"])
def test_without_a_stdout_there_is_nothing_to_complain_of(words: str) -> None:
    ran = in_shell(f"rentroll {words} >&-")
    assert (ran.returncode, ran.stderr) == (0, "")


@needs_full
def test_a_version_that_cannot_be_written_is_told_like_any_other_result() -> None:
    ran = in_shell("rentroll --version >/dev/full")
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[0] == (
        "rentroll: usage: what this command had to write could not be written: no space left on device"
    )


@needs_ssh
def test_ssh_works_without_a_stdin(box: Any) -> None:
    ran = in_shell("rentroll ssh box -- echo here <&-")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "here\n", "")


@needs_ssh
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_ssh_with_us(box: Any, number: signal.Signals) -> None:
    with spawn(("ssh", "box", "--", "sh", "-c", "echo begun; exec sleep 60")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(number)
        # The end of its stdout is the end of every process that held it.
        assert (process.stdout.read(), process.wait(30)) == (b"", 128 + number)


@needs_ssh
def test_an_interrupt_is_left_to_ssh(box: Any) -> None:
    """The terminal sends it to ssh as well; ssh's own end is ours."""
    with spawn(("ssh", "box", "--", "sh", "-c", "echo begun; read line; exit 3")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGINT)
        assert finish(process, b"on\n").code == 3


def test_a_signal_ends_the_demo_with_its_emulator_and_its_folders(tmp_path: Path) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    with spawn(("demo",), env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}) as process:
        until(lambda: len(list(folder.iterdir())) == 2)  # its own and its emulator's
        process.send_signal(signal.SIGTERM)
        ran = finish(process)
    assert (ran.code, list(folder.iterdir())) == (143, [])


def test_a_demo_that_is_killed_takes_its_emulator_along(tmp_path: Path) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    with spawn(("demo",), env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}) as process:
        until(lambda: list(folder.glob("rentroll-emulator-*")))
        process.kill()
        until(lambda: not list(folder.glob("rentroll-emulator-*")))


def test_an_emulator_behind_an_ampersand_lets_interrupts_through() -> None:
    """A shell without job control starts it with SIGINT and SIGQUIT ignored."""
    script = 'exec("import signal\\nfor n in (2, 3): signal.signal(n, signal.SIG_IGN)");'
    ignoring = [*PROGRAM[:-1], f"{script} {PROGRAM[-1]}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*ignoring, "emulator", "serve", "--boot", "1s"], stdout=subprocess.PIPE, env=environment
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline()
        server.send_signal(signal.SIGINT)
        try:
            assert server.wait(10) in (0, 130)
        finally:
            server.kill()


def test_a_folder_that_was_deleted_under_us_has_no_settings_file(tmp_path: Path) -> None:
    ran = in_shell("mkdir gone; cd gone; rmdir ../gone; rentroll list")
    assert (ran.returncode, ran.stdout) == (0, "no open leases\n")


def test_without_a_home_it_says_what_to_set(rentroll: Rentroll, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(_name: str) -> str:
        raise RuntimeError

    monkeypatch.setattr("platformdirs.user_state_dir", no_home)
    ran = rentroll("list", env={"RENTROLL_STATE_DIR": None})
    assert (ran.code, ran.err) == (
        2,
        "rentroll: usage: there is no home folder to keep the ledger in\n  hint: set RENTROLL_STATE_DIR or HOME\n",
    )


def test_a_repository_whose_path_is_no_text_is_recorded_escaped(
    rentroll: Rentroll, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff"
    try:
        os.mkdir(folder)  # noqa: PTH102 - a Path has only text
    except OSError:
        pytest.skip("this file system has only text for names")
    monkeypatch.chdir(os.fsdecode(folder))
    subprocess.run(["git", "init", "-q"], check=True)
    assert rentroll("warmup", "--slug", "box").code == 0
    assert rentroll("status", "box", "--json").json["repo"] == f"{tmp_path}/\\xff"


def test_the_length_of_a_keep_is_refused_in_the_words_that_were_given(rentroll: Rentroll) -> None:
    by_ttl = rentroll("warmup", "--keep", "--reason", "x", "--ttl", "30d")
    assert (by_ttl.code, by_ttl.err.splitlines()[0]) == (
        2,
        "rentroll: usage: --keep keeps for the TTL, but at most seven days: '30d' of the command line",
    )
    by_time = rentroll("warmup", "--keep-until", "1h")
    assert (by_time.code, by_time.err.splitlines()[0]) == (2, "rentroll: usage: --keep-until needs --reason")


def test_a_reason_without_a_keep_is_refused(rentroll: Rentroll) -> None:
    ran = rentroll("warmup", "--reason", "x")
    assert (ran.code, ran.err.splitlines()[0]) == (2, "rentroll: usage: --reason goes with --keep or --keep-until")


def test_a_path_without_a_ledger_is_told_where_somebody_gave_it(rentroll: Rentroll, tmp_path: Path) -> None:
    told = f"rentroll: there is no ledger at {tmp_path}/none.db yet\n"
    url = f"sqlite:///{tmp_path}/none.db"
    assert rentroll("--ledger", url, "list") == (0, "no open leases\n", told)
    assert rentroll("list", env={"RENTROLL_LEDGER_URL": url}) == (0, "no open leases\n", told)
    assert rentroll("list") == (0, "no open leases\n", "")
