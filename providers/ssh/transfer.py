"""The client's end of the sync ops of an agent's channel (`providers.agent.tree` and `providers.agent.receive`)."""

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from ledger.domain.errors import SyncFailure
from ledger.domain.ports import Begun, Committed, Entry, PlaceFailure, Progress, Survey
from ledger.domain.syncing import shown
from providers.agent import frames, jsontext, manifest

BLOB_BYTES = 1_048_576
GROUP_BYTES = 64 * 1_048_576
"""After so many bytes the box is asked how it went: a disk that is full is not written to for an hour."""
BATCH_BYTES = 262_144
_READ_BYTES = 1_048_576
_OPENED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""What was a file when it was listed may be a link or a pipe by now, and opening a pipe may never end."""
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO)
_HINTS = {
    "disk-full": "make room on the box; what arrived stays, and the next sync goes on from there",
    "permission": "something on the box keeps its user from it (another user's file, a file system that is read-only)",
    "not-a-folder": "move it away on the box, or rename what is here",
    "fenced": "another client works on the box by now; try again",
}
_ANYHOW = "what arrived stays, and the next sync goes on from there"


class Talk(Protocol):
    """An agent's channel under the workspace's lock. Everything raises SshFailure where it is lost."""

    def send(self, message: dict[str, Any]) -> None: ...
    def write(self, data: bytes) -> None: ...
    def receive(self) -> tuple[bytes, bytes]: ...


class RemoteTree:
    """What of `ledger.domain.ports.Workspace` is about files. Everything raises PlaceFailure."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    def survey(self) -> Survey:
        """The digest of what is there now of what was put."""
        self._talk.send({"op": "survey"})
        told = self._hear("survey")
        return Survey(digest=told["digest"], pending=told["pending"], free_bytes=told["free_bytes"])

    def listing(self) -> tuple[list[Entry], list[Entry]]:
        """What was put, and what of it is there now."""
        self._talk.send({"op": "listing"})
        stored = self._read_manifest()
        there = {entry.path: entry for entry in stored}
        there.update((entry.path, entry) for entry in self._read_manifest())
        for path in self._read_paths():
            there.pop(path, None)
        return stored, [*there.values()]

    def look(self, paths: Iterable[bytes]) -> list[Entry]:
        """What is there now at these paths."""
        self._talk.send({"op": "look"})
        self._write_blob(frames.PATHS, _terminated(paths))
        return self._read_manifest()

    def begin(self, entries: Sequence[Entry], deletes: Sequence[bytes]) -> Begun:
        """Announces what is about to be put, deletes, makes the folders."""
        self._talk.send({"op": "begin"})
        self._write_blob(frames.MANIFEST, manifest.encode(entries))
        self._write_blob(frames.PATHS, _terminated(deletes))
        told = self._hear("begun")
        return Begun(deleted=told["deleted"], left=tuple(map(os.fsencode, told["left"])))

    def put(self, root: bytes, entries: Sequence[Entry], progress: Progress) -> None:
        """Sends files and links. What is no such thing here any more is left out.

        Raises SyncFailure where a file cannot be read, too.
        """
        sent = _Sent(progress)
        for group in _groups(entries):
            self._talk.send({"op": "put"})
            for batch in _batches(root, group, sent):
                self._talk.write(batch)
                sent.tell()
            self._talk.send({"op": "put-end"})
            self._hear("put")

    def commit(self, encoded: bytes) -> Committed:
        """Ends the sync, where the box finds just what the manifest says."""
        self._talk.send({"op": "commit"})
        self._write_blob(frames.MANIFEST, encoded)
        told = self._hear("committed", "differs")
        if told["is"] == "committed":
            return Committed(digest=told["digest"])
        return Committed(digest=None, differs=tuple(self._read_paths()))

    def _hear(self, *expected: str) -> dict[str, Any]:
        kind, payload = self._talk.receive()
        return _heard(kind, payload, *expected)

    def _read_manifest(self) -> list[Entry]:
        try:
            return [*manifest.decode(self._read_blob(frames.MANIFEST))]
        except ValueError as error:
            raise PlaceFailure(f"the box's list of files cannot be read: {error}", stage="protocol") from None

    def _read_paths(self) -> list[bytes]:
        return self._read_blob(frames.PATHS).split(b"\0")[:-1]

    def _read_blob(self, due: bytes) -> bytes:
        parts: list[bytes] = []
        while True:
            kind, payload = self._talk.receive()
            if kind != due:
                _heard(kind, payload)
            if not payload:
                return b"".join(parts)
            parts.append(payload)

    def _write_blob(self, kind: bytes, blob: bytes) -> None:
        for at in range(0, len(blob), BLOB_BYTES):
            self._talk.write(frames.pack(kind, blob[at : at + BLOB_BYTES]))
        self._talk.write(frames.pack(kind))


