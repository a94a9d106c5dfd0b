"""`rentroll cleanup`: finishes what was left open and deletes what has expired, or says what there is to do."""

import click

from cli.app import App
from cli.options import LeaseName, as_json, endpoint


@click.command(name="cleanup")
@click.option("--dry-run", is_flag=True, help="Show what would be done, from the ledger alone.")
@click.option("--only", multiple=True, metavar="LEASE", type=LeaseName(), help="Only this lease; may be repeated.")
@endpoint
@as_json
@click.pass_obj
def command(app: App, dry_run: bool, only: tuple[str, ...], api_url: str | None, as_json: bool) -> int:
    """Finish what a crash or a fault left open, and delete what has expired.

    The exit code is 10 while something that may cost money is left.
    """
    from cli.recovering import Wish, carry_out

    app.use_flags(fal_api_url=api_url)
    return carry_out(app, Wish("cleanup", only, expires=True, dry_run=dry_run, as_json=as_json))
