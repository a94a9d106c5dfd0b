"""A job on the box, from its start to its end, over one channel."""

import base64
import os
import subprocess
from pathlib import Path

import pytest

from providers.agent import frames
from tests.agent.client import Channel, Place, alive, jobs_of, until


def ended(channel: Channel) -> tuple[int | None, str | None, bytes, bytes]:
    return (*channel.end(), bytes(channel.stdout), bytes(channel.stderr))


def test_both_outputs_come_apart_and_the_code_is_the_commands_own(box: Place) -> None:
    channel = box.channel()
    channel.run("sh", "-c", "echo out; echo err >&2; exit 37")
    assert ended(channel) == (37, None, b"out\n", b"err\n")


def test_what_a_command_prints_need_be_no_text(box: Place) -> None:
    everything = bytes(range(256)) * 64
    (box.folder / "bytes").write_bytes(everything)
    channel = box.channel()
    channel.run("cat", str(box.folder / "bytes"))
    assert ended(channel) == (0, None, everything, b"")


def test_ten_megabytes_without_a_newline_come_as_they_are(box: Place) -> None:
    channel = box.channel()
    channel.run("sh", "-c", "head -c 10000000 /dev/zero; printf x")
    assert ended(channel) == (0, None, bytes(10_000_000) + b"x", b"")


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "INT", "HUP", "PIPE"])
def test_a_job_that_a_signal_ended_says_which(box: Place, name: str) -> None:
    channel = box.channel()
    channel.run("sh", "-c", f"ulimit -c 0; kill -{name} $$; sleep 60")
    assert channel.end() == (None, name)


def test_a_signal_reaches_the_whole_group_of_the_job(box: Place) -> None:
    channel = box.channel()
    channel.run("sh", "-c", "sleep 600 & sleep 600 & echo ready; wait")
    channel.until_output(b"ready\n")
    channel.say(op="signal", name="TERM")
    assert channel.end() == (None, "TERM")
    until(lambda: not jobs_of(box.folder) or jobs_of(box.folder) == [channel.process.pid])


def test_an_unknown_signal_is_refused_and_the_job_goes_on(box: Place) -> None:
    channel = box.channel()
    channel.run("cat", stdin=True)
    assert channel.ask("failed", op="signal", name="NONE")["stage"] == "protocol"
    channel.write(frames.STDIN_END)
    assert channel.end() == (0, None)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("no-such-program", 127, "rentroll: no-such-program: command not found\n"),
        ("./no-such-file", 127, "rentroll: ./no-such-file: command not found\n"),
        ("/etc/passwd", 126, "rentroll: /etc/passwd: permission denied\n"),
        ("/tmp", 126, "rentroll: /tmp: permission denied\n"),
        ("", 127, "rentroll: : command not found\n"),
    ],
)
def test_a_command_that_cannot_be_run_ends_as_a_shell_would_say_it(
    box: Place, name: str, code: int, words: str
) -> None:
    channel = box.channel()
    channel.run(name)
    assert ended(channel) == (code, None, b"", words.encode())


def test_a_program_is_looked_for_on_the_jobs_own_path(box: Place) -> None:
    program = box.folder / "bin" / "mine"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho mine\n")
    program.chmod(0o755)
    channel = box.channel()
    channel.run("mine", env={"PATH": f"/no-such-folder:{program.parent}:/usr/bin:/bin"})
    assert ended(channel) == (0, None, b"mine\n", b"")


def test_a_line_is_run_by_the_logins_shell(box: Place) -> None:
    box.env["SHELL"] = "/bin/bash"
    channel = box.channel()
    channel.run(shell="a=(1 2 3); echo ${#a[@]} $0; false | true; exit ${PIPESTATUS[0]}")
    assert ended(channel) == (1, None, b"3 /bin/bash\n", b"")


@pytest.mark.parametrize("first", ["#!/bin/sh\n", ""])
def test_a_script_is_run_from_a_file_that_only_its_owner_may_read(box: Place, first: str) -> None:
    text = f'{first}echo "$0" "$1"; stat -c %a "$0"\n'
    channel = box.channel()
    channel.run("an argument", script=base64.b64encode(text.encode()).decode())
    path = box.run_folder / "script"
    assert ended(channel) == (0, None, f"{path} an argument\n700\n".encode(), b"")


def test_a_job_works_in_the_workspace_with_the_logins_environment_and_what_it_was_given(box: Place) -> None:
    channel = box.channel()
    channel.run("env", env={"SECRET": "s3cret", "LOGIN": "overridden"})
    code, signal, stdout, _ = ended(channel)
    told = dict(line.split("=", 1) for line in stdout.decode().splitlines())
    assert (code, signal) == (0, None)
    assert told == {
        "PATH": os.environ["PATH"],
        "HOME": str(box.folder),
        "LOGIN": "overridden",
        "SECRET": "s3cret",
        "PWD": str(box.work),
        "RENTROLL_FENCE": "1",
        "RENTROLL_RUN_ID": "r1",
    }


def test_values_of_the_environment_are_in_no_file_and_no_argument(box: Place) -> None:
    channel = box.channel()
    channel.run("cat", stdin=True, env={"SECRET": "s3cret-value"})
    until(lambda: len(jobs_of(box.folder)) == 2)  # a process that has just begun shows no environment for a moment
    arguments = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in jobs_of(box.folder)]
    files = [path.read_bytes() for path in box.state.rglob("*") if path.is_file()]
    assert [text for text in [*arguments, *files] if b"s3cret-value" in text] == []
    assert len(arguments) == 2
    assert files != []


