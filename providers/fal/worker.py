"""Threads that do a call's I/O while its caller watches the clock. Kept, as starting one adds a third to a call."""

import queue
import threading
from collections.abc import Callable


class Worker:
    """One background thread, which does one job after another and does not hold up the end of the process."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="fal-call", daemon=True).start()

    def start(self, job: Callable[[], None]) -> None:
        """Does `job`, which must not raise, after those before it."""
        self._jobs.put(job)

    def end(self) -> None:
        """Ends the thread after the jobs it has."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            # A job knows the request and its key: it must not stay alive until the next.
            del job


class Workers:
    """As many workers as there are calls at a time."""

    def __init__(self) -> None:
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()

    def take(self) -> Worker:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return Worker()

    def give_back(self, worker: Worker) -> None:
        self._idle.put(worker)

    def end(self) -> None:
        """Ends the idle ones."""
        while not self._idle.empty():
            self.take().end()
