"""`rentroll sync [LEASE]`: copies the working tree to a box."""

import os
from typing import TYPE_CHECKING, Any

import click

from cli.app import App
from cli.leases import about, find_or_only
from cli.options import LeaseName, as_json
from cli.render import emit, note
from ledger.domain.errors import Interrupted, SyncFailure
from ledger.domain.units import parse_duration_ms

if TYPE_CHECKING:
    from cli.trees import Trees
    from ledger.domain.state import Lease
    from ledger.domain.syncing import SyncDone
    from ledger.flows.services import Stage

OF_TREE = ("path", "with_git", "allow_mass_deletions", "force_large")


@click.command(name="sync")
@click.argument("lease", type=LeaseName(), required=False)
@click.option("--path", metavar="DIR", help="This folder as it is, instead of what git says.")
@click.option("--with-git", is_flag=True, help="The .git folder too.")
@click.option("--allow-mass-deletions", is_flag=True, help="Also where 200 or more tracked files are deleted.")
@click.option("--force-large", is_flag=True, help="Also 150,000 files or 20 GiB and more.")
@click.option("--no-rsync", is_flag=True, help="Without rsync, also where both sides have it.")
@click.option("--reclaim", is_flag=True, help="Take the lease over from another repository.")
@click.option("--lock-timeout", metavar="TIME", default="10m", show_default=True, help="How long to wait for others.")
@as_json
@click.pass_obj
def command(app: App, /, lease: str | None, as_json: bool, **flags: Any) -> None:
    """Copy the working tree to a box.

    What differs is sent, and what an earlier sync put there and is not here any more is deleted. What a command has
    changed on the box is replaced by what is here, and named.
    """
    from cli.belonging import require_ours
    from cli.sync_progress import SyncProgress
    from cli.trees import TreeFlags, Trees

    app.purpose = "sync"
    limit_s = parse_duration_ms(flags["lock_timeout"]) / 1000
    held = require_ours(app, find_or_only(app, lease).lease_id, reclaim=flags["reclaim"])
    with SyncProgress(is_shown=app.is_terminal and not as_json, color=app.options.color) as progress:
        tree_flags = TreeFlags(*(flags[name] for name in OF_TREE))
        trees = Trees(
            tree_flags, private=app.state_dir, progress=progress, may_rsync=not flags["no_rsync"] and app.has_system_ssh
        )
        _sync(app, held, trees, limit_s)
    done = trees.done
    if done is None:
        raise ValueError("a sync that has ended says what it did")
    if as_json:
        emit("sync", {**_lease_fields(app, held), "sync": _fields(done)})
    else:
        note(f"{held.slug}: {_words(done)}")


def _sync(app: App, held: "Lease", trees: "Trees", lock_timeout_s: float) -> None:
    from cli.alive import signs_of_life
    from cli.trees import GOES_ON
    from ledger.domain.events import Touched
    from ledger.domain.ports import NoAgent

    services = app.services(_told, with_provider=False)
    services.book.record(held.lease_id, Touched(cause="sync"))  # a sign of life before the box is touched
    try:
        with about(app, held), signs_of_life(app, held.lease_id, "sync", warns=True):
            trees.sync(services, held, lock_timeout_s=lock_timeout_s)
    except NoAgent as without:
        raise SyncFailure(f"{without.message} Nothing was copied.", hint=without.hint, lease_id=held.lease_id) from None
    except Interrupted as interrupted:
        interrupted.left = GOES_ON
        interrupted.lease_id = held.lease_id
        raise


def _told(stage: "Stage") -> None:
    note(f"{stage.slug}: {stage.detail}")


def _lease_fields(app: App, held: "Lease") -> dict[str, Any]:
    from ledger.domain.claim import lease_object

    return {"lease": lease_object(app.book.claim(held.lease_id), app.now(), app.keys_root)}


def _fields(done: "SyncDone") -> dict[str, Any]:
    return {
        "files": done.files,
        "sent_files": done.sent_files,
        "sent_bytes": done.sent_bytes,
        "deleted_files": done.deleted_files,
        "overwritten": [os.fsdecode(path) for path in done.overwritten],
        "duration_seconds": done.duration_ms / 1000,
        "manifest_digest": done.manifest_digest,
    }


def _words(done: "SyncDone") -> str:
    from providers.worktree.names import amount, counted

    what = [f"{counted(done.files, 'file')} in place"]
    if done.sent_files:
        what.append(f"{done.sent_files:,} sent ({amount(done.sent_bytes)})")
    if done.deleted_files:
        what.append(f"{done.deleted_files:,} deleted")
    if done.overwritten:
        what.append(f"{len(done.overwritten):,} of a command's replaced")
    if done.changed_nothing:
        what.append("nothing differed")
    return f"{', '.join(what)}, in {done.duration_ms / 1000:.2g} s"
