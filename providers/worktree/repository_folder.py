"""The `.git` folders of a tree, for `--with-git`."""

import os
import stat

from ledger.domain.errors import UsageFailure
from ledger.domain.syncing import shown
from providers.worktree.choice import Choice
from providers.worktree.gather import Gathering
from providers.worktree.walk import GIT_FOLDER, Place, walk

WITHOUT = "sync without --with-git"


def require_git_folder(top: bytes) -> None:
    """Raises `UsageFailure` where the tree has no `.git` that would be a repository by itself on the box."""
    path = top + b"/" + GIT_FOLDER
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        raise UsageFailure(f"--with-git: there is no {shown(path)}", hint=WITHOUT) from error
    if not stat.S_ISDIR(mode):
        raise UsageFailure(
            f"--with-git: {shown(path)} is no folder, so the repository itself is elsewhere",
            hint=f"this is a linked worktree or a submodule: {WITHOUT}, or from the main working tree",
            next_step="git worktree list",
        )
    if os.path.exists(path + b"/objects/info/alternates"):  # noqa: PTH110 - paths are bytes here
        raise UsageFailure(
            f"--with-git: {shown(path)} borrows objects from another repository (objects/info/alternates)",
            hint=f"`git repack -a -d` copies them, then that file can go; or {WITHOUT}",
        )


def add_git_folder(gathering: Gathering, choice: Choice, prefix: bytes) -> None:
    """Takes the `.git` of the repository at `prefix` (empty, or ending in `/`).

    That of a submodule is a file which says where below the outer `.git` its repository is: it is taken if it says so
    in a way that holds on the box too, and refused by name otherwise.
    """
    path = prefix + GIT_FOLDER
    whole = gathering.root + b"/" + path
    if os.path.isdir(whole):  # noqa: PTH112 - paths are bytes here
        found = walk(gathering.root, path, Place.GIT, choice, with_git=True, closed=gathering.close)
        gathering.files(found.files)
        gathering.folders(found.empty)
    elif _stays_inside(gathering.root, prefix, whole):
        gathering.files([path])
    else:
        gathering.refused.append((path, "a file that names a repository outside of what is copied"))


def _stays_inside(root: bytes, prefix: bytes, file: bytes) -> bool:
    try:
        with open(file, "rb") as opened:  # noqa: PTH123 - paths are bytes here
            target = opened.read().removeprefix(b"gitdir:").strip()
    except OSError:
        return False
    named = os.path.normpath(root + b"/" + prefix + target)  # an absolute one is not meant so, and fits nothing
    return named.startswith(root + b"/" + GIT_FOLDER + b"/")
