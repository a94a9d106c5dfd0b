"""The op `runs`: every run that the box still knows of, oldest first."""

from __future__ import annotations

import os

from providers.agent.folder import ended_of, pid_of, supervised

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from typing import Any

    from providers.agent.session import Session


def runs(session: Session, _message: dict[str, Any]) -> None:
    """Answers `runs`: of each its `run_id`, `pid`, `started_at`, whether it is `running` or `lost`, else how it ended.

    `started_at` is in seconds by the box's clock; how it ended is what the frame `ended` says.
    """
    folder = os.path.join(session.state, "runs")
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except FileNotFoundError:
        names = []
    names.sort(key=lambda name: os.stat(os.path.join(folder, name)).st_mtime_ns)
    session.send({"is": "runs", "runs": [_told(folder, name) for name in names]})


def _told(folder: str, name: str) -> dict[str, Any]:
    path = os.path.join(folder, name)
    lives = supervised(path)  # asked first: a run that ends meanwhile is then both, and `ended` holds
    ended = ended_of(path)
    told = {
        "run_id": name,
        "pid": pid_of(path),
        "started_at": os.stat(os.path.join(path, "pid")).st_mtime,
        "running": lives and ended is None,
        "lost": not lives and ended is None,
    }
    return {**(ended or {}), "is": "run", **told}
