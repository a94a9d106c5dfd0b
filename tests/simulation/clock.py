"""Virtual time for several programs: whoever waits is laid aside until its moment has come."""

from collections.abc import Callable
from datetime import datetime

from tests.flows.clock import VirtualClock


class SharedClock(VirtualClock):
    """The clock of all programs of a run, in whole milliseconds so that no rounding adds up.

    `lay_aside` is called with the moment until which the running program waits; it gives False where there is none,
    and time passes at once.
    """

    def __init__(self, started_at: datetime, lay_aside: Callable[[int], bool]) -> None:
        super().__init__(started_at)
        self.elapsed_ms = 0
        self.wall_off_s = 0
        self._lay_aside = lay_aside

    def sleep(self, seconds: float) -> None:
        self.wait(seconds)

    def wait(self, seconds: float) -> None:
        until_ms = self.elapsed_ms + -int(-seconds * 1000 // 1)
        if not self._lay_aside(until_ms):
            self.reach(until_ms)

    def reach(self, moment_ms: int) -> None:
        """Moves all clocks forward to that moment of the monotonic one."""
        passed_ms = max(0, moment_ms - self.elapsed_ms)
        self.elapsed_ms += passed_ms
        self._elapsed_s = self.elapsed_ms / 1000
        self._tell(passed_ms / 1000)

    def put_wall(self, seconds: int) -> None:
        """Sets the wall clock so far off the true time."""
        self.set_wall(seconds - self.wall_off_s)
        self.wall_off_s = seconds

    def reboot(self) -> None:
        """Another boot: its clock through sleep begins anew."""
        self.boot_id = f"boot-{int(self.boot_id.removeprefix('boot-')) + 1}"
        self._uptime_ahead_s = -self._elapsed_s
