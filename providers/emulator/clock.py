"""The emulator's own clock: real time that can be moved forward, so that nobody has to wait."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta


class EmulatorClock:
    """Starts at `started_at` and runs with `monotonic_s`; `advance` adds to it. For one event loop's use."""

    def __init__(self, started_at: datetime, monotonic_s: Callable[[], float]) -> None:
        self._started_at = started_at
        self._monotonic_s = monotonic_s
        self._zero_s = monotonic_s()
        self._moved = asyncio.Event()

    def now(self) -> datetime:
        """The emulated wall-clock time."""
        return self._started_at + timedelta(seconds=self._monotonic_s() - self._zero_s)

    def advance(self, seconds: float) -> None:
        """Moves the clock forward and wakes who waits for it. Raises `ValueError` for a move back."""
        if seconds < 0:
            raise ValueError("the clock only moves forward")
        self._zero_s -= seconds
        self.wake()

    def wake(self) -> None:
        """Wakes who waits, because what they wait for may have changed."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def wait_until(self, moment: datetime) -> None:
        """Waits until the clock shows `moment`."""
        while (left_s := (moment - self.now()).total_seconds()) > 0:
            await self.wait_for_move(left_s)

    async def wait_until_after(self, seconds: float) -> None:
        """Waits until the clock shows this much more than now."""
        if seconds > 0:
            await self.wait_until(self.now() + timedelta(seconds=seconds))

    async def wait_for_move(self, timeout_s: float) -> None:
        """Waits until the clock is moved or `wake` is called, or for `timeout_s` of real time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._moved.wait()
        except TimeoutError:
            return
