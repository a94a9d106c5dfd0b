"""Time for the flows: nothing sleeps, and every clock of the emulated world moves together."""

from collections.abc import Callable
from datetime import datetime, timedelta

from ledger.domain.ports import Boot

PATIENCE_S = 100_000.0


class VirtualClock:
    """The port `Clock` whose `sleep` moves wall, monotonic and boot time at once, and runs what was planned meanwhile.

    `on_advance` is told by how much, so that the emulator's clock follows. More than `PATIENCE_S` in all is a loop.
    """

    def __init__(self, started_at: datetime) -> None:
        self.slept: list[float] = []
        self.on_advance: list[Callable[[float], None]] = []
        self.boot_id = "boot-1"
        self._started_at = started_at
        self._elapsed_s = 0.0
        self._wall_ahead_s = 0.0
        self._uptime_ahead_s = 0.0
        self._planned: list[tuple[float, Callable[[], None]]] = []

    def now(self) -> datetime:
        return self._started_at + timedelta(seconds=self._elapsed_s + self._wall_ahead_s)

    def monotonic_s(self) -> float:
        return self._elapsed_s

    def boot(self) -> Boot:
        return Boot(boot_id=self.boot_id, uptime_ms=round((1000 + self._elapsed_s + self._uptime_ahead_s) * 1000))

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.wait(seconds)

    def wait(self, seconds: float) -> None:
        """Lets time pass that nobody sleeps away: an answer is on its way."""
        if self._elapsed_s + seconds > PATIENCE_S:
            raise AssertionError("the flow never ends")
        end_s = self._elapsed_s + seconds
        while self._planned and self._planned[0][0] <= end_s:
            at_s, action = self._planned.pop(0)
            self._advance(max(0.0, at_s - self._elapsed_s))
            action()
        self._advance(max(0.0, end_s - self._elapsed_s))

    def plan(self, at_s: float, action: Callable[[], None]) -> None:
        """Runs `action` inside the sleep that reaches `at_s` seconds after the start."""
        self._planned = sorted([*self._planned, (at_s, action)], key=lambda planned: planned[0])

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: wall clock and boot time run, the monotonic clock stands."""
        self._wall_ahead_s += seconds
        self._uptime_ahead_s += seconds
        self._tell(seconds)

    def set_wall(self, seconds: float) -> None:
        """Somebody sets the wall clock, forward or back."""
        self._wall_ahead_s += seconds

    def _advance(self, seconds: float) -> None:
        self._elapsed_s += seconds
        self._tell(seconds)

    def _tell(self, seconds: float) -> None:
        if seconds:
            for follow in self.on_advance:
                follow(seconds)
