"""A connection that tears, and clients that come back: the job, its output and its code are there."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from providers.agent import frames
from tests.agent.client import Channel, Place, until
from tests.agent.jobs import gate, stalled


def held(box: Place) -> tuple[Channel, Path]:
    """A job that has said `one` and says `two` when its gate is opened; and its channel, torn."""
    path = gate(box)
    channel = box.channel()
    channel.run("sh", "-c", f"echo one; echo err >&2; read x < {path}; echo two; exit 9")
    channel.until_output(b"one\n")
    channel.tear()
    return channel, path


def test_a_job_outlives_its_connection_and_its_code_is_told_to_who_asks_later(box: Place) -> None:
    first, path = held(box)
    path.write_text("go\n")
    assert first.process.wait(20) == 0
    later = box.channel()
    assert later.attach()["dropped"] == {"stdout": 0, "stderr": 0}
    assert later.end() == (9, None)
    assert (bytes(later.stdout), bytes(later.stderr)) == (b"one\ntwo\n", b"err\n")


def test_a_client_that_comes_back_goes_on_where_it_stopped(box: Place) -> None:
    first, path = held(box)
    second = box.channel()
    second.attach(stdout=4, stderr=4)
    path.write_text("go\n")
    assert second.end() == (9, None)
    assert [each for each in second.frames if each[0] == frames.STDOUT] == [(frames.STDOUT, 4, 4)]
    assert bytes(second.stdout[4:]) == b"two\n"
    assert first.process.wait(20) == 0


def test_a_client_may_follow_only_what_comes_from_now_on(box: Place) -> None:
    _, path = held(box)
    second = box.channel()
    second.attach(stdout=None, stderr=None)
    path.write_text("go\n")
    assert second.end() == (9, None)
    assert second.frames == [(frames.STDOUT, 4, 4)]


def test_a_client_that_says_detach_leaves_the_job_and_its_channel_ends(box: Place) -> None:
    path = gate(box)
    channel = box.channel()
    channel.run("sh", "-c", f"read x < {path}; exit 4")
    channel.say(op="detach")
    assert channel.receive() is None
    second = box.channel()
    second.attach()
    path.write_text("go\n")
    assert second.end() == (4, None)


def test_the_lock_stays_with_a_job_whose_client_is_gone_until_it_has_ended(box: Place) -> None:
    _, path = held(box)
    waiting = box.channel()
    assert waiting.ask("busy", op="lock", holder={}, wait_ms=0)["holder"]["host"] == "laptop"
    waiting.say(op="lock", holder={}, wait_ms=20_000)
    waiting.hear("waiting")
    path.write_text("go\n")
    assert waiting.hear("locked")["token"] == 2


def test_two_clients_follow_one_job_and_both_are_told_its_end(box: Place) -> None:
    path = gate(box)
    first, second, third = box.channel(), box.channel(), box.channel()
    first.run("sh", "-c", f"echo one; read x < {path}; echo two; exit 3")
    second.attach()
    third.attach(stdout=None)
    path.write_text("go\n")
    assert [each.end() for each in (first, second, third)] == [(3, None)] * 3
    assert (bytes(first.stdout), bytes(second.stdout)) == (b"one\ntwo\n", b"one\ntwo\n")
    assert bytes(third.stdout).endswith(b"two\n")


def test_a_follower_that_tears_takes_nobody_along(box: Place) -> None:
    first, second = box.channel(), box.channel()
    first.run("cat", stdin=True)
    second.attach()
    second.tear()
    assert second.process.wait(20) == 0
    first.write(frames.STDIN, b"still here\n")
    first.write(frames.STDIN_END)
    assert first.end() == (0, None)
    assert bytes(first.stdout) == b"still here\n"


def test_an_attached_channel_is_its_own_again_after_the_jobs_end(box: Place) -> None:
    first, second = box.channel(), box.channel()
    first.run("cat", stdin=True)
    second.attach()
    first.write(frames.STDIN_END)
    assert second.end() == (0, None)
    assert second.ask("runs", op="runs")["runs"][0]["exit_code"] == 0
    assert second.lock(wait_ms=0) if first.over() == 0 else None


def test_a_tear_is_not_the_end_of_input_which_goes_on_with_the_next_client(box: Place) -> None:
    first = box.channel()
    first.run("cat", stdin=True)
    first.write(frames.STDIN, b"one\n")
    first.until_output(b"one\n")
    first.tear()
    second = box.channel()
    assert second.attach(gives=True)["stdin"] == {"received": 4, "taken": 4, "ended": False}
    second.write(frames.STDIN, b"two\n")
    second.write(frames.STDIN_END)
    assert second.end() == (0, None)
    assert bytes(second.stdout) == b"one\ntwo\n"


def test_input_that_was_ended_before_the_tear_stays_ended(box: Place) -> None:
    path = gate(box)
    first = box.channel()
    first.run("sh", "-c", f"cat; echo over; read x < {path}", stdin=True)
    first.write(frames.STDIN_END)
    first.until_output(b"over\n")
    first.tear()
    second = box.channel()
    assert second.attach(gives=True)["stdin"]["ended"] is True
    path.write_text("go\n")
    assert second.end() == (0, None)


def test_input_of_a_client_that_only_follows_is_not_the_jobs(box: Place) -> None:
    first, second = box.channel(), box.channel()
    first.run("cat", stdin=True)
    second.attach(gives=False)
    second.write(frames.STDIN, b"not mine to say\n")
    second.say(op="resize", rows=1, cols=1)
    second.say(op="nothing")
    second.hear("failed")  # so the job has been spared the input by now
    first.write(frames.STDIN, b"mine\n")
    first.write(frames.STDIN_END)
    assert first.end() == (0, None)
    assert bytes(first.stdout) == b"mine\n"


def test_a_follower_may_signal_the_job(box: Place) -> None:
    first, second = box.channel(), box.channel()
    first.run("sleep", "600")
    second.attach()
    second.say(op="signal", name="INT")
    assert (first.end(), second.end()) == ((None, "INT"), (None, "INT"))


def test_a_client_that_does_not_read_slows_the_job_down_and_misses_nothing(box: Place) -> None:
    channel = box.channel()
    count = box.folder / "count"
    pid = channel.run("sh", "-c", f"head -c 200000000 /dev/zero; echo done > {count}")
    until(lambda: stalled(pid) or count.exists())
    assert not count.exists()
    assert sum(path.stat().st_size for path in box.run_folder.iterdir()) < 8_000_000
    total = 0
    while (frame := channel.receive()) is not None and frame[0] != frames.JSON:
        offset, data = frames.output(frame[1])
        assert offset == total
        total += len(data)
    assert total == 200_000_000


def test_a_job_without_a_client_is_not_slowed_down_and_the_oldest_of_its_log_is_dropped(box: Place) -> None:
    first = box.channel()
    first.run("sh", "-c", "cat; head -c 150000000 /dev/zero; echo the end", stdin=True)
    first.write(frames.STDIN_END)
    first.tear()
    first.process.wait(60)
    second = box.channel()
    dropped = second.attach()["dropped"]
    assert second.hear("ended")["stdout"] == 150_000_008
    assert 150_000_000 - 80 * 1_048_576 < dropped["stdout"] < 150_000_000 - 55 * 1_048_576
    assert second.frames[0][1] == dropped["stdout"]
    assert len(second.stdout) == 150_000_008
    assert second.stdout.endswith(b"the end\n")
    assert sum(path.stat().st_size for path in box.run_folder.iterdir()) < 80 * 1_048_576


def test_a_follower_whose_supervisor_is_killed_sees_its_channel_end(box: Place) -> None:
    first, second = box.channel(), box.channel()
    pid = first.run("sleep", "600")
    second.attach()
    first.process.kill()
    assert second.receive() is None
    assert second.process.wait(20) == 0
    os.kill(pid, signal.SIGKILL)


def test_a_run_that_the_box_does_not_know_is_unknown(box: Place) -> None:
    channel = box.channel()
    assert channel.ask("unknown", op="attach", run_id="r9", stdout=0, stderr=0, input=False) == {"is": "unknown"}
    assert channel.ask("unknown", op="stop", run_id="r9", grace_ms=0) == {"is": "unknown"}
    assert channel.ask("runs", op="runs") == {"is": "runs", "runs": []}
    assert not box.state.exists()


def test_the_lock_is_free_once_the_job_has_ended_though_its_client_has_not_taken_all(box: Place) -> None:
    first, second = box.channel(), box.channel()
    first.run("head", "-c", "2000000", "/dev/zero")
    assert second.lock() == 2
    assert first.end() == (0, None)
    assert len(first.stdout) == 2_000_000


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGINT, signal.SIGPIPE])
def test_no_signal_that_a_connection_may_leave_behind_ends_a_supervisor(box: Place, how: signal.Signals) -> None:
    channel = box.channel()
    channel.run("cat", stdin=True)
    channel.process.send_signal(how)
    channel.write(frames.STDIN_END)
    assert channel.end() == (0, None)


def test_a_client_on_a_dead_connection_holds_up_nobody_who_comes_instead(box: Place) -> None:
    first = box.channel()
    pid = first.run("head", "-c", "30000000", "/dev/zero")
    until(lambda: stalled(pid))
    second = box.channel()
    second.attach()
    assert second.end() == (0, None)
    assert bytes(second.stdout) == bytes(30_000_000)


@pytest.mark.parametrize("offset", ["all", -1, 1.5, [0]])
def test_an_offset_that_is_none_is_refused_and_hurts_no_job(box: Place, offset: object) -> None:
    first, second = box.channel(), box.channel()
    first.run("cat", stdin=True)
    refused = second.ask("failed", op="attach", run_id="r1", stdout=offset, stderr=0, input=False)
    assert refused["stage"] == "protocol"
    first.write(frames.STDIN_END)
    assert first.end() == (0, None)


def test_a_log_that_somebody_removes_costs_the_job_nothing(box: Place) -> None:
    path = gate(box)
    first = box.channel()
    first.run("sh", "-c", f"echo one; read x < {path}; head -c 200000000 /dev/zero; exit 3")
    first.until_output(b"one\n")
    subprocess.run(["rm", "-rf", box.state], check=True)
    path.write_text("go\n")
    total = 4
    while (frame := first.receive()) is not None and frame[0] != frames.JSON:
        total += len(frames.output(frame[1])[1])
    assert total == 200_000_004
    assert frame is not None
    assert b'"exit_code":3' in frame[1]