class _Sent:
    """How far a transfer is."""

    def __init__(self, progress: Progress) -> None:
        self.files = 0
        self.bytes = 0
        self._progress = progress

    def tell(self) -> None:
        self._progress(self.files, self.bytes)


def _groups(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    group: list[Entry] = []
    size = 0
    for entry in entries:
        group.append(entry)
        size += entry.size
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _batches(root: bytes, entries: Sequence[Entry], sent: _Sent) -> Iterator[bytes]:
    """The frames of these entries, many small ones at a time."""
    batch = bytearray()
    for entry in entries:
        for part in _frames(root, entry):
            batch += part
            if len(batch) >= BATCH_BYTES:
                yield bytes(batch)
                batch.clear()
        sent.files += 1
        sent.bytes += entry.size
    if batch:
        yield bytes(batch)


def _frames(root: bytes, entry: Entry) -> Iterator[bytes]:
    """One entry, with as much of its file as was there when it was listed. Nothing where it is no file any more."""
    if entry.kind != "f":
        yield frames.pack(frames.ENTRY, manifest.encode([entry]))
        return
    try:
        descriptor = os.open(root + b"/" + entry.path, _OPENED)
    except OSError as error:
        if error.errno in _NO_FILE:
            return
        raise _unreadable(entry.path, error) from None
    try:
        left = entry.size
        chunk = os.read(descriptor, min(left, _READ_BYTES))
        if left and not chunk:
            return  # a pipe, or emptied just now
        yield frames.pack(frames.ENTRY, manifest.encode([entry]))
        while chunk:
            yield frames.pack(frames.DATA, chunk)
            left -= len(chunk)
            chunk = os.read(descriptor, min(left, _READ_BYTES)) if left else b""
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise _unreadable(entry.path, error) from None
    finally:
        os.close(descriptor)


def _unreadable(path: bytes, error: OSError) -> SyncFailure:
    return SyncFailure(
        f"{shown(path)} cannot be read here: {(error.strerror or str(error)).lower()}",
        hint=f"make it readable or exclude it; {_ANYHOW}",
    )


def _heard(kind: bytes, payload: bytes, *expected: str) -> dict[str, Any]:
    told = jsontext.decode(payload) if kind == frames.JSON else {}
    if told.get("is") == "failed":
        raise _failure(told)
    if told.get("is") not in expected:
        raise PlaceFailure("the box said something else than was due", stage="protocol", hint=_ANYHOW)
    return told


def _failure(told: dict[str, Any]) -> PlaceFailure:
    stage, words = str(told["stage"]), str(told["message"])
    path = os.fsencode(told["path"]) if told.get("path") is not None else None
    where = f"{shown(path)} on the box" if path is not None else "the box"
    return PlaceFailure(f"{where}: {words.lower()} ({stage})", stage=stage, path=path, hint=_HINTS.get(stage, _ANYHOW))


def _terminated(paths: Iterable[bytes]) -> bytes:
    return b"".join([path + b"\0" for path in paths])
