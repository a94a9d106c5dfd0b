"""A repository with the repositories inside it: submodules, and others that nobody has declared."""

import os
from collections.abc import Iterator

from providers.worktree.choice import Choice
from providers.worktree.git import Git
from providers.worktree.ignore_file import load
from providers.worktree.listing import Listing, Repository

ASKED_AT_ONCE = 4


class Repositories:
    """The repository that a folder is in, and all that is inside. Each says itself what belongs to it.

    Raises `UsageFailure` where the folder is in none, and for a `.rentrollignore` that cannot be read.
    """

    def __init__(self, git: Git, folder: bytes) -> None:
        self._git = git
        self._first = Listing(git, Repository(folder))
        self.top = self._first.top
        self.choice = Choice(load(self.top))

    def __iter__(self) -> Iterator[Listing]:
        """Each repository, the outer ones first. A listing is to be used before the next one is taken."""
        reading, waiting = [self._first], list[Repository]()
        while reading:
            if self.choice.brings_back:
                for listing in reading:
                    listing.ask_ignored()
            for listing in reading:
                yield listing
                waiting += self._inside(listing)
            reading = [Listing(self._git, repository) for repository in waiting[:ASKED_AT_ONCE]]
            del waiting[:ASKED_AT_ONCE]

    def _inside(self, listing: Listing) -> Iterator[Repository]:
        top, prefix, choice = listing.top, listing.prefix, self.choice
        modules = [path + b"/" for path in listing.index.modules if is_repository(top + b"/" + path)]
        others = listing.others()
        nested = others.nested
        untracked = choice.untracked(nested, prefix, others.environments)
        wanted = {*choice.tracked(modules, prefix), *untracked} if listing.wanted else set()
        ignored = [path for path in listing.ignored if path.endswith(b"/")]
        for path in (*modules, *nested, *ignored):
            whole = prefix + path
            if whole in wanted or choice.brings_back:
                yield Repository(top + b"/" + path[:-1], whole, whole in wanted)


def is_repository(folder: bytes) -> bool:
    """Whether a submodule's folder has its repository, and no link stands in its place or above it."""
    there = os.path.exists(folder + b"/.git")  # noqa: PTH110 - paths are bytes here
    return there and os.path.realpath(folder) == folder
