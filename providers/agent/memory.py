"""What the box remembers of syncs, in STATE: what the last whole one put, and what one under way is about to put.

`pending` is there from before the first change of a sync until its end, so that what a torn one leaves is known to be
ours, and `found` with it, so that what it has not come to replace stays its owner's. They are forced to the disk.
What a crash of the whole box loses of files shows in their sizes or times and is sent again; losing `manifest` makes
what it named nobody's, which nothing deletes.
"""

from __future__ import annotations

import os

from providers.agent.manifest import Entry, decode, encode, paths_of
from providers.agent.session import PENDING

_MANIFEST = "manifest"
_FOUND = "found"
_MODE = 0o600


class Memory:
    """The three files, in the folder `state`. Writing raises OSError."""

    def __init__(self, state: str) -> None:
        self._state = state

    @property
    def is_torn(self) -> bool:
        """Whether a sync has begun and not ended."""
        return os.path.exists(self._path(PENDING))

    def manifest(self) -> bytes | None:
        """The manifest of what the last whole sync put, None before the first."""
        return self._read(_MANIFEST)

    def stored(self) -> list[Entry]:
        """What the last whole sync put."""
        return _entries(self._read(_MANIFEST))

    def paths(self) -> set[bytes]:
        """The paths of all that is ours: what the last whole sync put, and what a torn one was about to put."""
        return {*paths_of(self._read(_MANIFEST) or b""), *paths_of(self._read(PENDING) or b"")}

    def announced(self) -> list[Entry]:
        """What a sync that did not end was about to put."""
        return _entries(self._read(PENDING))

    def found(self) -> list[Entry]:
        """What stood at the paths that such a sync announced and was nobody's of ours then."""
        return _entries(self._read(_FOUND))

    def announce(self, entries: list[Entry], found: list[Entry]) -> None:
        """Remembers what is about to be put, and what somebody else's is there, with what an earlier sync left open."""
        for name, before, new in ((_FOUND, self.found(), found), (PENDING, self.announced(), entries)):
            pending = {entry.path: entry for entry in before}
            pending.update((entry.path, entry) for entry in new)
            if pending or name == PENDING:
                self._write(name, encode(pending.values()), is_forced=True)

    def settle(self, manifest: bytes) -> None:
        """The sync has ended, and this is there now."""
        self._write(_MANIFEST, manifest, is_forced=False)
        for name in (PENDING, _FOUND):
            try:
                os.unlink(self._path(name))
            except FileNotFoundError:
                pass

    def _read(self, name: str) -> bytes | None:
        try:
            with open(self._path(name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def _write(self, name: str, content: bytes, *, is_forced: bool) -> None:
        beside = self._path(name + ".new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
        with open(descriptor, "wb") as file:
            file.write(content)
            if is_forced:
                file.flush()
                os.fsync(descriptor)
        os.rename(beside, self._path(name))

    def _path(self, name: str) -> str:
        return self._state + "/" + name


def _entries(manifest: bytes | None) -> list[Entry]:
    try:
        return decode(manifest or b"")
    except ValueError:
        return []  # cut short by a crash of the box
