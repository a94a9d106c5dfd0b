"""Finding and killing every process of an emulated box, also those that left their session."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

_LIMIT_S = 10.0
_POLL_S = 0.005
_PROC = Path("/proc")


async def kill_all(home: Path, leaders: Callable[[], Iterable[int]]) -> None:
    """Kills the box's processes until none is left. Raises `TimeoutError` after ten seconds.

    `leaders` gives the session leaders that were started for the box and are not reaped yet.
    """
    async with asyncio.timeout(_LIMIT_S):
        while found := await asyncio.to_thread(_find, home, set(leaders())):
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(_POLL_S)


def _find(home: Path, leaders: set[int]) -> set[int]:
    # A job started with setsid or nohup has to outlive its connection, but not its box: it is known by its
    # HOME, which no process outside the box has. Without /proc only the leaders themselves are known.
    if not (_PROC / "self/environ").exists():
        return leaders
    mark = b"HOME=" + bytes(home)
    return {int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit() and _belongs(entry, mark, leaders)}


def _belongs(entry: Path, mark: bytes, leaders: set[int]) -> bool:
    try:
        # The command's name in `stat` may hold anything; the fields after its last bracket may not.
        state, _, _, session, *_ = (entry / "stat").read_bytes().rpartition(b")")[2].split()
        if state == b"Z":
            return False
        return int(session) in leaders or mark in (entry / "environ").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return False
