"""Looks at the paths that are to be copied: each becomes an entry, or is named with what is wrong about it."""

import os
import stat
from collections.abc import Iterable

from providers.agent.manifest import PERMISSIONS, Entry
from providers.worktree.tree import Tree

READABLE = 0o444
FORMAT = 0o170000
"""The bits of a mode that say what it is a mode of."""
KINDS = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class Gathering:
    """The entries of one tree as they come together, with every folder that holds one of them."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self.entries: list[Entry] = []
        self.refused: list[tuple[bytes, str]] = []
        self.unreadable: list[tuple[bytes, str]] = []
        self.strays: list[tuple[bytes, bytes]] = []
        self._base = root.rstrip(b"/") + b"/"
        self._holding = {b""}
        self._folders: dict[bytes, Entry | None] = {}

    def files(self, paths: Iterable[bytes]) -> list[bytes]:
        """Takes files and links; gives the paths at which there is neither.

        A folder stands in the place of a file, or a link in the place of a folder above it: what git tracks there
        is gone, as git itself says.
        """
        base, holding, entries, lstat = self._base, self._holding, self.entries, os.lstat
        regular, permissions, readable, new, kind = stat.S_IFREG, PERMISSIONS, READABLE, tuple.__new__, Entry
        missing: list[bytes] = []
        for path in paths:
            above = path.rpartition(b"/")[0]
            try:
                if above not in holding and not self._is_folder(above):
                    missing.append(path)
                    continue
                status = lstat(base + path)
            except (FileNotFoundError, NotADirectoryError):
                missing.append(path)
                continue
            except OSError as error:
                self.unreadable.append((path, error.strerror or str(error)))
                continue
            mode = status.st_mode
            if mode & FORMAT != regular:
                if not self._other(path, mode):
                    missing.append(path)
                continue
            if mode & readable != readable and not os.access(base + path, os.R_OK):
                self.unreadable.append((path, "Permission denied"))
                continue
            # `Entry(...)` would call a function of Python's for each file
            entries.append(new(kind, (path, "f", mode & permissions, status.st_size, status.st_mtime_ns, b"")))
            if above not in holding:
                self._hold(above)
        return missing

    def folders(self, paths: Iterable[bytes]) -> list[bytes]:
        """Takes folders in which nothing is, each with or without `/` at its end; gives those that are not there."""
        missing: list[bytes] = []
        for path in (given.rstrip(b"/") for given in paths):
            try:
                is_folder = self._is_folder(path)
            except OSError as error:
                self.close(path, error.strerror or str(error))
                continue
            if not is_folder:
                missing.append(path)
            elif not os.access(self._base + path, os.R_OK | os.X_OK):  # a submodule: it has not been looked into
                self.close(path, "Permission denied")
            else:
                self._hold(path)
        return missing

    def close(self, what: bytes, why: str) -> None:
        """Takes down something that cannot be looked into."""
        self.unreadable.append((what, why))

    def tree(
        self, *, omitted: Iterable[bytes], missing: Iterable[bytes], left_out: Iterable[bytes], notes: Iterable[str]
    ) -> Tree:
        """All of it."""
        folders = [entry for path in self._holding if (entry := self._folders.get(path)) is not None]
        return Tree(
            root=self.root,
            entries=sorted(self.entries + folders),
            omitted=frozenset(omitted),
            missing=tuple(missing),
            refused=tuple(self.refused),
            unreadable=tuple(self.unreadable),
            strays=tuple(self.strays),
            left_out=tuple(sorted(left_out)),
            notes=tuple(notes),
            files=len(self.entries),
            total_bytes=sum([entry.size for entry in self.entries]),
        )

    def _other(self, path: bytes, mode: int) -> bool:
        """Takes a link; names what cannot be carried. Says whether it was either."""
        if stat.S_ISDIR(mode):
            return False
        if not stat.S_ISLNK(mode):
            self.refused.append((path, KINDS.get(stat.S_IFMT(mode), "no file")))
            return True
        try:
            target = os.readlink(self._base + path)  # noqa: PTH115 - paths are bytes here
        except OSError:  # gone since
            return False
        self.entries.append(Entry(path, "l", 0, 0, 0, target))
        if _leads_out(path, target):
            self.strays.append((path, target))
        self._hold(path.rpartition(b"/")[0])
        return True

    def _is_folder(self, path: bytes) -> bool:
        """Whether there really is a folder, under folders, and no link in its place.

        Raises OSError where that cannot be seen.
        """
        if not path:
            return True
        if path not in self._folders:
            above = path.rpartition(b"/")[0]
            self._folders[path] = self._look(path) if self._is_folder(above) else None
        return self._folders[path] is not None

    def _look(self, path: bytes) -> Entry | None:
        try:
            status = os.lstat(self._base + path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISDIR(status.st_mode):
            return None
        return Entry(path, "d", status.st_mode & PERMISSIONS, 0, 0, b"")

    def _hold(self, folder: bytes) -> None:
        while folder not in self._holding:
            self._holding.add(folder)
            folder = folder.rpartition(b"/")[0]


def _leads_out(path: bytes, target: bytes) -> bool:
    """Whether a link means another place on the box than here: an absolute one always does."""
    if target.startswith(b"/"):
        return True
    if b".." not in target:
        return False
    whole = os.path.normpath(os.path.join(os.path.dirname(path), target))  # noqa: PTH118, PTH120 - paths are bytes here
    return whole == b".." or whole.startswith(b"../")
