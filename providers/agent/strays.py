"""What is left of a job whose supervisor was killed: its processes, told by the run id in their environment."""

from __future__ import annotations

import os
from time import monotonic, sleep

from providers.agent.spawn import signal_number

_LOOK_AGAIN_S = 0.05


def stop_strays(run_id: str, grace_s: float) -> None:
    """Stops them as a supervisor would: INT, after the grace TERM, after as much again KILL."""
    for name in ("INT", "TERM", "KILL"):
        end_s = monotonic() + grace_s
        for pid in strays(run_id):
            _signal(pid, name)
        while strays(run_id) and monotonic() < end_s:
            sleep(_LOOK_AGAIN_S)


def strays(run_id: str) -> list[int]:
    """The processes of a run that are there, as far as we may look at them."""
    mark = b"RENTROLL_RUN_ID=" + os.fsencode(run_id)
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and mark in _environment(name)]


def _environment(pid: str) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            return file.readall().split(b"\0")
    except OSError:  # another's, or gone
        return []


def _signal(pid: int, name: str) -> None:
    try:
        os.kill(pid, signal_number(name))
    except (ProcessLookupError, PermissionError):
        return
