"""Real git repositories for the tests of what is copied."""

import os
import subprocess
import sys
from pathlib import Path

from providers.agent.manifest import Entry
from providers.worktree.scan import scan
from providers.worktree.tree import ScanOptions, Tree

UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.getuid() == 0 else ()
"""Root reads everything, unless it gives that up."""
LOOK = """
import sys
from pathlib import Path
from providers.worktree.scan import scan
from providers.worktree.tree import ScanOptions
tree = scan(Path(sys.argv[1]), ScanOptions(path_mode=bool(sys.argv[2])))
print(([entry.path for entry in tree.entries], sorted(tree.unreadable), tree.missing, tree.notes))
"""
EXPLAIN = """
import sys
from pathlib import Path
from providers.worktree.explain import explain
from providers.worktree.tree import ScanOptions
included, rule, source = explain(Path(sys.argv[1]), Path(sys.argv[1]) / sys.argv[2], ScanOptions())
print((included, str(rule), source))
"""


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


def seen_unprivileged(folder: Path, *, path_mode: bool = False) -> str:
    """What a process that may not read everything sees: paths, what is unreadable, what is missing, git's notes."""
    return _unprivileged(LOOK, str(folder), "yes" if path_mode else "")


def explained_unprivileged(folder: Path, path: str) -> str:
    """What `explain` tells such a process of a path: whether it is copied, by which rule, and where that stands."""
    return _unprivileged(EXPLAIN, str(folder), path)


def _unprivileged(program: str, *words: str) -> str:
    done = subprocess.run(
        [*UNPRIVILEGED, sys.executable, "-c", program, *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.rstrip("\n")
