"""Threads of which one runs at a time: whoever runs decides itself where it gives way."""

import threading
from collections.abc import Callable
from datetime import datetime

from tests.world.death import Crash


class Turn(threading.Thread):
    """One program's thread. It runs only between `go_on` and the next `give_way`, or its end.

    `is_over` once it ended; `is_doomed` once it must: it then meets `Crash` wherever it waits.
    """

    def __init__(self, label: str, act: Callable[[], None]) -> None:
        super().__init__(name=label, daemon=True)
        self.label = label
        self.is_doomed = False
        self.is_over = False
        self.crossings = 0
        self.wakes_at_ms: int | None = None
        self.called_at: datetime | None = None
        self._act = act
        self._mine = threading.Semaphore(0)
        self._back = threading.Semaphore(0)

    def run(self) -> None:
        self._mine.acquire()
        try:
            self._act()
        finally:
            self.is_over = True
            self._back.release()

    def go_on(self) -> None:
        """Lets it run until it gives way or ends. Called by the scheduler alone."""
        if not self.is_alive():
            self.start()
        self._mine.release()
        self._back.acquire()

    def give_way(self) -> None:
        """Stands still until it is this thread's turn again. Raises `Crash` where it must end."""
        self._back.release()
        self._mine.acquire()
        if self.is_doomed:
            raise Crash
