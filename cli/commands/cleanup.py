"""`rentroll cleanup --dry-run`: what has expired or was left unfinished, from the ledger alone."""

import click

from cli.app import App
from cli.leases import find
from cli.options import LeaseName, as_json
from cli.render import emit, say, table
from ledger.domain.claim import Claim
from ledger.domain.errors import UsageFailure
from ledger.domain.plan import Action, plan


@click.command(name="cleanup")
@click.option("--dry-run", is_flag=True, help="Show what would be done.")
@click.option("--only", multiple=True, metavar="LEASE", type=LeaseName(), help="Only this lease; may be repeated.")
@as_json
@click.pass_obj
def command(app: App, dry_run: bool, only: tuple[str, ...], as_json: bool) -> None:
    """Show what has expired or was left unfinished."""
    if not dry_run:
        raise UsageFailure(
            "cleanup without --dry-run is not built yet", hint="`rentroll stop LEASE` gives each lease back"
        )
    with app.reader() as reader:
        claims = reader.claims()
    if only:
        wanted = {find(app, name).lease_id for name in only}
        claims = [claim for claim in claims if claim.lease_id in wanted]
    actions = plan(claims, now=app.now(), is_worked_on=_worked_on(app, claims))
    if as_json:
        emit("cleanup", {"dry_run": True, "actions": [_shown(action) for action in actions]})
    elif actions:
        table(("LEASE", "ACTION", "REASON"), [(a.slug, a.action, a.reason) for a in actions])
    else:
        say("no open leases")


def _worked_on(app: App, claims: list[Claim]) -> frozenset[str]:
    """The leases whose lock is held: tried and given back at once."""
    held = set()
    for claim in claims:
        lock = app.lease_lock(claim.lease_id)
        if lock.try_acquire():
            lock.release()
        else:
            held.add(claim.lease_id)
    return frozenset(held)


def _shown(action: Action) -> dict[str, str | None]:
    result = "nothing to do" if action.action == "none" else "not done: dry run"
    return {
        "lease_id": action.lease_id,
        "slug": action.slug,
        "instance_id": action.instance_id,
        "action": action.action,
        "reason": action.reason,
        "result": result,
    }
