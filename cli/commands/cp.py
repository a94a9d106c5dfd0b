"""`rentroll cp SRC… DST`: files and folders to a box or from it; one side is `LEASE:PATH`."""

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import click

from cli.alive import signs_of_life
from cli.app import App
from cli.belonging import require_ours
from cli.copying import CopyProgress, copier, size
from cli.leases import about, find_or_only
from cli.options import as_json
from cli.render import emit, note
from ledger.domain import events as e
from ledger.domain.copying import Copied, CopyOrder
from ledger.domain.errors import Interrupted, UsageFailure
from ledger.domain.lease import decide
from ledger.flows.copy import copy, not_all
from ledger.flows.work import endpoint_of, place_of
from providers.agent.copy_plan import name_of

if TYPE_CHECKING:
    from ledger.domain.state import Lease

CAUSE = "cp"
STAYS = "what was copied stays, and the same command goes on from there"


class Side(NamedTuple):
    """One argument. `lease` is None here, and empty for the repository's only one."""

    lease: str | None
    path: str


@click.command(name="cp")
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@click.argument("target", metavar="DST")
@click.option("--reclaim", is_flag=True, help="Take the lease over from the repository that it belongs to.")
@as_json
@click.pass_obj
def command(app: App, sources: tuple[str, ...], target: str, reclaim: bool, as_json: bool) -> None:
    """Copy files and folders to a box or from it.

    One side is LEASE:PATH, or :PATH for the only open lease of this repository. On the box ~/x is in the login's home
    and a relative path in the lease's work folder. A name of this machine that has a colon is written ./a:b.

    As with cp -r, SRC goes into DST where that is a folder, and otherwise gets its name; SRC/. is what is in SRC.
    Where DST ends in / or there are several SRC, DST is a folder and is made if it is missing. Folders are merged; a
    file or a link in the way is replaced, whole or not at all. Modes, times of files, links as links and any name
    arrive as they are.

    A copy that was cut goes on where it stopped when the same command is typed again, and by itself a few times. What
    is there already is not sent again, which a hash on both sides proves.
    """
    order, name = _order([_side(text) for text in sources], _side(target))
    claim = find_or_only(app, name)
    lease = require_ours(app, claim.lease_id, reclaim=reclaim)
    endpoint_of(lease)
    sign = e.Touched(cause=CAUSE)
    decide(lease, sign, app.now())
    app.book.record(lease.lease_id, sign)
    began_s = time.monotonic()
    try:
        with about(app, lease):
            done = _copy(app, lease, order, quiet=as_json)
    except Interrupted as interrupted:
        interrupted.left, interrupted.lease_id = STAYS, lease.lease_id
        raise
    for failure in done.failures[1:]:
        note(f"not copied: {failure}")
    for failure in done.failures:
        raise not_all(failure, len(done.failures))
    if as_json:
        counts = {name: getattr(done, name) for name in ("files", "folders", "links", "bytes", "kept_bytes")}
        direction = "to-box" if order.to_box else "from-box"
        seconds = round(time.monotonic() - began_s, 3)
        emit(
            "cp",
            {
                "lease_id": lease.lease_id,
                "slug": lease.slug,
                "direction": direction,
                **counts,
                "duration_seconds": seconds,
            },
        )
    else:
        note(_in_words(done, lease.slug, to_box=order.to_box))


def _copy(app: App, lease: "Lease", order: CopyOrder, *, quiet: bool) -> Copied:
    from cli.clock import SystemClock

    app.interrupts.stop_command = None
    clock = SystemClock(app.random_token())
    with signs_of_life(app, lease.lease_id, CAUSE), CopyProgress(app, quiet=quiet) as progress:
        return copy(copier(app), endpoint_of(lease), place_of(lease), order, clock, progress)


def _side(text: str) -> Side:
    """As with scp: what stands before a colon is a lease, unless a slash comes first."""
    before, colon, path = text.partition(":")
    return Side(before, path) if colon and "/" not in before else Side(None, text)


def _order(sources: list[Side], target: Side) -> tuple[CopyOrder, str | None]:
    """What is to be copied, and the name of the lease, None for the repository's only one."""
    leases = {side.lease for side in sources}
    if len(leases) > 1 or (target.lease is None) == (None in leases):
        raise UsageFailure(
            "one side of a copy is on the box and the other one is here",
            hint="write the one on the box as LEASE:PATH, or :PATH, and a name here that has a colon as ./a:b",
        )
    to_box = target.lease is not None
    name = target.lease if to_box else leases.pop()
    here = sources if to_box else [target]
    if not all(side.path for side in here):
        raise UsageFailure("an empty path names nothing here")
    names = [name_of(os.fsencode(side.path)) for side in sources]
    if len(set(names)) < len(names):
        raise UsageFailure("two sources have the same name, and one would replace the other")
    order = CopyOrder(
        to_box=to_box,
        sources=tuple(os.fsencode(side.path) for side in sources),
        target=os.fsencode(target.path),
        into=len(sources) > 1 or target.path.endswith("/"),
    )
    return order, name or None


def _in_words(done: Copied, slug: str, *, to_box: bool) -> str:
    files = "1 file" if done.files == 1 else f"{done.files} files"
    there = f"; {size(done.kept_bytes)} were there already" if done.kept_bytes else ""
    return f"{files} {'to' if to_box else 'from'} {slug}, {size(done.bytes)} sent{there}"
