"""A wait of the main thread: a signal that comes just as it begins is noticed at once, not at its end."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from time import monotonic
from types import FrameType

import pytest

from cli.clock import SystemClock
from ledger.noticing import SafeEvent

LONG_S = 20.0
ROUNDS = 20
STEPS_AT_LEAST = 10


@pytest.fixture
def signalled() -> Iterator[SimpleQueue[str]]:
    """Puts into this process a SIGTERM for each word that it is sent, from another thread; its handler raises."""
    words: SimpleQueue[str] = SimpleQueue()

    def work() -> None:
        while words.get() == "now":
            os.kill(os.getpid(), signal.SIGTERM)

    def handle(number: int, _frame: object) -> None:
        raise InterruptedError(number)

    before = signal.signal(signal.SIGTERM, handle)
    thread = threading.Thread(target=work)
    thread.start()
    yield words
    words.put("end")
    thread.join()
    signal.signal(signal.SIGTERM, before)


def test_a_signal_just_before_a_wait_ends_it(signalled: SimpleQueue[str]) -> None:
    never = SafeEvent()
    began_s = monotonic()
    for _ in range(ROUNDS):
        with pytest.raises(InterruptedError):
            _send_and(signalled, lambda: never.wait(LONG_S))
    assert monotonic() - began_s < LONG_S


def test_a_signal_just_before_a_sleep_ends_it(signalled: SimpleQueue[str]) -> None:
    clock = SystemClock("test")
    began_s = monotonic()
    for _ in range(ROUNDS):
        with pytest.raises(InterruptedError):
            _send_and(signalled, lambda: clock.sleep(LONG_S))
    assert monotonic() - began_s < LONG_S


def _send_and(signalled: "SimpleQueue[str]", then: object) -> None:
    signalled.put("now")
    assert callable(then)
    then()


def test_it_says_whether_what_it_waits_for_has_come() -> None:
    came, never = SafeEvent(), threading.Event()
    came.set()
    assert (came.wait(), came.wait(0.0), never.wait(0.0), never.wait(0.01)) == (True, True, False, False)


def test_an_event_that_is_cleared_has_yet_to_come_again() -> None:
    event = SafeEvent()
    event.set()
    event.clear()
    before = event.wait(0.01)
    event.set()
    assert (before, event.wait(LONG_S)) == (False, True)


class Raised(BaseException):
    """What the handler of a signal raises."""


@pytest.mark.parametrize("use", [lambda event: event.wait(0.001), lambda event: event.set()], ids=["wait", "set"])
def test_what_is_raised_at_any_step_of_an_event_leaves_it_working(use: Callable[[SafeEvent], object]) -> None:
    """`threading.Event` fails this: it is left locked, and the thread that sets it never returns."""
    step = 0
    while True:
        step += 1
        event = SafeEvent()
        if not _raised_at(step, lambda event=event: use(event)):  # type: ignore[misc]
            break
        setter = threading.Thread(target=event.set, daemon=True)
        setter.start()
        assert event.wait(LONG_S), step
        setter.join(LONG_S)
        assert not setter.is_alive(), step
    assert step > STEPS_AT_LEAST


def _raised_at(step: int, what: Callable[[], object]) -> bool:
    """Whether it had so many steps: it is broken off before the last of them, as by a signal's handler."""
    left = step

    def trace(frame: FrameType, event: str, _argument: object) -> object:
        nonlocal left
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                raise Raised
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        what()
    except Raised:
        return True
    finally:
        sys.settrace(None)
    return False
