"""Finds empty folders in a working tree: git tracks none, and names them only where it tracks nothing around them."""

import os
from collections.abc import Iterable

from ledger.domain.syncing import folders_above
from providers.worktree.builtin import excludes
from providers.worktree.git import Git, failure

NONE_IGNORED = 1
"""The exit code with which `git check-ignore` says that nothing of all is ignored."""


def empty_folders(git: Git, top: bytes, folders: list[bytes], files: Iterable[bytes]) -> list[bytes]:
    """The folders with nothing in them, among `folders` (each ending in `/`) and below, that git does not ignore.

    `files` are what git lists below `folders`: a folder on the way to one of these is not ignored.
    """
    leading = folders_above(files)
    found: list[bytes] = []
    level = [folder[:-1] for folder in folders]
    while level:
        below: list[bytes] = []
        for folder in level:
            inner = _folders_in(top, folder)
            if inner is None:
                found.append(folder)
            else:
                below += inner
        unsure = [folder for folder in below if folder not in leading]
        ignored = _ignored(git, top, unsure) if unsure else set()
        level = [folder for folder in below if folder not in ignored]
    return found


def _folders_in(top: bytes, folder: bytes) -> list[bytes] | None:
    """The folders to look into next; None where there is nothing at all. A repository of its own is left alone."""
    try:
        with os.scandir(top + b"/" + folder) as listed:
            inside = list(listed)
    except OSError:  # it has gone, or is closed to us: then git has said so, and `Listing.closed` names it
        return []
    if not inside:
        return None
    if any(entry.name == b".git" for entry in inside):
        return []
    return [
        folder + b"/" + entry.name
        for entry in inside
        if not excludes(entry.name) and entry.is_dir(follow_symlinks=False)
    ]


def _ignored(git: Git, top: bytes, folders: list[bytes]) -> set[bytes]:
    asked = git.ask(top, "check-ignore", "-z", "--stdin", given=b"\0".join(folders))
    told = git.answer(asked)
    if told.code > NONE_IGNORED:
        raise failure(told.said)
    return set(told.out.split(b"\0"))
