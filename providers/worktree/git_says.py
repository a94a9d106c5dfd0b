"""What git says of one path of a repository, and by which of its rules."""

import os
from enum import Enum, auto
from typing import NamedTuple

from ledger.domain.syncing import shown
from providers.worktree.git import Git, failure
from providers.worktree.listing import OTHERS, SKIPPED

NOT_IGNORED = 1
"""The exit code with which `git check-ignore` says that no rule ignores a path."""


class Word(Enum):
    """The states of a path."""

    TRACKED = auto()
    SKIPPED = auto()
    DELETED = auto()
    UNTRACKED = auto()
    IGNORED = auto()
    UNKNOWN = auto()


class Said(NamedTuple):
    """A state, and how git knows it."""

    word: Word
    source: str


def said_of(git: Git, root: bytes, prefix: bytes, path: bytes) -> Said:
    """What the repository at `prefix` of the tree says of a path in it, which ends in `/` for a folder.

    Raises `SyncFailure` where git fails.
    """
    top = root + b"/" + prefix
    literal = "--literal-pathspecs"
    index = git.ask(top, literal, "ls-files", "-z", "-s", "-t", "--", path)
    others = git.ask(top, literal, *OTHERS, "--", path)
    head = git.ask(top, literal, "ls-tree", "-z", "--name-only", "--full-tree", "HEAD", "--", path)
    ignored = git.ask(top, "check-ignore", "-z", "-v", "--stdin", given=path)
    is_here = os.path.lexists(os.path.join(top, path))  # noqa: PTH118 - paths are bytes here
    name = path.rstrip(b"/")
    for record in git.answer(index).parts():
        if record.partition(b"\t")[2] == name:
            return _tracked(record, is_here=is_here)
    if is_here and path in git.answer(others).parts():
        return Said(Word.UNTRACKED, "git does not track it and does not ignore it")
    if not is_here:
        if name in git.answer(head).out.split(b"\0"):
            return Said(Word.DELETED, "it is in HEAD, and its deletion is staged")
        return Said(Word.UNKNOWN, "there is no such file")
    told = git.answer(ignored)
    if told.code > NOT_IGNORED:
        raise failure(told.said)
    if told.out:
        file, line, pattern, _ = told.out.split(b"\0", 3)
        where = file if file.startswith(b"/") else prefix + file
        return Said(Word.IGNORED, f"{shown(where)}:{shown(line)}: {shown(pattern)}")
    return Said(Word.UNKNOWN, "git does not list it")


def _tracked(record: bytes, *, is_here: bool) -> Said:
    if is_here:
        return Said(Word.TRACKED, "it is in git's index")
    if record[0] == SKIPPED:
        return Said(Word.SKIPPED, "it is in git's index and not checked out: never a deletion on the box")
    return Said(Word.DELETED, "it is in git's index and not in the working tree")
