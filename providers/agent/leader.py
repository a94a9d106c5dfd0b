"""The job's leader: its signals, its end as it was, and how it is made to stop.

It stays unreaped until the supervisor is done, so that its group's number cannot become another's meanwhile.
"""

from __future__ import annotations

import os
from time import monotonic

from providers.agent.spawn import signal_name, signal_number

_STOPPING = ("INT", "TERM", "KILL")
_LONGEST_GRACE_S = 86_400.0


class Leader:
    """The process `pid`, leader of its own group."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.exit_code: int | None = None
        self.signal: str | None = None
        self.ended_s: float | None = None
        self._began_s = monotonic()
        self._stopping = False
        self._stops: list[tuple[float, str]] = []

    @property
    def duration_ms(self) -> int:
        """How long it has run, or ran."""
        return int(((self.ended_s or monotonic()) - self._began_s) * 1000)

    def look(self) -> bool:
        """Whether it has ended; how is known then."""
        if self.ended_s is None:
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return False
            self.ended_s = monotonic()
            if found.si_code == os.CLD_EXITED:
                self.exit_code = found.si_status
            else:
                self.signal = signal_name(found.si_status)
        return True

    def send(self, name: str) -> None:
        """Signals the whole group, as far as it lets itself be. Raises ValueError for no signal."""
        try:
            os.killpg(self.pid, signal_number(name))
        except (ProcessLookupError, PermissionError):
            return

    def stop(self, grace_s: float) -> None:
        """Begins to stop the group: INT, after the grace TERM, after it again KILL."""
        if not self._stopping:
            self._stopping = True
            now_s, grace_s = monotonic(), max(0.0, min(grace_s, _LONGEST_GRACE_S))
            self._stops = [(now_s + number * grace_s, name) for number, name in enumerate(_STOPPING)]
            self.keep_time()

    def keep_time(self) -> None:
        """Sends the signal that is due."""
        while self._stops and self._stops[0][0] <= monotonic() and self.ended_s is None:
            self.send(self._stops.pop(0)[1])

    def next_s(self) -> float | None:
        """When the next signal is due, if one is."""
        return self._stops[0][0] if self._stops and self.ended_s is None else None

    def reap(self) -> None:
        """Lets the system forget it. What is left of a group that was to stop is killed first."""
        if self._stopping:
            self.send("KILL")
        os.waitpid(self.pid, 0)
