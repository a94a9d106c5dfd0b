"""Names the rule that decides whether one path is copied: by the same questions to git and the same rules as a scan."""

import os
import stat
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from ledger.domain.syncing import shown
from providers.worktree import builtin
from providers.worktree.choice import Choice
from providers.worktree.gather import KINDS
from providers.worktree.git import Git
from providers.worktree.git_says import Word, said_of
from providers.worktree.ignore_file import load
from providers.worktree.names import amount, counted
from providers.worktree.private import WHY, is_within
from providers.worktree.repositories import Repositories, is_repository
from providers.worktree.scan import require_folder, scan
from providers.worktree.tree import ScanOptions
from providers.worktree.walk import GIT_FOLDER, is_passing


class Rule(StrEnum):
    """What decides on a path."""

    TRACKED = "tracked"
    UNTRACKED = "untracked"
    IGNORED = "ignored by git"
    IGNORE_FILE = ".rentrollignore"
    BUILT_IN = "built-in exclude"
    SPARSE = "sparse checkout"
    DELETED = "deleted"
    ABSENT = "does not exist"
    OUTSIDE = "outside"
    REFUSED = "cannot be copied"
    FOLDER = "folder"
    PATH = "--path"
    WITH_GIT = "--with-git"


class Explanation(NamedTuple):
    """Whether a path is copied, the rule that decides, and where that rule comes from."""

    included: bool
    rule: Rule
    source: str


NOTHING_IN_IT = Explanation(False, Rule.FOLDER, "nothing in it is copied")
RULES = {
    Word.TRACKED: Rule.TRACKED,
    Word.SKIPPED: Rule.SPARSE,
    Word.DELETED: Rule.DELETED,
    Word.UNTRACKED: Rule.UNTRACKED,
    Word.IGNORED: Rule.IGNORED,
    Word.UNKNOWN: Rule.ABSENT,
}


def explain(root: Path, path: Path, options: ScanOptions) -> Explanation:
    """Why `path` is copied or not; both are absolute, or relative to the present folder.

    Raises as `scan` does.
    """
    folder = require_folder(root)
    with Git(options.git_timeout_s) as git:
        if options.path_mode:
            top, choice = folder, Choice(load(folder))
        else:
            repositories = Repositories(git, folder)
            top, choice = repositories.top, repositories.choice
        found = _below(top, os.fsencode(path))
        if found is None:
            return Explanation(False, Rule.OUTSIDE, f"it is not below {shown(top)}")
        whole = top + b"/" + found
        if any(is_within(whole, private) for private in options.private):
            return Explanation(False, Rule.REFUSED, f"it is in {WHY}")
        if not found or (os.path.isdir(whole) and not os.path.islink(whole)):  # noqa: PTH112, PTH114
            inside = _of_folder(root, found, options)
            if inside is not None:
                return inside
            if not found:  # the tree itself, of which git has nothing to say
                return NOTHING_IN_IT
            found += b"/"
        elif os.path.lexists(whole) and (refused := _refused(whole)) is not None:
            return refused
        if GIT_FOLDER in found.split(b"/"):
            return _of_git_folder(found, choice, with_git=options.with_git)
        if os.path.lexists(whole) and (ruled := _ruled(choice, found)) is not None:
            return ruled
        if options.path_mode:
            return _of_path_mode(top, found)
        return _of_repository(git, top, found)


def _below(top: bytes, path: bytes) -> bytes | None:
    """The path relative to the top, its folders without links; None where it is elsewhere."""
    above, name = os.path.split(os.path.abspath(path))  # noqa: PTH100 - paths are bytes here
    whole = os.path.join(os.path.realpath(above), name)  # noqa: PTH118
    if whole == top:
        return b""
    base = top.rstrip(b"/") + b"/"
    return whole[len(base) :] if whole.startswith(base) else None


def _of_folder(root: Path, folder: bytes, options: ScanOptions) -> Explanation | None:
    """What of a folder is copied; None where nothing of it is."""
    tree = scan(root, options)
    base = folder + b"/" if folder else b""
    files = [entry for entry in tree.entries if entry.path.startswith(base) and entry.kind != "d"]
    if files:
        size = sum(entry.size for entry in files)
        return Explanation(True, Rule.FOLDER, f"{counted(len(files), 'file')} in it to be copied, {amount(size)}")
    if any(path == folder for path, _why in tree.unreadable):
        return Explanation(False, Rule.REFUSED, "it cannot be read")
    if any(entry.path == folder for entry in tree.entries):
        return Explanation(True, Rule.FOLDER, "it is empty and is made")
    return None


