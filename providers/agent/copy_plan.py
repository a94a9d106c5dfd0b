"""What both sides of a copy know: what a source is, what a partial file is called, what may fail, how they talk.

Python 3.8 and the standard library, as all of the agent. One side sends and the other receives, whichever of them is
the box; the talk is described in `providers.agent.copy`.
"""

from __future__ import annotations

import errno
import os
import re
from collections import namedtuple
from hashlib import sha256

from providers.agent import frames, jsontext

TYPE_CHECKING = False  # as typing's own
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NamedTuple, Protocol

    from providers.agent.manifest import Entry

    class Source(NamedTuple):
        """One thing to copy: its name in a folder (`.` for a folder's contents), its kind, and what it is.

        `identity` is its machine and absolute path: with size and mtime it says of which version of which file a
        partial copy is.
        """

        name: bytes
        kind: str
        identity: bytes

    class Watcher(Protocol):
        """Sees this side's part of a copy: files and bytes to come, bytes sent, bytes that were there already."""

        def listed(self, files: int, size: int) -> None: ...
        def moved(self, size: int) -> None: ...
        def kept(self, size: int) -> None: ...

else:
    Source = namedtuple("Source", "name kind identity")  # noqa: PYI024 - typing is slow to import

CHUNK_BYTES = 256 * 1024
CONTENTS = b"."
PARTIAL = re.compile(rb"\.rentroll-[0-9a-f]{8}-[0-9a-f]{16}\.part")
"""The whole name of a partial file: a digest of the name that it will get, and one of the version that it is of."""
_STAGES = {
    errno.ENOSPC: "disk-full",
    errno.EDQUOT: "disk-full",
    errno.EFBIG: "disk-full",
    errno.EACCES: "permission",
    errno.EPERM: "permission",
    errno.EROFS: "permission",
    errno.ENOENT: "missing",
    errno.ENOTDIR: "not-a-folder",
    errno.EISDIR: "not-a-folder",
}


class CopyFailure(Exception):
    """One path could not be copied, or all of it where that ends the copy.

    `stage` says why in a word: `disk-full`, `permission`, `missing`, `not-a-folder`, `not-a-file`, `changed`, `io`,
    `protocol`. `path` is absolute, on the machine where it failed; `is_ours` says whether that is this one.
    """

    def __init__(self, stage: str, message: str, path: bytes = b"", *, is_ours: bool = True) -> None:
        super().__init__(message)
        self.is_ours = is_ours
        self.stage = stage
        self.message = message
        self.path = path

    def told(self) -> dict[str, str]:
        """How it travels."""
        return {"stage": self.stage, "message": self.message, "path": os.fsdecode(self.path)}


def failure_of(error: OSError, path: bytes) -> CopyFailure:
    """What an error of the operating system means for a path."""
    stage = _STAGES.get(error.errno or 0, "io")
    return CopyFailure(stage, (error.strerror or str(error)).lower(), path)


def failure_told(told: dict[str, Any]) -> CopyFailure:
    """The failure that the other side has met."""
    return CopyFailure(told["stage"], told["message"], os.fsencode(told.get("path") or ""), is_ours=False)


class Wire:
    """One side's end of the talk. `write` takes bytes; `receive` gives the next frame, its kind and payload.

    Small frames are gathered, and go out before this side waits for the other.
    """

    def __init__(self, write: Callable[[bytes], None], receive: Callable[[], tuple[bytes, bytes]]) -> None:
        self._write = write
        self._receive = receive
        self._gathered = bytearray()

    def send(self, kind: bytes, payload: bytes) -> None:
        """One frame."""
        self._gathered += frames.header(kind, len(payload))
        if len(payload) >= CHUNK_BYTES // 4:  # not worth a copy
            self.flush()
            self._write(payload)
            return
        self._gathered += payload
        if len(self._gathered) >= CHUNK_BYTES:
            self.flush()

    def say(self, what: str, **fields: Any) -> None:
        """One control frame."""
        self.send(frames.JSON, jsontext.encode({"is": what, **fields}))

    def flush(self) -> None:
        """Sends what was gathered."""
        if self._gathered:
            gathered, self._gathered = self._gathered, bytearray()
            self._write(bytes(gathered))

    def receive(self) -> tuple[bytes, bytes]:
        """The next frame."""
        self.flush()
        return self._receive()

    def hear(self, *expected: str) -> dict[str, Any]:
        """The next control frame, one of these. Raises CopyFailure for the failure of the other side."""
        kind, payload = self.receive()
        return heard(kind, payload, *expected)


def heard(kind: bytes, payload: bytes, *expected: str) -> dict[str, Any]:
    """The control frame that a frame is, one of these. Raises CopyFailure for the failure of the other side."""
    told = jsontext.decode(payload) if kind == frames.JSON else {}
    if told.get("is") == "failed":
        raise failure_told(told)
    if told.get("is") not in expected:
        raise CopyFailure("protocol", "the other side said something else than was due")
    return told


def expanded(path: bytes, workspace: bytes) -> bytes:
    """A path as it is typed, absolute: `~/x` in the login's home, anything else that is relative in the workspace."""
    if path == b"~" or path.startswith(b"~/"):
        return os.path.expanduser(b"~") + path[1:]
    return os.path.join(workspace, path)


def name_of(path: bytes) -> bytes:
    """The name that a source keeps in the folder it is copied into; `.` where a folder's contents are meant.

    As with cp: `a/b/` is `b`, and `a/.` is what is in `a`. An empty path, `/` and `~` mean contents too.
    """
    last = path.rstrip(b"/").rpartition(b"/")[2]
    if last in (b"", CONTENTS, b"~"):
        return CONTENTS
    return os.path.basename(os.path.abspath(path)) or CONTENTS if last == b".." else last


def source_path(path: bytes, folder: bytes) -> bytes:
    """Where a source is that was typed, absolute. A link is meant itself, unless what is in it is asked for."""
    whole = expanded(path, folder)
    return os.path.realpath(whole) if path.endswith(b"/") or name_of(path) == CONTENTS else os.path.abspath(whole)


def partial_name(name: bytes, identity: bytes, entry: Entry) -> bytes:
    """What the partial copy of one version of one file is called, beside the name that it will get."""
    rest = entry.path.partition(b"/")[2]
    version = b"%b\0%b\0%d\0%d" % (identity, rest, entry.size, entry.mtime_ns)
    return b"%b%b.part" % (partials_of(name), sha256(version).hexdigest()[:16].encode())


def partials_of(name: bytes) -> bytes:
    """How the names of all partial copies begin that will get a name."""
    return b".rentroll-%b-" % sha256(name).hexdigest()[:8].encode()


def prefix_digest(descriptor: int, length: int) -> str | None:
    """The SHA-256 of a file's first so many bytes; None where it is shorter. Moves the file's position."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    hashed, left = sha256(), length
    while left:
        chunk = os.read(descriptor, min(left, 4 * CHUNK_BYTES))
        if not chunk:
            return None
        hashed.update(chunk)
        left -= len(chunk)
    return hashed.hexdigest()
