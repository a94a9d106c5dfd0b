"""The ops of other channels than the job's own: `attach`, `stop`.

While the supervisor lives it does the work: `attach` hands it this channel. Afterwards the run's folder says how it
ended, and its log is sent from there. A run without an end whose supervisor is dead is `lost`.
"""

from __future__ import annotations

import os

from providers.agent import jsontext, links, log
from providers.agent.folder import ended_of, pid_of, run_path, supervised
from providers.agent.session import Failed, Gone
from providers.agent.strays import stop_strays

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from typing import Any

    from providers.agent.session import Session


def attach(session: Session, message: dict[str, Any]) -> None:
    """Follows a run from these offsets of its streams (null: from now), and gives it input where `input` says so.

    Answers `unknown`; or `attached`, the log, and `ended` or `lost`. A client sends nothing more until `attached`.
    """
    path = run_path(session.state, message["run_id"])
    if session.pending() or session.reader.rest():
        raise Failed("protocol", "nothing may follow `attach` before it is answered")
    for offset in (message.get("stdout"), message.get("stderr")):
        if offset is not None and (not isinstance(offset, int) or offset < 0):
            raise ValueError(f"no offset {offset!r}")
    if not os.path.isdir(path):
        session.send({"is": "unknown"})
        return
    while supervised(path):
        link = links.reach(path)
        if link is None:
            supervised(path, wait=True)
            continue
        word = links.ask(link, message, (session.fd_in, session.fd_out))
        if word == links.DONE:
            for descriptor in (session.fd_in, session.fd_out):
                os.set_blocking(descriptor, True)
            return
        # Gone, or a supervisor that was killed: in the middle of a frame for all we know. The client comes again.
        raise Gone
    _replay(session, path, message)


def stop(session: Session, message: dict[str, Any]) -> None:
    """Ends a run: INT, after `grace_ms` TERM, after as much again KILL, each to its whole group.

    Answers `stopped` and how it ended, or `unknown` or `lost`.
    """
    path = run_path(session.state, message["run_id"])
    grace_s = float(message["grace_ms"]) / 1000
    if not os.path.isdir(path):
        session.send({"is": "unknown"})
        return
    ended = None
    link = links.reach(path) if supervised(path) else None
    if link is not None:
        ended = _decoded(links.ask(link, {"op": "stop", "grace_ms": message["grace_ms"]}))
    supervised(path, wait=ended is None)
    ended = ended or ended_of(path)
    if ended is None:
        stop_strays(message["run_id"], grace_s)
        session.send({"is": "lost"})
    else:
        session.send({**ended, "is": "stopped"})


def _decoded(text: bytes) -> dict[str, Any] | None:
    return jsontext.decode(text) if text else None


def _replay(session: Session, path: str, message: dict[str, Any]) -> None:
    """Sends what a supervisor that is gone has left."""
    segments, ended = log.stored(path), ended_of(path)
    totals = segments[-1].end if segments else [0, 0]
    if ended is not None:
        totals = [ended["stdout"], ended["stderr"]]
    offsets = [message.get("stdout"), message.get("stderr")]
    missing = log.dropped(segments, offsets, totals)
    session.send(
        {
            "is": "attached",
            "pid": pid_of(path),
            "dropped": {"stdout": missing[0], "stderr": missing[1]},
            "stdin": {"received": 0, "taken": 0, "ended": True},
        }
    )
    at = log.find(segments, [total if given is None else given for given, total in zip(offsets, totals)])
    for segment in segments:
        session.send_file(
            segment.descriptor, segment.place(max(at, segment.base)), segment.last - max(at, segment.base)
        )
        os.close(segment.descriptor)
    session.send(ended or {"is": "lost"})
