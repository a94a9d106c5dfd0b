"""A local working tree as it was when it was looked at: what of it is to be copied, and what is to be said about it."""

from collections.abc import Iterable
from functools import cached_property

from msgspec import Struct

from ledger.domain import ports
from ledger.domain.errors import SyncFailure
from ledger.domain.syncing import shown
from providers.agent import manifest
from providers.agent.manifest import Entry

GIT_TIMEOUT_S = 120.0


class ScanOptions(Struct, frozen=True, kw_only=True):
    """How a tree is looked at.

    With `path_mode` the folder is taken as it is, without asking git; `with_git` adds the `.git` folders. `private` are
    absolute folders, without links, of which nothing is ever copied: those with keys. git has `git_timeout_s` seconds
    to answer.
    """

    path_mode: bool = False
    with_git: bool = False
    private: tuple[bytes, ...] = ()
    git_timeout_s: float = GIT_TIMEOUT_S


class Tree(Struct, frozen=True, kw_only=True, dict=True):
    """What a sync copies.

    `root` is the absolute folder, git's top level where git was asked. `entries` are sorted by path and name every
    folder on the way to a file, and the empty ones. `omitted` are paths that git tracks and a sparse checkout leaves
    out: never deletions. `missing` are tracked files that are deleted here, or staged so. `refused` are paths that no
    sync can carry, each with why; `unreadable` are those that must not be left out in silence. `strays` are links that
    point out of the tree, with their targets. `left_out` are what the built-in excludes leave out. `notes` are git's
    own warnings. `files` counts the files and links of the entries, `total_bytes` is the sum of their sizes.
    """

    root: bytes
    entries: list[Entry]
    omitted: frozenset[bytes]
    missing: tuple[bytes, ...]
    refused: tuple[tuple[bytes, str], ...]
    unreadable: tuple[tuple[bytes, str], ...]
    strays: tuple[tuple[bytes, bytes], ...]
    left_out: tuple[bytes, ...]
    notes: tuple[str, ...]
    files: int
    total_bytes: int

    @property
    def tracked_missing(self) -> int:
        """How many tracked files are deleted here."""
        return len(self.missing)

    @cached_property
    def encoded(self) -> bytes:
        """The manifest of the entries."""
        return manifest.encode(self.entries)

    @cached_property
    def digest(self) -> str:
        """The manifest's SHA-256, as the box has it when it holds the same."""
        return manifest.digest(self.encoded)

    def manifest(self, entries: Iterable[ports.Entry]) -> bytes:
        """These entries as both sides write them down."""
        return manifest.encode(entries)

    def look(self, paths: Iterable[bytes]) -> list[Entry]:
        """What is here now at these paths: without what has gone since, or become something that no sync carries.

        A path is gone too where a link stands in the place of a folder above it: it would lead elsewhere. Raises
        `SyncFailure` where something cannot be looked at.
        """
        folders = {b"": True}
        found: list[Entry] = []
        for path in paths:
            try:
                entry = manifest.entry_at(self.root, path) if self._is_below_folders(path, folders) else None
            except OSError as error:
                raise SyncFailure(
                    f"{shown(path)} cannot be looked at any more: {error.strerror}",
                    hint="make it readable, or leave it out in .rentrollignore",
                ) from error
            if entry is not None:
                found.append(entry)
        return found

    def _is_below_folders(self, path: bytes, known: dict[bytes, bool]) -> bool:
        above = path.rpartition(b"/")[0]
        if above not in known:
            entry = manifest.entry_at(self.root, above) if self._is_below_folders(above, known) else None
            known[above] = entry is not None and entry.kind == "d"
        return known[above]
