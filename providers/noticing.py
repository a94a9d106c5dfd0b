"""Waiting in which a signal is noticed.

Python runs a signal's handler in the main thread, between two steps of it. A signal that comes in the instant before
that thread begins to wait does not end the wait: its handler runs only after it, which may be minutes.
"""

from threading import Event
from time import monotonic

NOTICE_S = 0.1
"""So late at most is a signal noticed."""


def wait(event: Event, timeout_s: float | None = None) -> bool:
    """As `event.wait`, in short pieces: says whether the event is set, after `timeout_s` seconds at the latest."""
    end_s = None if timeout_s is None else monotonic() + timeout_s
    while True:
        left_s = NOTICE_S if end_s is None else end_s - monotonic()
        if event.wait(min(NOTICE_S, max(0.0, left_s))):
            return True
        if left_s <= 0:
            return False
