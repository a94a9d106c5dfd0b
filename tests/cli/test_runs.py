"""`runs`: the history, what was written, and runs that lost their client."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cli.commands import runs
from cli.outcome import sink
from tests.cli.begun import ON_BOX, SLEEPS, WAITS, begun, ends_of, listed, only, phase
from tests.cli.running import LEASE_ID, LIMIT_S, RUN_ID, TIME, Like, Number, Rentroll, finish, spawn, until


@pytest.mark.holds("W-29")
def test_the_history_has_every_run_with_its_end_and_its_cost(rentroll: Rentroll, box: Any) -> None:
    rentroll(*ON_BOX, "--", "sh", "-c", "printf four; printf two >&2; exit 3")
    rentroll(*ON_BOX, "--shell", "--", "kill", "-TERM", "$$")
    second, first = listed(rentroll)
    assert first == {
        "run_id": RUN_ID,
        "lease_id": LEASE_ID,
        "slug": "box",
        "command": ["sh", "-c", "printf four; printf two >&2; exit 3"],
        "kind": "argv",
        "state": "finished",
        "started_at": TIME,
        "finished_at": TIME,
        "duration_seconds": Number(),
        "exit_code": 3,
        "signal": None,
        "failure": None,
        "stdout_bytes": 4,
        "stderr_bytes": 3,
        "phases": {"lease_seconds": Number(), "ssh_seconds": Number(), "command_seconds": Number()},
        "code": {"repository": None, "commit": None, "dirty": None, "manifest_digest": None},
        "fence": 1,
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "cost": {"amount": Like(r"0\.00"), "currency": "USD"},
    }
    assert [second[name] for name in ("kind", "exit_code", "signal", "fence")] == ["shell", 143, "TERM", 2]


def test_the_table_names_the_end_and_the_command(rentroll: Rentroll, box: Any) -> None:
    rentroll(*ON_BOX, "--", "sh", "-c", "exit 3")
    heading, row = rentroll("runs").out.splitlines()
    assert heading.split() == ["RUN", "LEASE", "END", "AGE", "TOOK", "COST", "COMMAND"]
    assert row.split()[1:3] == ["box", "3"]
    assert row.endswith("sh -c 'exit 3'")


def test_without_any_run_there_is_none(rentroll: Rentroll, box: Any) -> None:
    assert (rentroll("runs").out, listed(rentroll)) == ("no runs\n", [])


def test_runs_of_one_lease_are_its_own(rentroll: Rentroll, box: Any) -> None:
    rentroll(*ON_BOX, "--", "true")
    rentroll("warmup", "--slug", "other")
    assert (len(listed(rentroll, "--id", "box")), listed(rentroll, "--id", "other")) == (1, [])


def test_a_run_is_named_by_its_id_its_beginning_or_as_the_latest(rentroll: Rentroll, box: Any) -> None:
    rentroll(*ON_BOX, "--", "echo", "one")
    run_id = only(rentroll)["run_id"]
    for name in (run_id, run_id[:12], run_id.removeprefix("run_")[:8], "latest"):
        assert rentroll("runs", "logs", name).out == "one\n"
    ran = rentroll("runs", "attach", "run_zzzz")
    assert (ran.code, ran.err.splitlines()[0]) == (4, "rentroll: not-found: no run 'run_zzzz' in this ledger")


def test_two_runs_that_begin_alike_are_refused(rentroll: Rentroll, box: Any) -> None:
    for _ in range(2):
        rentroll(*ON_BOX, "--", "true")
    assert rentroll("runs", "logs", "run_").code == 2


def test_what_a_run_wrote_is_kept_here_privately_stream_by_stream(rentroll: Rentroll) -> None:
    rentroll("run", "--no-sync", "--", "sh", "-c", "echo out; echo err >&2")
    ran = rentroll("runs", "logs", "latest")
    assert (ran.out, ran.err) == ("out\n", "err\n")
    assert rentroll("runs", "logs", "latest", "--stdout").out == "out\n"
    assert rentroll("runs", "logs", "latest", "--stderr").out == "err\n"
    pieces = [json.loads(line) for line in rentroll("runs", "logs", "latest", "--jsonl").out.splitlines()]
    assert pieces == [
        {"run_id": RUN_ID, "stream": "stdout", "offset": 0, "text": "out\n"},
        {"run_id": RUN_ID, "stream": "stderr", "offset": 0, "text": "err\n"},
    ]
    (folder,) = (Path(os.environ["RENTROLL_STATE_DIR"]) / "runs").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize(("setting", "kept"), [("10", "890123456\n"), ("0", "")])
def test_the_end_of_each_stream_is_kept_as_far_as_the_setting_says(
    rentroll: Rentroll, box: Any, setting: str, kept: str
) -> None:
    env = {"RENTROLL_RUNS_LOG_BYTES": setting}
    ran = rentroll(*ON_BOX, "--", "sh", "-c", "printf 01234567; echo 890123456", env=env)
    assert (ran.out, rentroll("runs", "logs", "latest").out) == ("01234567890123456\n", kept)


def test_a_setting_of_the_logs_that_is_no_number_is_refused(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll(*ON_BOX, "--", "true", env={"RENTROLL_RUNS_LOG_BYTES": "1MB"})
    assert (ran.code, "runs.log_bytes: not a number of bytes: '1MB'" in ran.err) == (125, True)


@pytest.mark.holds("HOLE-11")
def test_a_second_ctrl_c_leaves_the_job_running_and_attach_gives_its_end(
    rentroll: Rentroll, box: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"trap '' INT; {WAITS.format(gate=gate)}"
    with begun(*ON_BOX, "--", "sh", "-c", script) as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        until(lambda: b"once more leaves it running" in process.stderr.readline())  # type: ignore[union-attr]
        process.send_signal(signal.SIGINT)
        ran = finish(process)
    run_id = only(rentroll)["run_id"]
    assert ran.code == 130
    assert f"`rentroll runs attach {run_id}` follows it, `rentroll runs stop {run_id}` ends it" in ran.err
    assert [only(rentroll)[name] for name in ("state", "exit_code")] == ["detached", None]

    gate.touch()
    attached = rentroll("runs", "attach", "latest")
    assert (attached.code, attached.out) == (5, "done\n")
    assert [only(rentroll)[name] for name in ("state", "exit_code", "stdout_bytes")] == ["finished", 5, 8]
    assert ends_of(rentroll) == [(None, None, True), (5, None, False)]
    assert rentroll("runs", "logs", "latest").out == "up\ndone\n"
    assert rentroll("runs", "attach", "latest").code == 5


def test_a_run_whose_client_was_killed_is_unknown_until_somebody_attaches(
    rentroll: Rentroll, box: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with begun(*ON_BOX, "--", "sh", "-c", WAITS.format(gate=gate)) as process:
        until(lambda: rentroll("runs", "logs", "latest").out == "up\n")
        assert [only(rentroll)[name] for name in ("state", "duration_seconds")] == ["running", Number()]
        process.kill()
        process.wait(LIMIT_S)
    shown = rentroll("runs")
    assert [only(rentroll)[name] for name in ("state", "duration_seconds", "cost")] == [
        "unknown",
        None,
        {"amount": None, "currency": "USD"},
    ]
    assert "its client is gone, and whether it still runs is not known here" in shown.err
    gate.touch()
    assert rentroll("runs", "attach", "latest").code == 5
    assert ends_of(rentroll) == [(5, None, False)]


def test_the_logs_of_a_run_without_a_client_come_from_its_box(rentroll: Rentroll, box: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with begun(*ON_BOX, "--", "sh", "-c", WAITS.format(gate=gate)) as process:
        process.kill()
    gate.touch()
    assert rentroll("runs", "logs", "latest", "--follow").out == "up\ndone\n"
    assert ends_of(rentroll) == []


def test_the_logs_of_a_run_that_does_not_fall_silent_end_all_the_same(
    rentroll: Rentroll, box: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "KEPT_S", 0.3)
    with begun(*ON_BOX, "--", "sh", "-c", "echo up; for _ in $(seq 100); do echo on; sleep 0.1; done") as process:
        process.kill()
        process.wait(LIMIT_S)
    ran = rentroll("runs", "logs", "latest")
    assert (ran.code, ran.out[:6], ran.out.count("on\n") < 60) == (0, "up\non\n", True)


def test_what_comes_out_waits_for_the_reader_of_a_pipe_that_does_not_block() -> None:
    """Another program on the same pipe may have set it so."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    data = os.urandom(1 << 20)
    with os.fdopen(read, "rb") as reader, ThreadPoolExecutor(1) as pool:
        taken = pool.submit(reader.read)
        with os.fdopen(write, "wb"):
            sink(write)(data)
        assert taken.result(LIMIT_S) == data


