"""Files as they arrive over the channel, put in their places in a workspace.

What is new is written in its place: what a torn connection leaves half is of another size or time than announced, and
is sent again. What replaces something is written beside it and renamed, so that whoever reads there sees the old or the
new.
"""

from __future__ import annotations

import os

from providers.agent.manifest import Entry, decode
from providers.agent.placed import Folders, failed
from providers.agent.session import Failed

PARTIAL = b".rentroll-incoming"
"""What a file that replaces another is called until it is whole, in the same folder."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_DESCRIPTOR = -1


class Incoming:
    """Takes one entry after the other, with what its file holds. Everything raises Failed.

    As a context manager it takes away what is not whole at the end. Meanwhile the process has no umask: each file gets
    its permissions as it is made.
    """

    def __init__(self, workspace: bytes) -> None:
        self._workspace = workspace
        self._folders = Folders(workspace)
        self._entry = Entry(b"", "f", 0, 0, 0, b"")
        self._descriptor = _NO_DESCRIPTOR
        self._written = b""

    def __enter__(self) -> Incoming:  # noqa: PYI034 - Self came with Python 3.11
        self._umask = os.umask(0)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        os.umask(self._umask)
        if self._descriptor != _NO_DESCRIPTOR:
            os.close(self._descriptor)
            os.unlink(self._written)

    def begin(self, record: bytes) -> None:
        """Takes the next entry; `record` is a manifest of it alone."""
        self.finish()
        try:
            (entry,) = decode(record)
        except ValueError as error:
            raise Failed("protocol", str(error)) from None
        if not self._folders.hold(entry.path):
            raise Failed("not-a-folder", "what should hold it is no folder", entry.path)
        place = self._workspace + b"/" + entry.path
        try:
            if entry.kind == "f":
                self._open(entry, place)
            elif entry.kind == "l":
                _link(entry, place)
            else:
                raise Failed("protocol", "a folder is announced, not put", entry.path)
        except OSError as error:
            raise failed(error, entry.path) from None

    def data(self, chunk: bytes) -> None:
        """Takes the next bytes of the file."""
        try:
            written = os.write(self._descriptor, chunk)
            while written < len(chunk):
                written += os.write(self._descriptor, memoryview(chunk)[written:])
        except OSError as error:
            raise failed(error, self._entry.path) from None

    def finish(self) -> None:
        """The entry is whole."""
        if self._descriptor == _NO_DESCRIPTOR:
            return
        entry, descriptor, place = self._entry, self._descriptor, self._workspace + b"/" + self._entry.path
        try:
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
            if self._written != place:
                os.rename(self._written, place)
        except OSError as error:
            raise failed(error, entry.path) from None
        self._descriptor = _NO_DESCRIPTOR
        os.close(descriptor)

    def _open(self, entry: Entry, place: bytes) -> None:
        self._entry = entry
        try:
            self._descriptor, self._written = os.open(place, _NEW, entry.mode), place
        except FileExistsError:
            beside = _beside(place)
            self._descriptor, self._written = os.open(beside, _NEW, entry.mode), beside


def _link(entry: Entry, place: bytes) -> None:
    try:
        os.symlink(entry.target, place)
    except FileExistsError:
        beside = _beside(place)
        os.symlink(entry.target, beside)
        os.rename(beside, place)


def _beside(place: bytes) -> bytes:
    """A free name in the same folder; what an earlier process left under it goes."""
    beside = place.rpartition(b"/")[0] + b"/" + PARTIAL
    try:
        os.unlink(beside)
    except FileNotFoundError:
        pass
    return beside
