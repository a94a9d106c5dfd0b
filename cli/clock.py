"""The real clocks of this machine."""

import time
from datetime import UTC, datetime
from pathlib import Path

from ledger.domain.ports import Boot

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PIECE_S = 0.1


class SystemClock:
    """Wall clock, monotonic clock and the clock that runs through sleep."""

    def __init__(self, process_token: str) -> None:
        self._process_token = process_token

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - the one clock of the program

    def monotonic_s(self) -> float:
        return time.monotonic()

    def boot(self) -> Boot:
        """This boot and its age. Where the system names no boot, only this process knows that it is the same one."""
        boottime = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        uptime_ms = time.clock_gettime_ns(boottime) // 1_000_000
        try:
            boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            boot_id = f"process {self._process_token}"
        return Boot(boot_id=boot_id, uptime_ms=uptime_ms)

    def sleep(self, seconds: float) -> None:
        """In short pieces: a signal that comes just before one is noticed only after it (`ledger.noticing`)."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _PIECE_S))
