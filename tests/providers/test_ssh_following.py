"""Following a job through connections that tear at the worst moment: nothing is lost unsaid, nothing counted twice."""

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ledger.domain.errors import SshFailure
from providers.agent import frames
from providers.agent.jsontext import encode
from providers.ssh import running as module
from providers.ssh.running import RunningJob
from tests.providers.site import WAIT_S, Seen, ended

TORN = SshFailure("torn.", stage="session")
ENDED = {"is": "ended", "exit_code": 0, "signal": None, "stdout": 14, "stderr": 0, "duration_ms": 0}
Frame = tuple[bytes, bytes]


def told(message: dict[str, Any]) -> Frame:
    return frames.JSON, encode(message)


def attached(dropped: int = 0) -> dict[str, Any]:
    return {
        "is": "attached",
        "pid": 1,
        "dropped": {"stdout": dropped, "stderr": 0},
        "stdin": {"received": 0, "taken": 0, "ended": False},
    }


def out(offset: int, data: bytes) -> Frame:
    return frames.STDOUT, offset.to_bytes(frames.OFFSET_BYTES, "big") + data


class Talk:
    """One connection: what the box says on it, after which it tears, and what it was sent.

    `answer` is that to `attach`. The sends of a number in `refused` fail. It says nothing before `may_speak`.
    """

    where = "box:22"

    def __init__(self, *says: Frame, answer: dict[str, Any] | None = None, refused: tuple[int, ...] = ()) -> None:
        self.sent: list[dict[str, Any]] = []
        self.is_closed = False
        self.may_speak = threading.Event()
        self.may_speak.set()
        self.may_write = threading.Event()
        self.may_write.set()
        self.writes = threading.Event()
        self.is_told = threading.Event()
        self._says = iter(says)
        self._answer = answer
        self._refused = refused

    def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        self.is_told.set()
        if len(self.sent) in self._refused or self.is_closed:
            raise TORN

    def write(self, data: bytes) -> None:
        """One frame of input."""
        assert data[:1] == frames.STDIN
        self.writes.set()
        assert self.may_write.wait(WAIT_S)

    def hear(self, *_expected: str, timeout_s: float) -> dict[str, Any]:
        assert self._answer is not None
        return self._answer

    def receive_view(self) -> tuple[bytes, memoryview]:
        assert self.may_speak.wait(WAIT_S)
        for kind, payload in self._says:
            return kind, memoryview(payload)
        raise TORN

    def close(self) -> None:
        self.is_closed = True


def following(seen: Seen, first: Any, *others: Any, stdin: int | None = None) -> RunningJob:
    again: Iterator[Any] = iter(others)
    return RunningJob(
        first,
        "run_a",
        again=lambda: next(again),
        on_stdout=seen.out,
        on_stderr=seen.err,
        told=seen.told.append,
        stdin=stdin,
    )


def test_what_the_box_dropped_of_a_run_is_known_before_anything_comes_and_counted_once() -> None:
    seen = Seen()
    job = following(seen, Talk(out(12, b"he"), told(ENDED)))
    job.begin(attached(12))
    assert (job.dropped, bytes(seen.stdout)) == ((12, 0), b"")
    assert job.wait(WAIT_S) == ended(0, 14)
    assert (job.dropped, bytes(seen.stdout)) == ((12, 0), b"he")


def test_what_was_dropped_while_there_was_no_connection_is_said_and_counted_once() -> None:
    """Also where that connection tears before what is left of it has come."""
    seen = Seen()
    job = following(
        seen, Talk(out(0, b"ab")), Talk(answer=attached(10)), Talk(out(12, b"he"), told(ENDED), answer=attached(10))
    )
    job.begin()
    assert job.wait(WAIT_S) == ended(0, 14)
    assert (job.dropped, bytes(seen.stdout)) == ((10, 0), b"abhe")
    lost = "10 bytes of its stdout came meanwhile and are lost: the box keeps the last of them"
    again = ["torn; trying to connect again", lost, "connected again"]
    assert seen.told == [*again, again[0], again[2]]


def test_what_is_missing_without_a_word_of_the_box_is_counted_too() -> None:
    seen = Seen()
    job = following(seen, Talk(out(5, b"fg"), out(12, b"he"), told(ENDED)))
    job.begin(attached(3))
    job.wait(WAIT_S)
    assert (job.dropped, bytes(seen.stdout)) == ((10, 0), b"fghe")


def test_signals_that_could_not_be_sent_wait_for_a_connection_that_takes_them() -> None:
    """The second connection takes one and tears under the other."""
    hold = threading.Event()
    second, third = Talk(answer=attached(), refused=(3,)), Talk(told(ENDED), answer=attached())
    again = iter([second, third])

    def connect() -> Any:
        assert hold.wait(WAIT_S)
        return next(again)

    seen, first = Seen(), Talk(refused=(1, 2))
    job = following(seen, first)
    job._again = connect
    job.begin()
    job.signal("INT")
    job.signal("TERM")
    hold.set()
    assert job.wait(WAIT_S) == ended(0, 14)
    asked = {"op": "attach", "run_id": "run_a", "stdout": 0, "stderr": 0, "input": False}
    int_, term = {"op": "signal", "name": "INT"}, {"op": "signal", "name": "TERM"}
    assert (second.sent, third.sent, second.is_closed) == ([asked, int_, term], [asked, term], True)


def test_a_signal_that_input_holds_up_is_sent_when_that_is_taken(
    monkeypatch: pytest.MonkeyPatch, pipe: Callable[[bytes], int]
) -> None:
    monkeypatch.setattr(module, "_SEND_S", 0.02)
    talk = Talk(told(ENDED))
    talk.may_speak.clear()
    talk.may_write.clear()
    job = following(Seen(), talk, stdin=pipe(b"input"))
    job.begin()
    assert talk.writes.wait(WAIT_S)
    job.signal("INT")
    assert talk.sent == []
    talk.may_write.set()
    assert talk.is_told.wait(WAIT_S)
    assert talk.sent == [{"op": "signal", "name": "INT"}]
    talk.may_speak.set()
    assert job.wait(WAIT_S) == ended(0, 14)


@pytest.fixture
def pipe() -> Iterator[Callable[[bytes], int]]:
    """A descriptor on which these bytes come, and no end."""
    ends: list[int] = []

    def make(data: bytes) -> int:
        reading, writing = os.pipe()
        ends.extend((reading, writing))
        os.write(writing, data)
        return reading

    yield make
    for end in ends:
        os.close(end)
