"""The ops of a sync that change the workspace: `begin`, `put` and `commit`. All need the workspace's lock."""

from __future__ import annotations

import os

from providers.agent import jsontext
from providers.agent.change import delete, make_room, make_way, unlike
from providers.agent.frames import DATA, ENTRY, JSON, MANIFEST, PATHS
from providers.agent.incoming import Incoming
from providers.agent.manifest import decode, digest, is_plain
from providers.agent.memory import Memory
from providers.agent.session import Failed
from providers.agent.tree import inside, read_blob, read_paths, send_blob, standing_there

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from typing import Any

    from providers.agent.session import Session


def begin(session: Session, _message: dict[str, Any]) -> None:
    """Reads what is about to be put and what goes; announces, deletes, makes the folders. Answers `begun`.

    A path in the place of which something else comes, and which could not go, is among those `left`: then nothing is
    made.
    """
    entries = decode(read_blob(session, MANIFEST))
    deletes = read_paths(session)
    session.fenced()
    workspace, memory = os.fsencode(session.workspace), Memory(session.take_state())
    make_room(workspace, session.state, memory)
    known = memory.paths()
    session.intact = None
    memory.announce(entries, inside(session, [entry.path for entry in entries if entry.path not in known]))
    deleted, left = delete(workspace, deletes)
    if not {entry.path for entry in entries}.intersection(left):
        make_way(workspace, entries)
    session.send({"is": "begun", "deleted": deleted, "left": [os.fsdecode(path) for path in left]})


def put(session: Session, _message: dict[str, Any]) -> None:
    """Takes files and links until `put-end`, and answers `put`.

    After a failure the rest is read and thrown away, so that the client, which only writes meanwhile, comes to hear it.
    """
    session.fenced()
    failure = None
    with Incoming(os.fsencode(session.workspace)) as incoming:
        while True:
            kind, payload = session.read()
            try:
                if kind == JSON:
                    break
                if failure is None:
                    _take(incoming, kind, payload)
            except Failed as first:
                failure = first
        if failure is None:
            incoming.finish()
    if failure is not None:
        raise failure
    if jsontext.decode(payload).get("op") != "put-end":
        raise Failed("protocol", "the end of what is put was due")
    session.send({"is": "put"})


def commit(session: Session, _message: dict[str, Any]) -> None:
    """Reads a whole manifest. Answers `committed` where just that is there, else `differs` and sends the paths."""
    manifest = read_blob(session, MANIFEST)
    session.fenced()
    if not _stands(session, manifest) and (differs := unlike(os.fsencode(session.workspace), manifest)):
        session.send({"is": "differs"})
        send_blob(session, PATHS, b"".join([path + b"\0" for path in differs]))
        return
    Memory(session.take_state()).settle(manifest)
    session.send({"is": "committed", "digest": digest(manifest)})


def _stands(session: Session, manifest: bytes) -> bool:
    """Whether just that is there, as a sync leaves it: without reading the manifest one entry at a time."""
    return is_plain(manifest) and standing_there(session, manifest) == manifest


def _take(incoming: Incoming, kind: bytes, payload: bytes) -> None:
    if kind == DATA:
        incoming.data(payload)
    elif kind == ENTRY:
        incoming.begin(payload)
    else:
        raise Failed("protocol", f"a frame {kind!r} came among files")
