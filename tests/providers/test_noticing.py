"""A wait of the main thread: a signal that comes just as it begins is noticed at once, not at its end."""

import os
import signal
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from time import monotonic

import pytest

from cli.clock import SystemClock
from providers.noticing import wait

LONG_S = 20.0
ROUNDS = 20


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
    never = threading.Event()
    began_s = monotonic()
    for _ in range(ROUNDS):
        with pytest.raises(InterruptedError):
            _send_and(signalled, lambda: wait(never, LONG_S))
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
    came, never = threading.Event(), threading.Event()
    came.set()
    assert (wait(came), wait(came, 0.0), wait(never, 0.0), wait(never, 0.01)) == (True, True, False, False)
