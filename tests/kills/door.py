"""The door of the emulated fal: a request that has arrived waits there until the test lets it in."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Semaphore
from typing import Self

from providers.emulator.messages import Call, Request
from providers.emulator.requests import route
from tests.cli.running import LIMIT_S


class Held:
    """A place at the door for the calls of one kind, after `skip` that pass: nothing was done about those in it."""

    def __init__(self, call: Call, skip: int) -> None:
        self._call = call
        self._skip = skip
        self._came = Semaphore(0)
        self._opened = Event()

    def arrived(self, count: int = 1) -> None:
        """Waits until so many more requests are held."""
        for _ in range(count):
            assert self._came.acquire(timeout=LIMIT_S), f"no {self._call} came in time"

    def open(self) -> None:
        """Lets in what is held and all that comes later."""
        self._opened.set()

    def pass_by(self, call: Call) -> None:
        """Keeps a request waiting, if it is one of ours."""
        if call != self._call or self._opened.is_set():
            return
        if self._skip:
            self._skip -= 1
            return
        self._came.release()
        assert self._opened.wait(LIMIT_S), f"a held {call} was never let in"


class Door:
    """The emulator's observer."""

    def __init__(self) -> None:
        self._places: list[Held] = []

    def __call__(self, request: Request) -> None:
        for place in [*self._places]:
            place.pass_by(route(request).call)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()

    def open(self) -> None:
        """Lets everything in."""
        for place in self._places:
            place.open()

    @contextmanager
    def held(self, call: Call, *, skip: int = 0) -> Iterator[Held]:
        """Holds the requests of one kind while the block lasts, or until `open`."""
        place = Held(call, skip)
        self._places.append(place)
        try:
            yield place
        finally:
            place.open()
