"""What never leaves this machine, whatever git and the rules say: the keys of the leases."""

from msgspec.structs import replace

from ledger.domain.errors import UsageFailure
from ledger.domain.syncing import shown
from providers.worktree.tree import Tree

WHY = "rentroll's own folder, which holds keys"


def is_within(path: bytes, folder: bytes) -> bool:
    """Whether an absolute path is a folder or below it."""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def without_private(tree: Tree, private: tuple[bytes, ...]) -> Tree:
    """The tree without these folders. Raises `UsageFailure` where the whole tree is inside one."""
    base = tree.root.rstrip(b"/") + b"/"
    for folder in private:
        if is_within(tree.root, folder):
            raise UsageFailure(f"{shown(tree.root)} is inside {WHY}", hint="copy another folder")
        inner = folder.removeprefix(base)
        kept = [entry for entry in tree.entries if not is_within(entry.path, inner)]
        if len(kept) != len(tree.entries):
            files = [entry for entry in kept if entry.kind != "d"]
            tree = replace(
                tree,
                entries=kept,
                refused=(*tree.refused, (inner, WHY)),
                files=len(files),
                total_bytes=sum(entry.size for entry in files),
            )
    return tree
