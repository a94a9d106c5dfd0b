"""`rentroll cleanup --dry-run`: what has expired or was left unfinished, from the ledger alone."""

import itertools
from pathlib import Path
from typing import Any

import click

from cli.app import App
from cli.failures import error_object
from cli.leases import find
from cli.options import LeaseName, as_json
from cli.render import emit, say, table
from ledger.domain.claim import Claim
from ledger.domain.errors import RentrollError, UsageFailure
from ledger.domain.plan import Action, plan
from ledger.store.locks import is_worked_on


@click.command(name="cleanup")
@click.option("--dry-run", is_flag=True, help="Show what would be done.")
@click.option("--only", multiple=True, metavar="LEASE", type=LeaseName(), help="Only this lease; may be repeated.")
@as_json
@click.pass_obj
def command(app: App, dry_run: bool, only: tuple[str, ...], as_json: bool) -> int:
    """Show what has expired or was left unfinished."""
    if not dry_run:
        raise UsageFailure(
            "cleanup without --dry-run is not built yet", hint="`rentroll stop LEASE` gives each lease back"
        )
    claims, unknown = _chosen(app, only)
    actions = plan(claims, now=app.now(), is_worked_on=_worked_on(app, claims))
    if as_json:
        shown = [*map(_shown, actions), *itertools.starmap(_not_found, unknown)]
        emit("cleanup", {"dry_run": True, "actions": shown})
    elif unknown:
        raise unknown[0][1]
    elif actions:
        table(("LEASE", "ACTION", "REASON"), [(a.slug, a.action, a.reason) for a in actions])
    else:
        say("no open leases")
    return unknown[0][1].exit_code if unknown else 0


def _chosen(app: App, only: tuple[str, ...]) -> tuple[list[Claim], list[tuple[str, RentrollError]]]:
    """The open leases, or those of `only`; and the names that mean none."""
    with app.reader() as reader:
        claims = reader.claims()
    wanted, unknown = set(), []
    for name in only:
        try:
            wanted.add(find(app, name).lease_id)
        except RentrollError as failure:
            unknown.append((name, failure))
    return [claim for claim in claims if not only or claim.lease_id in wanted], unknown


def _worked_on(app: App, claims: list[Claim]) -> frozenset[str]:
    folder = Path(app.locks_folder)
    return frozenset(claim.lease_id for claim in claims if is_worked_on(folder, claim.lease_id))


def _not_found(name: str, failure: RentrollError) -> dict[str, Any]:
    blank = {"lease_id": None, "slug": name, "instance_id": None, "action": "none", "reason": "--only"}
    return {**blank, "result": "failed", "error": error_object(failure)["error"]}


def _shown(action: Action) -> dict[str, Any]:
    result = "nothing to do" if action.action == "none" else "not done: dry run"
    return {
        "lease_id": action.lease_id,
        "slug": action.slug,
        "instance_id": action.instance_id,
        "action": action.action,
        "reason": action.reason,
        "result": result,
    }
