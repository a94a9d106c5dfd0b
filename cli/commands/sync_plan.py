"""`rentroll sync-plan`: what a sync of this folder would copy, and why; nothing leaves this machine."""

import heapq
import os
from pathlib import Path
from typing import Any

import click

from cli.app import App
from cli.options import as_json
from cli.render import emit, say, table
from ledger.domain.errors import SyncFailure
from ledger.domain.syncing import shown, some
from providers.worktree.explain import Explanation, explain
from providers.worktree.guard import refusals, size, warnings
from providers.worktree.names import amount, counted
from providers.worktree.scan import scan
from providers.worktree.tree import ScanOptions, Tree

LARGEST = 5


@click.command(name="sync-plan")
@click.option("--path", "folder", metavar="DIR", help="This folder as it is, instead of what git says.")
@click.option("--with-git", is_flag=True, help="The .git folder too.")
@click.option("--explain", "paths", multiple=True, metavar="PATH", help="Name the rule for a path; may be repeated.")
@as_json
@click.pass_obj
def command(app: App, folder: str | None, with_git: bool, paths: tuple[str, ...], as_json: bool) -> int:
    """Show what would be copied, and why.

    The exit code is 6 where a sync would be refused.
    """
    root = Path(folder if folder is not None else ".")
    private = os.fsencode(os.path.realpath(app.state_dir))
    options = ScanOptions(path_mode=folder is not None, with_git=with_git, private=(private,))
    explained = [(path, explain(root, Path(path), options)) for path in paths]
    if explained and not as_json:
        for path, explanation in explained:
            _say_explanation(os.fsencode(path), explanation)
        return 0
    tree = scan(root, options)
    refused = list(refusals(tree))
    if as_json:
        emit("sync-plan", {**_fields(tree, refused), "explanations": [_explained(*each) for each in explained]})
    else:
        _say_plan(tree, refused)
    return SyncFailure.exit_code if refused else 0


def _fields(tree: Tree, refused: list[SyncFailure]) -> dict[str, Any]:
    return {
        "ok": not refused,
        "root": _text(tree.root),
        "files": tree.files,
        "folders": len(tree.entries) - tree.files,
        "bytes": tree.total_bytes,
        "digest": tree.digest,
        "largest": [{"path": _text(path), "bytes": size_bytes} for size_bytes, path in _largest(tree)],
        "deleted": [_text(path) for path in tree.missing],
        "omitted": len(tree.omitted),
        "left_out": [_text(path) for path in tree.left_out],
        "not_copied": [{"path": _text(path), "reason": why} for path, why in (*tree.refused, *tree.unreadable)],
        "leading_out": [{"path": _text(path), "target": _text(target)} for path, target in tree.strays],
        "warnings": list(warnings(tree)),
        "refusals": [{"message": refusal.message, "hint": refusal.hint} for refusal in refused],
    }


def _explained(path: str, explanation: Explanation) -> dict[str, Any]:
    return {"path": path, **explanation._asdict()}


def _text(path: bytes) -> str:
    """A name in JSON: bytes that are no UTF-8 are lone surrogates, which ASCII JSON keeps."""
    return os.fsdecode(path)


def _largest(tree: Tree) -> list[tuple[int, bytes]]:
    return heapq.nlargest(LARGEST, ((entry.size, entry.path) for entry in tree.entries if entry.kind == "f"))


def _say_explanation(path: bytes, explanation: Explanation) -> None:
    verb = "is copied" if explanation.included else "is not copied"
    say(f"{shown(path)} {verb}: {explanation.rule}")
    say(f"  {explanation.source}")


def _say_plan(tree: Tree, refused: list[SyncFailure]) -> None:
    say(f"{shown(tree.root)}: {size(tree)}, {counted(len(tree.entries) - tree.files, 'folder')}")
    if tree.omitted:
        say(f"{counted(len(tree.omitted), 'file')} left out by the sparse checkout, which are no deletions")
    if tree.missing:
        say(f"{counted(len(tree.missing), 'tracked file')} deleted here: {some(tree.missing)}")
    if tree.left_out:
        say(f"left out by built-in excludes: {some(tree.left_out)}")
    if largest := _largest(tree):
        say()
        table(("LARGEST", "SIZE"), [(shown(path), amount(size_bytes)) for size_bytes, path in largest])
    for sentence in warnings(tree):
        say(f"warning: {sentence}")
    for refusal in refused:
        say(f"REFUSED: {refusal.message}")
        if refusal.hint:
            say(f"  hint: {refusal.hint}")