def test_folders_of_ours_are_private_and_the_workspace_is_as_the_login_makes_folders(box: Place) -> None:
    channel = box.channel()
    channel.run("sh", "-c", "umask")
    _, _, stdout, _ = ended(channel)
    modes = {path: path.stat().st_mode & 0o777 for path in (box.state, box.state / "runs", box.run_folder)}
    assert set(modes.values()) == {0o700}
    assert box.work.stat().st_mode & 0o777 == 0o777 & ~int(stdout, 8)


def test_stdin_reaches_the_job_with_its_end(box: Place) -> None:
    channel = box.channel()
    channel.run("sh", "-c", "cat; echo over", stdin=True)
    channel.write(frames.STDIN, b"one\n")
    channel.until_output(b"one\n")
    channel.write(frames.STDIN, b"two\n")
    channel.write(frames.STDIN_END)
    assert ended(channel) == (0, None, b"one\ntwo\nover\n", b"")


def test_a_job_without_stdin_reads_its_end_at_once(box: Place) -> None:
    channel = box.channel()
    channel.run("sh", "-c", "cat; echo over", stdin=False)
    assert ended(channel) == (0, None, b"over\n", b"")


def test_much_input_flows_as_fast_as_the_job_takes_it(box: Place) -> None:
    channel = box.channel()
    channel.run("sh", "-c", "cksum", stdin=True)
    data, sent, taken = bytes(range(256)) * 40_000, 0, 0
    while sent < len(data):
        while sent - taken >= frames.STDIN_WINDOW_BYTES:
            taken = channel.hear("input")["taken"]
        channel.write(frames.STDIN, data[sent : sent + 65_536])
        sent += 65_536
    channel.write(frames.STDIN_END)
    expected = subprocess.run(["cksum"], input=data, capture_output=True, check=True).stdout
    assert ended(channel) == (0, None, expected, b"")


def test_a_signal_does_not_wait_behind_input_that_the_job_does_not_read(box: Place) -> None:
    channel = box.channel()
    channel.run("sleep", "600", stdin=True)
    for _ in range(frames.STDIN_WINDOW_BYTES // 65_536):
        channel.write(frames.STDIN, bytes(65_536))
    channel.say(op="signal", name="INT")
    assert channel.end() == (None, "INT")


def test_input_that_the_job_has_closed_is_said_not_to_be_wanted(box: Place) -> None:
    channel = box.channel()
    channel.run("sh", "-c", "exec <&-; echo closed; sleep 600", stdin=True)
    channel.until_output(b"closed\n")
    channel.write(frames.STDIN, b"too late")
    assert channel.hear("input") == {"is": "input", "taken": 8, "closed": True}


def test_a_process_left_behind_with_the_outputs_open_is_waited_for_only_while_it_speaks(box: Place) -> None:
    channel = box.channel()
    pid = channel.run("sh", "-c", "(trap '' PIPE; echo late; exec sleep 600) & echo done; exit 5")
    message = channel.hear("ended")
    assert (message["exit_code"], sorted(bytes(channel.stdout).split())) == (5, [b"done", b"late"])
    assert not alive(pid)
    assert [each for each in jobs_of(box.folder) if each != channel.process.pid] != []


def test_one_channel_runs_one_job_after_the_other_each_under_a_lock_of_its_own(box: Place) -> None:
    channel = box.channel()
    channel.run("echo", "first", run_id="r1")
    assert channel.end() == (0, None)
    channel.say(op="signal", name="INT")  # crossed with the end
    channel.run("sh", "-c", "echo $RENTROLL_FENCE", run_id="r2")
    assert channel.end() == (0, None)
    assert bytes(channel.stdout[:2]) == b"2\n"


def test_a_run_needs_the_lock_and_a_new_name(box: Place) -> None:
    channel = box.channel()
    refused = channel.ask("failed", op="run", run_id="r1", argv=["true"], env={}, tty=None, stdin=False)
    assert refused["stage"] == "protocol"
    channel.run("true")
    assert channel.end() == (0, None)
    channel.lock()
    again = channel.ask("failed", op="run", run_id="r1", argv=["true"], env={}, tty=None, stdin=False)
    assert again["message"] == "the run r1 is there already"
    hostile = channel.ask("failed", op="run", run_id="../../x", argv=["true"], env={}, tty=None, stdin=False)
    assert hostile["stage"] == "protocol"
    assert [path.name for path in (box.state / "runs").iterdir()] == ["r1"]


def test_a_run_that_cannot_be_started_leaves_nothing_and_the_channel_goes_on(box: Place) -> None:
    box.work.write_text("a file where the workspace should be")
    channel = box.channel()
    channel.lock()
    failed = channel.ask("failed", op="run", run_id="r1", argv=["true"], env={}, tty=None, stdin=False)
    assert failed["stage"] in {"not-a-folder", "io"}
    assert list((box.state / "runs").iterdir()) == []
    box.work.unlink()
    channel.run("true")
    assert channel.end() == (0, None)


def test_the_newest_twenty_runs_are_kept(box: Place) -> None:
    channel = box.channel()
    for number in range(22):
        channel.run("true", run_id=f"r{number:02}")
        channel.end()
    told = channel.ask("runs", op="runs")["runs"]
    assert [(each["run_id"], each["running"], each["exit_code"]) for each in told] == [
        (f"r{number:02}", False, 0) for number in range(2, 22)
    ]


def test_an_agent_whose_channel_ends_without_a_job_ends_too(box: Place) -> None:
    channel = box.channel()
    channel.lock()
    assert channel.over() == 0