def _refused(whole: bytes) -> Explanation | None:
    mode = os.lstat(whole).st_mode
    kind = KINDS.get(stat.S_IFMT(mode))
    if kind is not None:
        return Explanation(False, Rule.REFUSED, f"it is {kind}")
    if stat.S_ISREG(mode) and not os.access(whole, os.R_OK):
        return Explanation(False, Rule.REFUSED, "it cannot be read")
    return None


def _ruled(choice: Choice, path: bytes) -> Explanation | None:
    verdict = choice.rules.verdict(path) if choice.rules is not None else None
    if verdict is None:
        return None
    return Explanation(
        not verdict.excluded, Rule.IGNORE_FILE, f".rentrollignore line {verdict.line}: {verdict.pattern}"
    )


def _of_git_folder(path: bytes, choice: Choice, *, with_git: bool) -> Explanation:
    if not with_git:
        return _built_in(path[: path.index(GIT_FOLDER) + len(GIT_FOLDER)])
    if is_passing(path.rpartition(b"/")[2]):
        return Explanation(False, Rule.BUILT_IN, "a lock or a socket of a git process on this machine")
    return _ruled(choice, path) or Explanation(True, Rule.WITH_GIT, "--with-git copies the repository")


def _of_path_mode(top: bytes, path: bytes) -> Explanation:
    if not os.path.lexists(top + b"/" + path):
        return Explanation(False, Rule.ABSENT, "there is no such file")
    part = builtin.excluded_part(path) or next(_environments(top, b"", path), None)
    return Explanation(True, Rule.PATH, "--path copies a folder as it is") if part is None else _built_in(part)


def _environments(top: bytes, prefix: bytes, path: bytes) -> Iterator[bytes]:
    """The folders above a path, and inside the repository at `prefix`, that are virtual environments by their mark."""
    for folder in _above(path):
        if os.path.lexists(os.path.join(top, prefix, folder, builtin.VENV_MARK)):  # noqa: PTH118
            yield folder


def _built_in(part: bytes) -> Explanation:
    why = builtin.reason(part.rpartition(b"/")[2])
    return Explanation(False, Rule.BUILT_IN, f"{shown(part)}: {why}; git does not track it")


def _of_repository(git: Git, top: bytes, path: bytes) -> Explanation:
    """Goes down through the repositories that hold the path; the first that leaves the next one out decides."""
    prefix = b""
    for folder in _above(path.rstrip(b"/")):
        if is_repository(top + b"/" + folder):
            inner = folder + b"/"
            said = said_of(git, top, prefix, inner[len(prefix) :])
            if said.word is Word.IGNORED:
                return Explanation(False, Rule.IGNORED, said.source)
            part = _excluded(git, top, prefix, inner[len(prefix) :]) if said.word is Word.UNTRACKED else None
            if part is not None:
                return _built_in(prefix + part)
            prefix = inner
    rest = path[len(prefix) :]
    said = said_of(git, top, prefix, rest)
    if said.word is Word.UNTRACKED or (said.word is Word.UNKNOWN and rest.endswith(b"/")):
        part = _excluded(git, top, prefix, rest)
        if part is not None:
            return _built_in(prefix + part)
    if rest.endswith(b"/") and said.word is not Word.IGNORED:
        return NOTHING_IN_IT
    return Explanation(said.word in (Word.TRACKED, Word.UNTRACKED), RULES[said.word], said.source)


def _excluded(git: Git, top: bytes, prefix: bytes, path: bytes) -> bytes | None:
    """The part of an untracked path, in the repository at `prefix`, that a built-in exclude leaves out."""
    marked = (
        folder
        for folder in _environments(top, prefix, path)
        if said_of(git, top, prefix, folder + b"/" + builtin.VENV_MARK).word is Word.UNTRACKED
    )
    return builtin.excluded_part(path) or next(marked, None)


def _above(path: bytes) -> Iterator[bytes]:
    """The folders above a path, the outermost first; a path that ends in `/` is one of them."""
    parts = path.split(b"/")
    return (b"/".join(parts[:i]) for i in range(1, len(parts)))
