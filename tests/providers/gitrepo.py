"""Real git repositories for the tests of what is copied."""

import os
import subprocess
from pathlib import Path

from providers.agent.manifest import Entry
from providers.worktree.scan import scan
from providers.worktree.tree import ScanOptions, Tree


class GitRepo:
    """A repository in a folder that is made for it. Paths are text, or bytes where they are no text."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.folder, check=True, capture_output=True)
        return os.fsdecode(done.stdout)

    def write(self, *paths: str | bytes, text: str = "x\n") -> None:
        for path in paths:
            file = self.folder / os.fsdecode(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def commit(self, *paths: str | bytes, text: str = "x\n") -> None:
        """Writes these files and commits all that there is."""
        self.write(*paths, text=text)
        self.git("add", "-A")
        self.git("commit", "-qm", "more", "--allow-empty")

    def tree(self, *, below: str = ".", with_git: bool = False) -> Tree:
        return scan(self.folder / below, ScanOptions(with_git=with_git))


def files(tree: Tree) -> list[str]:
    """The files and links of a tree."""
    return [os.fsdecode(entry.path) for entry in tree.entries if entry.kind != "d"]


def folders(tree: Tree) -> list[str]:
    """The folders of a tree."""
    return [os.fsdecode(entry.path) for entry in tree.entries if entry.kind == "d"]


def entry(tree: Tree, path: str) -> Entry:
    """The one entry of a path."""
    return next(entry for entry in tree.entries if entry.path == os.fsencode(path))
