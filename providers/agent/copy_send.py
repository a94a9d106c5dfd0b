"""The sending side of a copy: what there is, and then each file from where the other side stands.

A file that changes while it is read is sent again, whole, as the version that it is then; after a few times it is named
as a failure, and no version of it is left on the other side.
"""

from __future__ import annotations

import os
from stat import S_ISDIR, S_ISLNK, S_ISREG

from providers.agent import frames
from providers.agent.copy_plan import (
    CHUNK_BYTES,
    CONTENTS,
    PARTIAL,
    CopyFailure,
    Wire,
    failure_of,
    prefix_digest,
)
from providers.agent.manifest import PERMISSIONS, Entry, encode

TYPE_CHECKING = False  # as typing's own
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from providers.agent.copy_plan import Watcher

ATTEMPTS = 3
"""How often a file that changes while it is read is begun, before it is given up."""
_BATCH_BYTES = 1_048_576
_OPENED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""What was a file when it was listed may be a link or a pipe by now, and opening a pipe may never end."""


class Sender:
    """One side's sources: absolute paths, and the names that they keep in a folder (`name_of`).

    `private` is a folder, without links on the way, of which nothing is ever sent.
    """

    def __init__(
        self,
        wire: Wire,
        paths: list[bytes],
        names: list[bytes],
        watcher: Watcher | None = None,
        *,
        private: bytes | None = None,
    ) -> None:
        self._private = private
        self._wire = wire
        self._paths = paths
        self._names = names
        self._watcher = watcher
        self._failures: list[CopyFailure] = []
        self._have: dict[int, tuple[int, str]] = {}

    def run(self) -> None:
        """Tells what there is, hears what the other side has of it, and sends the rest."""
        entries = self._tell()
        self._hear()
        for number, entry in enumerate(entries):
            if entry.kind == "f":
                self._send(number, entry)
        self._wire.say("end")
        self._wire.flush()

    def _tell(self) -> list[Entry]:
        entries: list[Entry] = []
        sources: list[list[str] | None] = [None] * len(self._paths)
        for number, path in enumerate(self._paths):
            if self._is_private(path):
                continue
            top = self._entry(path, b"%d" % number)
            if top is not None and top.kind != "d" and self._names[number] == CONTENTS:
                self._failures.append(CopyFailure("not-a-folder", "it is no folder", path))
                top = None
            if top is None:
                continue
            sources[number] = [os.fsdecode(self._names[number]), top.kind, os.fsdecode(_identity(path))]
            entries.append(top)
            if top.kind == "d":
                entries.extend(self._inside(path, top.path))
        entries.sort()
        encoded = encode(entries)
        for at in range(0, len(encoded), _BATCH_BYTES):
            self._wire.send(frames.MANIFEST, encoded[at : at + _BATCH_BYTES])
        if self._watcher is not None:
            files = [entry.size for entry in entries if entry.kind == "f"]
            self._watcher.listed(len(files), sum(files))
        self._wire.say("listed", sources=sources, failures=[failure.told() for failure in self._failures])
        return entries

    def _inside(self, root: bytes, top: bytes) -> Iterator[Entry]:
        waiting = [(root, top)]
        while waiting:
            folder, under = waiting.pop()
            if folder is not root and self._is_private(folder):
                continue
            try:
                names = os.listdir(folder)
            except OSError as error:
                self._failures.append(failure_of(error, folder))
                continue
            for name in names:
                if PARTIAL.fullmatch(name):
                    continue
                path = folder + b"/" + name
                entry = self._entry(path, under + b"/" + name)
                if entry is not None:
                    yield entry
                    if entry.kind == "d":
                        waiting.append((path, entry.path))

    def _is_private(self, path: bytes) -> bool:
        """Whether it is in the private folder; then it is named as a failure."""
        if self._private is None or not (os.path.realpath(path) + b"/").startswith(self._private + b"/"):
            return False
        self._failures.append(CopyFailure("private", "it holds the keys of your leases, which stay here", path))
        return True

    def _entry(self, path: bytes, as_path: bytes) -> Entry | None:
        try:
            status = os.lstat(path)
            if S_ISLNK(status.st_mode):
                return Entry(as_path, "l", 0, 0, 0, os.readlink(path))
        except OSError as error:
            self._failures.append(failure_of(error, path))
            return None
        mode = status.st_mode & PERMISSIONS
        if S_ISDIR(status.st_mode):
            return Entry(as_path, "d", mode, 0, 0, b"")
        if S_ISREG(status.st_mode):
            return Entry(as_path, "f", mode, status.st_size, status.st_mtime_ns, b"")
        self._failures.append(CopyFailure("not-a-file", "it is neither a file nor a folder nor a link", path))
        return None

    def _hear(self) -> None:
        while True:
            told = self._wire.hear("have", "send")
            if told["is"] == "send":
                return
            for number, offset, digest in told["files"]:
                self._have[number] = (offset, digest)

    def _send(self, number: int, entry: Entry) -> None:
        top, slash, rest = entry.path.partition(b"/")
        path = self._paths[int(top)] + slash + rest
        try:
            with _File(path) as file:
                self._send_file(number, entry, file)
        except CopyFailure as failure:
            self._wire.say("unsent", file=number, **failure.told())

    def _send_file(self, number: int, listed: Entry, file: _File) -> None:
        for _ in range(ATTEMPTS):
            entry = file.now(listed)
            have = self._have.pop(number, (0, ""))
            offset = file.agreed(*have) if entry == listed else 0
            if self._stream(number, entry, offset, file):
                self._wire.say("sent", file=number)
                return
            self._wire.say("again", file=number)
        raise CopyFailure("changed", "it changed each time while it was read", file.path)

    def _stream(self, number: int, entry: Entry, offset: int, file: _File) -> bool:
        """Sends one version from the offset on; False where it was not the same to the end."""
        self._wire.send(frames.ENTRY, b"%d %d\0" % (number, offset) + encode([entry]))
        if self._watcher is not None:
            self._watcher.kept(offset)
        file.seek(offset)
        left = entry.size - offset
        while left:
            chunk = file.read(min(left, CHUNK_BYTES))
            if not chunk:
                return False
            self._wire.send(frames.DATA, chunk)
            left -= len(chunk)
            if self._watcher is not None:
                self._watcher.moved(len(chunk))
        return file.now(entry) == entry


class _File:
    """One source's file while it is read. Everything raises CopyFailure with its path."""

    def __init__(self, path: bytes) -> None:
        self.path = path

    def __enter__(self) -> Self:
        try:
            self._descriptor = os.open(self.path, _OPENED)
        except OSError as error:
            raise failure_of(error, self.path) from None
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def now(self, entry: Entry) -> Entry:
        """The entry as the file is now."""
        status = os.fstat(self._descriptor)
        if not S_ISREG(status.st_mode):
            raise CopyFailure("not-a-file", "it is no file any more", self.path)
        return entry._replace(mode=status.st_mode & PERMISSIONS, size=status.st_size, mtime_ns=status.st_mtime_ns)

    def agreed(self, offset: int, digest: str) -> int:
        """How much of it the other side has for certain: so many bytes if they are the same here, else none."""
        try:
            return offset if offset and prefix_digest(self._descriptor, offset) == digest else 0
        except OSError as error:
            raise failure_of(error, self.path) from None

    def seek(self, offset: int) -> None:
        """Goes on reading from there."""
        os.lseek(self._descriptor, offset, os.SEEK_SET)

    def read(self, limit: int) -> bytes:
        """The next bytes, none at the end."""
        try:
            return os.read(self._descriptor, limit)
        except OSError as error:
            raise failure_of(error, self.path) from None


def _identity(path: bytes) -> bytes:
    return os.fsencode(os.uname().nodename) + b":" + path