def test_the_logs_of_a_run_are_followed_to_its_end(rentroll: Rentroll, box: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with begun(*ON_BOX, "--", "sh", "-c", WAITS.format(gate=gate)) as process:
        with begun("runs", "logs", "latest", "--follow") as follower:
            gate.touch()
            assert finish(follower).out == "done\n"
        assert finish(process).code == 5


def test_a_run_that_is_followed_already_is_not_attached_to(rentroll: Rentroll, box: Any) -> None:
    with begun(*ON_BOX, "--", *SLEEPS) as process:
        ran = rentroll("runs", "attach", "latest")
        process.send_signal(signal.SIGINT)
        finish(process)
    assert (ran.code, "is followed by another process of this machine" in ran.err) == (11, True)


def test_stop_ends_a_run_and_its_client_gives_the_code(rentroll: Rentroll, box: Any) -> None:
    with begun(*ON_BOX, "--", *SLEEPS) as process:
        stopped = rentroll("runs", "stop", "latest", "--json")
        assert finish(process).code == 130
    assert (stopped.code, stopped.json["run"]["run_id"]) == (0, RUN_ID)
    assert ends_of(rentroll) == [(None, "INT", False)]
    assert phase(rentroll) == [("box", "ready")]


def test_stop_ends_a_run_whose_client_is_gone_and_records_it(rentroll: Rentroll, box: Any) -> None:
    with begun(*ON_BOX, "--", *SLEEPS) as process:
        process.kill()
    assert rentroll("runs", "stop", "latest", "--json").json["run"]["signal"] == "INT"
    assert ends_of(rentroll) == [(None, "INT", False)]


def test_a_run_whose_lease_somebody_else_stops_ends_at_once_and_says_why(rentroll: Rentroll, box: Any) -> None:
    with begun(*ON_BOX, "--", *SLEEPS) as process:
        assert rentroll("stop", "box").code == 0
        ran = finish(process)
    run_id = only(rentroll)["run_id"]
    assert (ran.code, ran.err.splitlines()[-1]) == (
        125,
        f"rentroll: ssh: box was given back meanwhile, and {run_id} with it",
    )
    assert (ends_of(rentroll), phase(rentroll)) == ([(None, None, False)], [("box", "released")])


def test_to_stop_a_run_that_has_ended_is_no_failure_also_where_its_box_is_gone(rentroll: Rentroll) -> None:
    rentroll("run", "--no-sync", "--", "true")
    ran = rentroll("runs", "stop", "latest", "--json")
    assert (ran.code, ran.json["run"]["state"], ran.json["run"]["exit_code"]) == (0, "finished", 0)


def test_after_attaching_to_a_run_that_leased_its_box_it_is_said_that_this_bills(
    rentroll: Rentroll, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with begun("run", "--no-sync", "--slug", "job", "--", "sh", "-c", WAITS.format(gate=gate)) as process:
        process.kill()
    gate.touch()
    ran = rentroll("runs", "attach", "latest")
    assert (ran.code, "`rentroll stop job` ends it now" in ran.err) == (5, True)


def test_a_second_client_waits_for_the_first_and_says_for_whom(rentroll: Rentroll, box: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with begun(*ON_BOX, "--", "sh", "-c", WAITS.format(gate=gate)) as first:
        held = only(rentroll)
        with spawn([*ON_BOX, "--", "echo", "second"]) as second:
            assert second.stderr is not None
            told = second.stderr.readline().decode()
            gate.touch()
            assert finish(second).out == "second\n"
        assert finish(first).code == 5
    running = f"running {held['run_id']}, by pid {held['pid']} on {held['host']}"
    assert told == f"rentroll: box: waiting: the box is {running}\n"
    assert [run["fence"] for run in listed(rentroll)] == [2, 1]


def test_a_second_client_gives_up_after_its_limit_and_its_box_stays(rentroll: Rentroll, box: Any) -> None:
    with begun(*ON_BOX, "--", *SLEEPS) as first:
        ran = rentroll(*ON_BOX, "--lock-timeout", "0.2s", "--stop-after", "always", "--json", "--", "true")
        first.send_signal(signal.SIGINT)
        finish(first)
    assert (ran.code, ran.error["code"], ran.error["exit_code"]) == (125, "conflict", 11)
    assert (len(listed(rentroll)), phase(rentroll)) == (1, [("box", "ready")])
