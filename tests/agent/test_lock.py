"""One workspace, one client at a time, and a token that tells one hold from the next."""

import signal

import pytest

from tests.agent.client import Place, alive, until

FIRST = {"run": "r1", "host": "laptop", "pid": 7, "purpose": "run"}
SECOND = {"run": None, "host": "desktop", "pid": 8, "purpose": "sync"}


def test_a_second_client_waits_is_told_for_whom_and_gets_the_lock_when_it_is_free(box: Place) -> None:
    first, second = box.channel(), box.channel()
    assert first.ask("locked", op="lock", holder=FIRST, wait_ms=0)["token"] == 1
    second.say(op="lock", holder=SECOND, wait_ms=20_000)
    assert second.hear("waiting") == {"is": "waiting", "holder": FIRST}
    first.over()
    assert second.hear("locked") == {"is": "locked", "token": 2}
    assert second.told == [{"is": "hello", "version": 1}]


def test_a_client_that_has_waited_long_enough_is_told_who_holds_the_lock(box: Place) -> None:
    first, second = box.channel(), box.channel()
    first.ask("locked", op="lock", holder=FIRST, wait_ms=0)
    assert second.ask("busy", op="lock", holder=SECOND, wait_ms=60) == {"is": "busy", "holder": FIRST}
    assert [each["is"] for each in second.told] == ["hello", "waiting"]
    first.over()
    assert second.ask("locked", op="lock", holder=SECOND, wait_ms=20_000)["token"] == 2


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_process_that_dies_is_free(box: Place, how: signal.Signals) -> None:
    first, second = box.channel(), box.channel()
    first.lock()
    first.process.send_signal(how)
    assert second.lock() == 2


def test_a_client_that_gives_up_waiting_takes_nothing(box: Place) -> None:
    first, second = box.channel(), box.channel()
    first.lock()
    second.say(op="lock", holder=SECOND, wait_ms=20_000)
    second.hear("waiting")
    second.over()
    assert not alive(second.process.pid)
    first.over()
    assert box.channel().lock() == 2


def test_a_lock_that_is_held_is_held_once(box: Place) -> None:
    channel = box.channel()
    assert [channel.lock(), channel.lock()] == [1, 1]


def test_the_token_grows_by_one_with_each_hold(box: Place) -> None:
    tokens = []
    for _ in range(12):
        channel = box.channel()
        tokens.append(channel.lock())
        channel.over()
    assert tokens == list(range(1, 13))


def test_a_token_that_cannot_be_read_is_refused_and_not_begun_again(box: Place) -> None:
    channel = box.channel()
    channel.lock()
    channel.over()
    (box.state / "token").write_text("many")
    second = box.channel()
    for _ in range(2):  # nor does it keep the second question from the lock
        failed = second.ask("failed", op="lock", holder=SECOND, wait_ms=0)
        assert (failed["stage"], failed["path"]) == ("io", str(box.state / "token"))


def test_a_client_that_dies_before_its_job_frees_the_lock_and_one_whose_job_runs_does_not(box: Place) -> None:
    first = box.channel()
    pid = first.run("sleep", "600")
    first.tear()
    second = box.channel()
    assert second.ask("busy", op="lock", holder=SECOND, wait_ms=50)["holder"] == FIRST
    second.ask("stopped", op="stop", run_id="r1", grace_ms=1000)
    assert second.lock() == 2
    until(lambda: not alive(pid))


@pytest.mark.parametrize("holder", [None, "me", 3])
def test_a_holder_that_is_no_object_is_refused(box: Place, holder: object) -> None:
    assert box.channel().ask("failed", op="lock", holder=holder, wait_ms=0)["stage"] == "protocol"
