"""Judges a tree before a box is paid for: what must not be copied in silence, and what is too much."""

from collections.abc import Iterator

from ledger.domain.errors import SyncFailure
from ledger.domain.syncing import shown, some
from providers.worktree.names import amount, counted
from providers.worktree.tree import Tree

DELETIONS_MAX = 200
FILES_WARN, FILES_MAX = 50_000, 150_000
GIB = 1 << 30
BYTES_WARN, BYTES_MAX = 5 * GIB, 20 * GIB
NAMED_MAX = 20
"""So many paths are named one by one."""


def guard(tree: Tree, *, allow_mass_deletions: bool = False, force_large: bool = False) -> list[str]:
    """What is to be said about a tree, a sentence each. Raises the first of `refusals`."""
    for refusal in refusals(tree, allow_mass_deletions=allow_mass_deletions, force_large=force_large):
        raise refusal
    return list(warnings(tree))


def refusals(tree: Tree, *, allow_mass_deletions: bool = False, force_large: bool = False) -> Iterator[SyncFailure]:
    """Why a tree is not copied as it is; each says what to type.

    Files that cannot be read, 200 or more deleted ones that git tracks, 150,000 files or 20 GiB.
    """
    if tree.unreadable:
        paths = [path for path, _ in tree.unreadable]
        path, why = tree.unreadable[0]
        yield SyncFailure(
            f"{counted(len(paths), 'path')} of what is to be copied cannot be read: {some(paths)}",
            hint=f"{shown(path)}: {why.lower()}; make it readable, or leave it out in .rentrollignore",
        )
    if tree.tracked_missing >= DELETIONS_MAX and not allow_mass_deletions:
        yield SyncFailure(
            f"{tree.tracked_missing:,} files that git tracks are deleted here: {some(tree.missing)}",
            hint="they would be deleted on the box too; if they should be: --allow-mass-deletions; "
            "`git status` shows them",
        )
    if _is_large(tree, FILES_MAX, BYTES_MAX) and not force_large:
        yield SyncFailure(
            f"too much to copy: {size(tree)}; the limit is {FILES_MAX:,} files or {BYTES_MAX // GIB} GiB",
            hint="leave something out in .rentrollignore (`rentroll sync-plan` shows the largest), or: --force-large",
        )


def size(tree: Tree) -> str:
    """How much it is, for people."""
    return f"{counted(tree.files, 'file')}, {amount(tree.total_bytes)}"


def warnings(tree: Tree) -> Iterator[str]:
    """What is to be said about a tree whether or not it is copied, a sentence each."""
    if _is_large(tree, FILES_WARN, BYTES_WARN):
        yield f"this is a lot to copy: {size(tree)}; `rentroll sync-plan` shows the largest"
    yield from _first([f"{shown(path)} is not copied: it is {why}" for path, why in tree.refused])
    yield from _first(
        [
            f"{shown(path)} is a link to {shown(target)}, out of the tree: on the box it leads elsewhere or nowhere"
            for path, target in tree.strays
        ]
    )
    yield from _first([f"git says: {note}" for note in tree.notes])


def _first(sentences: list[str]) -> Iterator[str]:
    yield from sentences[:NAMED_MAX]
    if len(sentences) > NAMED_MAX:
        yield f"and {len(sentences) - NAMED_MAX:,} more such paths; `rentroll sync-plan --json` names them all"


def _is_large(tree: Tree, files: int, total_bytes: int) -> bool:
    return tree.files >= files or tree.total_bytes >= total_bytes
