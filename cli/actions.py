"""What programs and people see of a recovery: the actions object, the table, the tally and each failure.

Shared by `recover`, `cleanup` and `watch`. Everything is rendered from what has happened, never before it (W-32), and
every cause is told (W-30).
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from cli.failures import error_object, tell_failure
from cli.render import note, say, table
from ledger.domain.errors import RentrollError
from ledger.flows.recover import NOT_BEGUN, Done

if TYPE_CHECKING:
    from collections.abc import Callable

    from ledger.flows.services import Stage

NOTHING_DONE = ("nothing to do", "nothing found", NOT_BEGUN)
"""Results that changed nothing."""


class Unknown(NamedTuple):
    """A name of `--only` that means no lease."""

    name: str
    failure: RentrollError


class Tally(NamedTuple):
    """The leases of one pass, counted: carried out, failed, left as they should be, left though they may cost money.

    `elsewhere` are all open leases of the ledger under other endpoints or keys (W-38); None without a key.
    """

    done: int
    failed: int
    kept: int
    still_billable: int
    elsewhere: int | None


class Report(NamedTuple):
    """One pass or its dry run: what became of each lease, the unknown names, the count and the exit code."""

    dones: list[Done]
    unknown: list[Unknown]
    tally: Tally
    exit_code: int


def told(stage: "Stage") -> None:
    """A step of a flow, on stderr."""
    note(f"{stage.slug}: {stage.name}{f' ({stage.detail})' if stage.detail else ''}")


def told_once() -> "Callable[[Stage], None]":
    """The same, each step of a lease once while it lasts: a box that takes a minute to go is looked at many times."""
    last: dict[str, Stage] = {}

    def tell(stage: "Stage") -> None:
        if last.get(stage.lease_id) != stage:
            last[stage.lease_id] = stage
            told(stage)

    return tell


def report_object(report: Report, *, dry_run: bool) -> dict[str, Any]:
    """The fields of the actions object of the command-line contract, with the tally beside them."""
    unknown = [failed_object(failure, name=name, reason="--only") for name, failure in report.unknown]
    actions = [*map(action_object, report.dones), *unknown]
    return {"dry_run": dry_run, "actions": actions, "tally": report.tally._asdict()}


def action_object(done: Done) -> dict[str, Any]:
    """One action of the actions object; `error` only where it failed."""
    shown = {
        "lease_id": done.action.lease_id,
        "slug": done.action.slug,
        "instance_id": done.action.instance_id,
        "action": done.action.action,
        "reason": done.action.reason,
        "result": done.result,
    }
    return shown if done.error is None else shown | {"error": error_object(done.error)["error"]}


def failed_object(failure: RentrollError, *, name: str | None, reason: str) -> dict[str, Any]:
    """The action of a failure that is no lease's."""
    blank = {"lease_id": None, "slug": name, "instance_id": None, "action": "none", "reason": reason}
    return {**blank, "result": "failed", "error": error_object(failure)["error"]}


def tell_failures(report: Report) -> None:
    """Each failure of a pass on stderr, with its hint and what to type."""
    for done in report.dones:
        if done.error is not None:
            tell_failure(done.action.slug, done.error)
    for unknown in report.unknown:
        tell_failure(unknown.name, unknown.failure)


def show(report: Report, *, dry_run: bool) -> None:
    """The table and the closing tally, for people."""
    if report.dones:
        rows = [(done.action.slug, done.action.action, done.result, done.action.reason) for done in report.dones]
        if dry_run:
            table(("LEASE", "ACTION", "REASON"), [(slug, action, reason) for slug, action, _, reason in rows])
        else:
            table(("LEASE", "ACTION", "RESULT", "REASON"), rows)
    elif not report.unknown:
        say("no open leases")
    if any(report.tally):
        say(tally_line(report.tally, dry_run=dry_run))


def tally_line(tally: Tally, *, dry_run: bool = False) -> str:
    """`1 done, 2 kept, 1 still billable`, and what is out of this key's reach (W-19, W-38)."""
    words = [] if dry_run else [f"{tally.done} done", *([f"{tally.failed} failed"] if tally.failed else [])]
    words += [f"{tally.kept} kept", f"{tally.still_billable} {'to be ended' if dry_run else 'still billable'}"]
    if not tally.elsewhere:
        return ", ".join(words)
    leases = "1 open lease is" if tally.elsewhere == 1 else f"{tally.elsewhere} open leases are"
    return f"{', '.join(words)}; {leases} under other endpoints or keys"
