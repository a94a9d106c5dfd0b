"""`rentroll events [LEASE]`: the log, as it is stored."""

import json
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from cli.app import App
from cli.leases import find
from cli.options import LeaseName
from cli.render import WIDTH, clock, cut, say
from ledger.domain.claim import short_time

if TYPE_CHECKING:
    from ledger.domain.rows import Row

FOLLOW_LOOK_S = 0.5
TELLING = ("attempt", "instance_id", "stage", "cause", "outcome", "reason")
TOLD_OF = {
    "create-requested": ("slug", "instance_type", "sector"),
    "ready": ("user", "host", "port"),
    "touched": ("cause",),
    "run-started": ("command",),
    "run-finished": ("exit_code", "signal", "failure"),
    "delete-accepted": ("instance_id",),
}
"""The fields of a payload that tell most, in one line; others are told by `TELLING`."""


@click.command(name="events")
@click.argument("lease", required=False, type=LeaseName())
@click.option("--since", metavar="TIME", help="Only events from this time on.")
@click.option("--until", metavar="TIME", help="Only events before this time.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only events of this type; may be repeated.")
@click.option("--follow", is_flag=True, help="Go on as events are appended.")
@click.option("--jsonl", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def command(
    app: App, lease: str | None, since: str | None, until: str | None, types: tuple[str, ...], follow: bool, jsonl: bool
) -> None:
    """Show the events of one lease, or of the whole ledger."""
    stream = find(app, lease).lease_id if lease is not None else None
    first, last = _bounds(since, until, types)
    after = 0
    while True:
        with app.reader() as reader:
            for row in reader.rows(stream, after=after, types=types):
                after = row.position
                if first <= row.recorded_at < last:
                    _show(row, jsonl=jsonl)
        if not follow:
            return
        sys.stdout.flush()
        time.sleep(FOLLOW_LOOK_S)


def _bounds(since: str | None, until: str | None, types: Iterable[str]) -> tuple[str, str]:
    """The stored texts between which an event counts. Refuses what is no time and no type."""
    if since is None and until is None and not types:
        return "", "~"
    from ledger.domain.errors import UsageFailure
    from ledger.domain.events import EVENT_TYPES
    from ledger.domain.units import format_time, parse_time

    for kind in types:
        if kind not in EVENT_TYPES:
            raise UsageFailure(f"no event type {kind!r}", hint=f"there are {', '.join(sorted(EVENT_TYPES))}")
    return (
        format_time(parse_time(since)) if since is not None else "",
        format_time(parse_time(until)) if until is not None else "~",
    )


def _show(row: "Row", *, jsonl: bool) -> None:
    if jsonl:
        envelope = {**row._asdict(), "recorded_at": short_time(row.recorded_at), "payload": json.loads(row.payload)}
        say(json.dumps(envelope))
        return
    say(cut(f"{row.position:>5} {clock(row.recorded_at)} {row.type:<18} {_summary(row)}".rstrip(), WIDTH))


def _summary(row: "Row") -> str:
    """The words of a payload that tell most, for one line."""
    fields = json.loads(row.payload)
    told = [
        " ".join(value) if isinstance(value, list) else str(value)
        for name in TOLD_OF.get(row.type, TELLING)
        if (value := fields.get(name)) is not None
    ]
    return " ".join(" ".join(told).split())
