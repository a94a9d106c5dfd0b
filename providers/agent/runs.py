"""The op `runs`: every run that the box still knows of, oldest first."""

from __future__ import annotations

import os

from providers.agent.folder import ended_of, pid_of, supervised
from providers.agent.strays import strays

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from typing import Any

    from providers.agent.session import Session


def runs(session: Session, _message: dict[str, Any]) -> None:
    """Answers `runs`: of each its `run_id`, `pid`, `started_at`, whether it is `running` or `lost`, else how it ended.

    `started_at` is in seconds by the box's clock; how it ended is what the frame `ended` says.
    A run whose supervisor was killed is `running` while any of its processes is there, and `lost` after.
    """
    folder = os.path.join(session.state, "runs")
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except FileNotFoundError:
        names = []
    found = []
    for name in names:
        try:
            path = os.path.join(folder, name)
            found.append((os.stat(path).st_mtime_ns, _told(path, name)))
        except FileNotFoundError:  # one of the oldest, removed just now
            continue
    found.sort(key=lambda each: each[0])
    session.send({"is": "runs", "runs": [told for _, told in found]})


def _told(path: str, name: str) -> dict[str, Any]:
    lives = supervised(path)  # asked first: a run that ends meanwhile is then both, and `ended` holds
    ended = ended_of(path)
    running = ended is None and (lives or bool(strays(name)))
    told = {
        "run_id": name,
        "pid": pid_of(path),
        "started_at": os.stat(os.path.join(path, "pid")).st_mtime,
        "running": running,
        "lost": ended is None and not running,
    }
    return {**(ended or {}), "is": "run", **told}
