"""The job's leader: its signals, its end as it was, and how it is made to stop.

It stays unreaped until the supervisor is done, so that its group's number cannot become another's meanwhile. A stop
goes on after its end, for what is left of its group.
"""

from __future__ import annotations

import os
from time import monotonic

from providers.agent.spawn import signal_name, signal_number

_STOPPING = ("INT", "TERM", "KILL")
_LONGEST_GRACE_S = 86_400.0
_LOOK_AGAIN_S = 0.05


class Leader:
    """The process `pid`, leader of its own group.

    `stopped_s` is when a stop had done all that it can: the group was gone, or KILL was sent.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.exit_code: int | None = None
        self.signal: str | None = None
        self.ended_s: float | None = None
        self.stopped_s: float | None = None
        self._began_s = monotonic()
        self._stopping = self._reaped = False
        self._stops: list[tuple[float, str]] = []
        self._look_again_s = 0.0

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
        """Signals the whole group, as far as it lets itself be, until it is reaped. Raises ValueError for no signal."""
        number = signal_number(name)
        if self._reaped:
            return
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return

    def stop(self, grace_s: float) -> None:
        """Begins to stop the group: INT, after the grace TERM, after it again KILL; also what outlives its leader."""
        if not self._stopping and not self._reaped:
            self._stopping = True
            now_s, grace_s = monotonic(), max(0.0, min(grace_s, _LONGEST_GRACE_S))
            self._stops = [(now_s + number * grace_s, name) for number, name in enumerate(_STOPPING)]
            self.keep_time()

    @property
    def is_stopping(self) -> bool:
        """Whether a stop has signals left that somebody of the group may have to be sent."""
        return bool(self._stops)

    def keep_time(self) -> None:
        """Sends the signal that is due, or finds that nobody is left to be sent one."""
        while self._stops and self._stops[0][0] <= monotonic():
            self.send(self._stops.pop(0)[1])
            self.stopped_s = None if self._stops else monotonic()
        if self._stops and self.ended_s is not None and monotonic() >= self._look_again_s:
            self._look_again_s = monotonic() + _LOOK_AGAIN_S
            if not _others(self.pid):
                self._stops, self.stopped_s = [], monotonic()

    def next_s(self) -> float | None:
        """When the next signal is due, or the next look at the group, if one is."""
        if not self._stops:
            return None
        return self._stops[0][0] if self.ended_s is None else min(self._stops[0][0], self._look_again_s)

    def reap(self) -> None:
        """Lets the system forget it. No signal goes to its group any more."""
        os.waitpid(self.pid, 0)
        self._reaped = True


def _others(leader: int) -> list[int]:
    """The processes of the leader's group that are there beside it."""
    found = [int(name) for name in os.listdir("/proc") if name.isdigit() and _group_of(name) == leader]
    return [pid for pid in found if pid != leader]


def _group_of(pid: str) -> int | None:
    """The group of a process; None where it has ended, also if nobody has taken note of that."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            state, _, group = file.readall().rpartition(b")")[2].split()[:3]
    except (OSError, ValueError):
        return None
    return None if state in b"ZX" else int(group)
