"""What one git repository says of its working tree."""

import os
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from ledger.domain.errors import SyncFailure
from ledger.domain.syncing import shown
from providers.worktree import builtin
from providers.worktree.empty import empty_folders
from providers.worktree.git import Answer, Git, Question, failure

HERE = ("--full-name", "--", ":/")
"""Of the whole repository, from whatever folder of it git is asked."""
OTHERS = ("ls-files", "-z", "--others", "--exclude-standard")
FOLDERS_ASKED = 200
"""So many new folders are asked for by name; where there are more, git reads the whole tree once more."""
GITLINK = b"160000"
SKIPPED = ord("S")


class Repository(NamedTuple):
    """A repository to be asked: its folder, and its place in the tree, which is empty or ends in `/`.

    `wanted` is False for one in a place that is left out, of which `.rentrollignore` may still bring something back.
    """

    folder: bytes
    prefix: bytes = b""
    wanted: bool = True


class Index(NamedTuple):
    """git's index, its paths relative to the repository: files, those that a sparse checkout leaves out, submodules."""

    tracked: list[bytes]
    skipped: list[bytes]
    modules: list[bytes]


class Others(NamedTuple):
    """What git does not track and does not ignore: files and links, empty folders, repositories (ending in `/`)."""

    untracked: list[bytes]
    empty: list[bytes]
    nested: list[bytes]

    @property
    def environments(self) -> tuple[bytes, ...]:
        """The virtual environments among them, by their mark; each ends in `/`."""
        return builtin.environments(self.untracked)


class Listing:
    """One repository. All is asked at once and answered as it is read, so that git works while the first is used.

    Reading raises `UsageFailure` where the folder is in no repository with a working tree, `SyncFailure` where git
    fails. `closed` are folders that git could not read, each with why, `closed_ignored` those that it ignores;
    `notes` are its other warnings.
    """

    def __init__(self, git: Git, repository: Repository) -> None:
        self.prefix, self.wanted = repository.prefix, repository.wanted
        self.notes: list[str] = []
        self.closed: dict[bytes, str] = {}
        self.closed_ignored: dict[bytes, str] = {}
        self._git, self._folder = git, repository.folder
        self._ceiling = os.path.dirname(self._folder) if self.prefix else None  # noqa: PTH120 - paths are bytes here
        self._top = self._ask("rev-parse", "--show-toplevel")
        self._index = self._ask("ls-files", "-z", "-s", "-t", *HERE)
        self._others = self._ask(*OTHERS, "--directory", *HERE)
        self._ignored: Question | None = None
        self._answered: Others | None = None
        self._deleted = self._ask(
            "diff-index", "--cached", "-z", "--name-only", "--diff-filter=D", "-M100%", "HEAD", "--"
        )

    @cached_property
    def top(self) -> bytes:
        """The repository's top folder, absolute and without links."""
        found = self._git.answer(self._top)
        if not found.code:
            return found.out.removesuffix(b"\n")
        if not self.prefix:
            raise failure(found.said, self._folder)
        raise SyncFailure(
            f"{shown(self.prefix)} is a repository that git cannot read: {' '.join(found.said.split())}",
            hint="mend it (`git submodule update --init`, say), or exclude the folder in .rentrollignore",
        )

    @cached_property
    def index(self) -> Index:
        """What git tracks; every path once, also where a merge has left several versions of it."""
        _ = self.top  # its failure says most
        records = self._git.answer(self._index).parts()
        start = records[0].index(b"\t") + 1 if records else 0  # what is before a path has one width for all
        special = [r for r in records if r[0] == SKIPPED or r[2:8] == GITLINK]
        if special:  # seldom, and a pass over all that may be saved
            records = [r for r in records if r[0] != SKIPPED and r[2:8] != GITLINK]
        skipped = [r[start:] for r in special if r[0] == SKIPPED]
        modules = [r[start:] for r in special if r[2:8] == GITLINK]
        return Index(list(dict.fromkeys([r[start:] for r in records])), skipped, modules)

    def others(self, replaced: Iterable[bytes] = ()) -> Others:
        """What git does not track and does not ignore. `replaced` are folders that stand where git tracks a file.

        git is asked for the names of new folders first, and for what is inside only where there are any.
        """
        if self._answered is None:
            self._answered = self._others_found(list(replaced))
        return self._answered

    def _others_found(self, replaced: list[bytes]) -> Others:
        found = self._git.answer(self._others)
        self._heed(found)
        named = found.parts()
        folders = [path for path in named if path.endswith(b"/")]
        files = [path for path in named if not path.endswith(b"/")]
        inside = [*folders, *replaced]
        if not inside:
            return Others(files, [], [])
        asked = self._git.ask(
            *(self.top, "--literal-pathspecs", *OTHERS, "--"),
            *(inside if len(inside) <= FOLDERS_ASKED else ()),
            ceiling=self._ceiling,
        )
        known = set(files)
        found = self._git.answer(asked)
        self._heed(found)
        new = [path for path in found.parts() if path not in known]
        nested = [path for path in new if path.endswith(b"/")]
        new = [path for path in new if not path.endswith(b"/")]
        searched = [path for path in folders if path not in nested]
        return Others(files + new, empty_folders(self._git, self.top, searched, new), nested)

    def ask_ignored(self) -> None:
        """Asks what git ignores as well: a list that may be long, and is not needed as a rule."""
        self._ignored = self._ask(*OTHERS, "--ignored", *HERE)

    @cached_property
    def ignored(self) -> list[bytes]:
        """What git ignores, where that was asked for: files and links, repositories (ending in `/`)."""
        if self._ignored is None:
            return []
        found = self._git.answer(self._ignored)
        self.closed_ignored = {path: why for path, why in found.closed.items() if path not in self.closed}
        return found.parts()

    @cached_property
    def unstaged(self) -> list[bytes]:
        """Files of HEAD that the index does not have any more, renamed ones aside; none before the first commit."""
        found = self._git.answer(self._deleted)
        if not found.code:
            return found.parts()
        if "bad revision" not in found.said:
            self.notes.append(f"git could not compare with HEAD: {found.said}")
        return []

    def _ask(self, *words: str) -> Question:
        return self._git.ask(self._folder, *words, ceiling=self._ceiling)

    def _heed(self, found: Answer) -> None:
        self.closed |= found.closed
        self.notes += [note for note in found.notes if note not in self.notes]
