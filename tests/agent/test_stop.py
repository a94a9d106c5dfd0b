"""Runs that are stopped, and what is told of runs that nobody supervises any more."""

import os
from functools import partial
from pathlib import Path

from tests.agent.client import Place, alive, until
from tests.agent.jobs import children, ended, stalled, told_runs, written


def test_a_run_whose_supervisor_was_killed_runs_on_until_it_is_stopped_and_is_lost_then(box: Place) -> None:
    run_id = f"r{os.getpid()}"  # what is left of it is told by this, on the whole machine: no other test may share it
    channel = box.channel()
    deaf = "echo one; trap '' PIPE INT; while :; do sleep 0.05; done"
    pid = channel.run("sh", "-c", deaf, run_id=run_id)
    channel.until_output(b"one\n")
    channel.process.kill()
    channel.process.wait()
    second = box.channel()
    assert second.attach(run_id)["pid"] == pid
    assert second.hear("ended", "lost") == {"is": "lost"}
    assert bytes(second.stdout) == b"one\n"
    assert told_runs(second) == [(run_id, True, False)]
    assert second.ask("lost", op="stop", run_id=run_id, grace_ms=50) == {"is": "lost"}
    until(partial(ended, pid))
    assert told_runs(second) == [(run_id, False, True)]
    assert second.lock(wait_ms=0) == 2


def test_stop_ends_a_job_with_the_mildest_signal_that_it_heeds(box: Place) -> None:
    first, second = box.channel(), box.channel()
    first.run("sh", "-c", "trap '' INT; echo ready; while :; do sleep 0.05; done")
    first.until_output(b"ready\n")
    stopped = second.ask("stopped", op="stop", run_id="r1", grace_ms=200)
    assert (stopped["exit_code"], stopped["signal"]) == (None, "TERM")
    assert first.end() == (None, "TERM")


def test_stop_kills_a_job_that_heeds_nothing_with_all_its_group(box: Place) -> None:
    first, second = box.channel(), box.channel()
    deaf = "trap '' INT TERM; while :; do sleep 0.05; done"
    pid = first.run("sh", "-c", f'sh -c "{deaf}" & {deaf.replace("while", "echo ready; while")}')
    first.until_output(b"ready\n")
    group = [pid, *children(pid)]
    stopped = second.ask("stopped", op="stop", run_id="r1", grace_ms=100)
    assert (stopped["exit_code"], stopped["signal"]) == (None, "KILL")
    until(lambda: not any(alive(each) for each in group))


def test_stop_leaves_nothing_of_the_group_behind_when_its_leader_has_ended(box: Place) -> None:
    first, second = box.channel(), box.channel()
    pid = first.run("sh", "-c", "(trap '' INT TERM; exec sleep 600) > /dev/null 2>&1 & echo ready; wait")
    first.until_output(b"ready\n")
    until(lambda: Path(f"/proc/{children(pid)[0]}/comm").read_text() == "sleep\n")
    [deaf] = children(pid)
    assert second.ask("stopped", op="stop", run_id="r1", grace_ms=100)["signal"] == "INT"
    until(partial(ended, deaf))


def test_stop_gives_those_whom_the_leader_left_behind_their_time_to_end(box: Place) -> None:
    """Silently, with outputs that are closed: nothing else tells the supervisor that somebody is there still."""
    ready, go, done = box.folder / "ready", box.folder / "go", box.folder / "done"
    saves = f"trap 'until test -e {go}; do sleep 0.02; done; touch {done}; exit' INT"
    child = f"{saves}; touch {ready}; while :; do sleep 0.02; done"
    leader = f"import os, signal, subprocess; os.closerange(1, 3); subprocess.Popen(['sh', '-c', {child!r}])"
    first, second = box.channel(), box.channel()
    pid = first.run("python3", "-c", f"{leader}; signal.pause()")
    until(ready.exists)
    second.say(op="stop", run_id="r1", grace_ms=20_000)
    until(partial(ended, pid))
    go.touch()
    assert second.hear("stopped")["signal"] == "INT"
    assert done.exists()


def test_stop_ends_a_run_whose_leader_has_ended_and_left_one_that_goes_on_writing(box: Place) -> None:
    """Also where that one is deaf, and where it is in another session, so that no signal to the group reaches it."""
    for run_id, apart in (("r1", ""), ("r2", "exec setsid ")):
        first, second = box.channel(), box.channel()
        deaf = "trap '' INT TERM; while :; do echo x; sleep 0.05; done"
        pid = first.run("sh", "-c", f'({apart}sh -c "{deaf}") & exit 0', run_id=run_id)
        first.until_output(b"x\n")
        until(partial(ended, pid))
        assert second.ask("stopped", op="stop", run_id=run_id, grace_ms=100)["exit_code"] == 0
        assert first.end() == (0, None)


def test_a_client_that_is_behind_when_the_run_is_stopped_misses_nothing_that_was_written(box: Place) -> None:
    first, second = box.channel(), box.channel()
    pid = first.run("sh", "-c", "head -c 200000000 /dev/zero; exit")
    until(lambda: stalled(pid))
    at_least = written(pid)
    stopped = second.ask("stopped", op="stop", run_id="r1", grace_ms=60_000)
    assert stopped["stdout"] >= at_least
    first.hear("ended")
    assert len(first.stdout) == stopped["stdout"]


def test_a_run_that_vanishes_while_runs_are_told_is_left_out(box: Place) -> None:
    channel = box.channel()
    channel.run("true")
    channel.end()
    (box.state / "runs" / "r0").symlink_to("gone")
    (box.state / "runs" / "r2").mkdir()
    assert told_runs(channel) == [("r1", False, False)]


def test_stopping_a_run_that_has_ended_says_how_it_ended(box: Place) -> None:
    first, second = box.channel(), box.channel()
    first.run("sh", "-c", "exit 6")
    first.hear("ended")
    first.over()
    assert second.ask("stopped", op="stop", run_id="r1", grace_ms=0)["exit_code"] == 6


def test_stopping_a_run_that_has_ended_sends_nothing_to_what_it_left_behind(box: Place) -> None:
    """Also while its supervisor is there still, for a client that has not taken all."""
    first, second, pid = box.channel(), box.channel(), box.folder / "pid"
    first.run("sh", "-c", f"sleep 600 > /dev/null 2>&1 & echo $! > {pid}; head -c 2000000 /dev/zero")
    second.lock()
    assert second.ask("stopped", op="stop", run_id="r1", grace_ms=0)["exit_code"] == 0
    assert alive(int(pid.read_text()))
