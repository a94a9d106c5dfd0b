"""Waiting where signal handlers raise, as ours do: the signal is noticed soon, and nothing is left locked.

Python runs a signal's handler in the main thread, between two steps of it. A signal that comes in the instant before
that thread begins to wait does not end the wait: its handler runs only after it, which may be minutes. And
`threading.Event` has a lock of its own that it takes with a step of Python: a handler that raises right behind that
step leaves it taken for ever, and whoever sets the event or waits for it next never returns.
"""

import contextlib
import threading
from time import monotonic

NOTICE_S = 0.1
"""So late at most is a signal noticed."""


class SafeEvent:
    """As `threading.Event`, whatever is raised in the middle of it. It is waited for in short pieces.

    What is set is a plain flag. The lock beside it is only a bell that cuts a piece short; one that is missed costs the
    rest of the piece.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._bell = threading.Lock()
        self._bell.acquire()  # held while it is silent

    def is_set(self) -> bool:
        """Whether it has come."""
        return self._is_set

    def set(self) -> None:
        """Says that it has come; from any thread."""
        self._is_set = True
        with contextlib.suppress(RuntimeError):  # it rings already
            self._bell.release()

    def clear(self) -> None:
        """Says that it has yet to come."""
        self._is_set = False
        self._bell.acquire(blocking=False)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Says whether it has come, after `timeout_s` seconds at the latest; None waits for as long as it takes."""
        end_s = None if timeout_s is None else monotonic() + timeout_s
        while not self._is_set:
            left_s = NOTICE_S if end_s is None else end_s - monotonic()
            if left_s <= 0:
                return self._is_set
            self._bell.acquire(timeout=min(NOTICE_S, left_s))
        return True
