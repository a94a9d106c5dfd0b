"""What a client's calls travel on, and the clock that bounds them: real sockets, or a world without any in tests."""

import time
from collections.abc import Callable
from typing import Protocol

import httpx

from ledger.noticing import SafeEvent
from providers.fal.connections import open_connections
from providers.fal.endpoint import ApiEndpoint
from providers.fal.worker import Workers


class Network(Protocol):
    """How connections are opened, and how a job that uses them is kept inside its time."""

    def monotonic_s(self) -> float:
        """The clock by which calls are bounded; it never goes back."""
        ...

    def connect(self, endpoint: ApiEndpoint, *, keep: int) -> httpx.BaseTransport:
        """Connections to `endpoint`, of which up to `keep` stay open while idle. Raises `EnvironmentUnusableError`."""
        ...

    def carry_out(self, job: Callable[[], None], *, deadline_s: float, give_up: Callable[[], float]) -> bool:
        """Does `job`, which must not raise, and says whether it was done at `deadline_s`.

        Where it is not, `give_up` is called and says how many seconds more the job may have to end.
        """
        ...

    def close(self) -> None:
        """Lets go of what is kept between calls; a later call makes it anew."""
        ...


class Sockets:
    """The real network. A job runs in a thread of its own: a name lookup, say, cannot be interrupted."""

    def __init__(self) -> None:
        self._workers = Workers()

    def monotonic_s(self) -> float:
        return time.monotonic()

    def connect(self, endpoint: ApiEndpoint, *, keep: int) -> httpx.BaseTransport:
        return open_connections(endpoint, keep=keep)

    def carry_out(self, job: Callable[[], None], *, deadline_s: float, give_up: Callable[[], float]) -> bool:
        done = SafeEvent()

        def work() -> None:
            job()
            done.set()

        worker = self._workers.take()
        worker.start(work)
        try:
            done.wait(deadline_s - time.monotonic())
        finally:
            in_time = done.is_set()
            if in_time:
                self._workers.give_back(worker)
            else:
                done.wait(give_up())
                worker.end()
        return in_time

    def close(self) -> None:
        self._workers.end()
