"""From a folder to the tree that a sync copies: what git says, or with `--path` the folder as it is."""

import os
from pathlib import Path

from ledger.domain.errors import UsageFailure
from providers.worktree.choice import Choice
from providers.worktree.gather import Gathering
from providers.worktree.git import PATH_HINT, Git
from providers.worktree.ignore_file import load
from providers.worktree.listing import Listing
from providers.worktree.private import without_private
from providers.worktree.repositories import Repositories
from providers.worktree.repository_folder import add_git_folder, require_git_folder
from providers.worktree.tree import ScanOptions, Tree
from providers.worktree.walk import Place, walk


def scan(root: Path, options: ScanOptions) -> Tree:
    """What is to be copied. Without `path_mode` it is the whole repository that `root` is in.

    Raises `UsageFailure` where `root` is no folder, in no repository or private, and for rules that cannot be read;
    `SyncFailure` where git does not answer.
    """
    folder = require_folder(root)
    tree = _scan_folder(folder, options) if options.path_mode else _scan_repository(folder, options)
    return without_private(tree, options.private)


def require_folder(root: Path) -> bytes:
    """The folder, absolute and without links. Raises `UsageFailure` where it is none."""
    try:
        folder = os.path.realpath(os.fsencode(root), strict=True)
        os.scandir(folder).close()
    except OSError as error:
        raise UsageFailure(f"{root} is no folder that can be read: {error.strerror}", hint=PATH_HINT) from error
    return folder


def _scan_repository(folder: bytes, options: ScanOptions) -> Tree:
    with Git(options.git_timeout_s) as git:
        repositories = Repositories(git, folder)
        choice = repositories.choice
        if options.with_git:
            require_git_folder(repositories.top)
        gathering = Gathering(repositories.top)
        omitted: list[bytes] = []
        missing: list[bytes] = []
        unstaged: list[bytes] = []
        notes: list[str] = []
        for listing in repositories:
            if not listing.wanted:
                _bring_back(gathering, choice, listing)
                continue
            prefix, index = listing.prefix, listing.index
            # git goes through the rest of the tree while these are looked at.
            gone = gathering.files(choice.tracked(index.tracked, prefix))
            omitted += gathering.files(choice.tracked(index.skipped, prefix))
            missing += gone + gathering.folders(choice.tracked([path + b"/" for path in index.modules], prefix))
            others = listing.others(_folders_among(gone, gathering.root, prefix))
            environments = others.environments
            gathering.files(choice.untracked(others.untracked, prefix, environments))
            gathering.folders(choice.untracked([path + b"/" for path in others.empty], prefix, environments))
            gathering.files(choice.brought_back(listing.ignored, prefix))
            _close(gathering, choice, listing, environments)
            if options.with_git:
                add_git_folder(gathering, choice, prefix)
            unstaged += choice.tracked(listing.unstaged, prefix)
            notes += listing.notes
    if unstaged:
        here = {entry.path for entry in gathering.entries}
        missing += [path for path in unstaged if path not in here]
    left_out = set(omitted)
    missing = [path for path in missing if path not in left_out]
    return gathering.tree(omitted=omitted, missing=missing, left_out=choice.left_out, notes=notes)


def _folders_among(paths: list[bytes], root: bytes, prefix: bytes) -> list[bytes]:
    """What is a folder of these, relative to the repository: each stands in the place of a tracked file."""
    found = [path for path in paths if os.path.isdir(root + b"/" + path)]  # noqa: PTH112 - paths are bytes here
    return [path[len(prefix) :] for path in found]


def _close(gathering: Gathering, choice: Choice, listing: Listing, environments: tuple[bytes, ...]) -> None:
    """Takes down the folders that git could not read, where what is in them would be copied."""
    prefix, closed, ignored = listing.prefix, listing.closed, listing.closed_ignored
    for path in closed:
        for whole in choice.untracked([path + b"/"], prefix, environments):
            gathering.close(whole[:-1], closed[path])
    for path in ignored:
        for whole in choice.brought_back([path + b"/"], prefix):
            gathering.close(whole[:-1], ignored[path])


def _bring_back(gathering: Gathering, choice: Choice, listing: Listing) -> None:
    """Of a repository in a place that is left out: what `.rentrollignore` names with `!`."""
    for paths in (listing.index.tracked, listing.others().untracked, listing.ignored):
        gathering.files(choice.brought_back(paths, listing.prefix))


def _scan_folder(folder: bytes, options: ScanOptions) -> Tree:
    if options.with_git:
        require_git_folder(folder)
    choice = Choice(load(folder))
    gathering = Gathering(folder)
    found = walk(folder, b"", Place.OPEN, choice, with_git=options.with_git, closed=gathering.close)
    gathering.files(found.files)
    gathering.folders(found.empty)
    return gathering.tree(omitted=(), missing=(), left_out=choice.left_out, notes=())
