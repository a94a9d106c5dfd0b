"""What stands in the workspace: the ops `survey`, `listing` and `look`, which change nothing in it.

A manifest or a list of paths may be longer than a frame: it travels in several, the last of them empty.
"""

from __future__ import annotations

import os

from providers.agent.frames import MANIFEST, PATHS
from providers.agent.manifest import Entry, digest, encode, entry_at, paths_of, standing
from providers.agent.memory import Memory
from providers.agent.placed import Folders, failed
from providers.agent.session import Failed

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from providers.agent.session import Session

BLOB_BYTES = 1_048_576


def survey(session: Session, _message: dict[str, Any]) -> None:
    """Answers `survey`: the digest of what is there now of what was put, whether a sync was torn, the free bytes.

    The digest is None where nothing was ever put, and after a torn sync, which has to be looked into anyway.
    """
    memory = Memory(session.state)
    is_torn, manifest = memory.is_torn, memory.manifest()
    session.intact = found = None
    if manifest is not None and not is_torn:
        now = standing_there(session, manifest)
        session.intact = manifest if now == manifest else None
        found = digest(now)
    session.send({"is": "survey", "digest": found, "pending": is_torn, "free_bytes": _free_bytes(session)})


def listing(session: Session, _message: dict[str, Any]) -> None:
    """Sends what was put; then what stands otherwise there now, and the paths at which nothing does.

    What a torn sync announced counts as put as it stands, unless that is what it found there. Where a survey has just
    found all of it as it was put, that is the answer.
    """
    if session.intact is not None:
        send_blob(session, MANIFEST, session.intact)
        send_blob(session, MANIFEST, b"")
        send_blob(session, PATHS, b"")
        return
    stored, now = ours(session, Memory(session.state))
    send_blob(session, MANIFEST, encode(stored.values()))
    send_blob(session, MANIFEST, encode([entry for path, entry in now.items() if stored[path] != entry]))
    send_blob(session, PATHS, b"".join([path + b"\0" for path in stored if path not in now]))


def ours(session: Session, memory: Memory) -> tuple[dict[bytes, Entry], dict[bytes, Entry]]:
    """What was put, by path, and what of it stands there now. Raises Failed."""
    stored = {entry.path: entry for entry in memory.stored()}
    found = {entry.path: entry for entry in memory.found()}
    announced = {entry.path: entry for entry in memory.announced()}
    now = {entry.path: entry for entry in there(session, {**stored, **announced})}
    for path, entry in announced.items():
        if path not in found or found[path] != now.get(path):
            stored[path] = now.get(path, entry)
    return stored, {path: entry for path, entry in now.items() if path in stored}


def settle_torn(session: Session) -> None:
    """Remembers what a torn sync has left as put, as it stands: a job is about to change it, which has to show then.

    Where that cannot be looked at or written, nothing is remembered: the job is not to suffer.
    """
    memory = Memory(session.state)
    try:
        stored, now = ours(session, memory)
        memory.settle(encode([stored[path] for path in now]))
    except (Failed, OSError):
        pass


def look(session: Session, _message: dict[str, Any]) -> None:
    """Reads paths and sends what is there at them, in folders of the workspace itself."""
    send_blob(session, MANIFEST, encode(inside(session, read_paths(session))))


def inside(session: Session, paths: Iterable[bytes]) -> list[Entry]:
    """What stands at these paths, in folders of the workspace itself. Raises Failed."""
    folders = Folders(os.fsencode(session.workspace))
    return there(session, [path for path in paths if folders.hold(path)])


def there(session: Session, paths: Iterable[bytes]) -> list[Entry]:
    """What stands in the workspace, or behind a link of it, at these paths. Raises Failed."""
    root = os.fsencode(session.workspace)
    found = []
    for path in paths:
        try:
            entry = entry_at(root, path)
        except OSError as error:
            raise failed(error, path) from None
        if entry is not None:
            found.append(entry)
    return found


def standing_there(session: Session, manifest: bytes) -> bytes:
    """The manifest of what stands now at the paths of this one. Raises Failed."""
    root = os.fsencode(session.workspace)
    try:
        return standing(root, paths_of(manifest))
    except OSError as error:
        raise failed(error, os.fsencode(error.filename)[len(root) + 1 :]) from None


def read_blob(session: Session, kind: bytes) -> bytes:
    """The payloads of frames of one kind up to an empty one. Raises Failed (`protocol`), Gone."""
    parts: list[bytes] = []
    while True:
        part = session.expect(kind)
        if not part:
            return b"".join(parts)
        parts.append(part)


def read_paths(session: Session) -> list[bytes]:
    """The paths that the client names. Raises Failed (`protocol`), Gone."""
    return read_blob(session, PATHS).split(b"\0")[:-1]


def send_blob(session: Session, kind: bytes, blob: bytes) -> None:
    """The other way round."""
    for at in range(0, len(blob), BLOB_BYTES):
        session.write(kind, blob[at : at + BLOB_BYTES])
    session.write(kind)


def _free_bytes(session: Session) -> int:
    for folder in (session.workspace, session.state):
        try:
            disk = os.statvfs(folder)
        except OSError:
            continue
        return disk.f_bavail * disk.f_frsize
    return 0
