"""`rentroll recover`: finishes what a crash or a fault left open; writes off what no evidence can settle."""

import click

from cli.app import App
from cli.options import LeaseName, as_json, endpoint
from ledger.domain.errors import UsageFailure


@click.command(name="recover")
@click.option("--dry-run", is_flag=True, help="Show what would be done, from the ledger alone.")
@click.option("--only", multiple=True, metavar="LEASE", type=LeaseName(), help="Only this lease; may be repeated.")
@click.option("--write-off", is_flag=True, help="Release the one lease of --only although a box of it may exist.")
@click.option("--reason", metavar="TEXT", help="Why it is written off.")
@click.option("--yes", is_flag=True, help="Do not ask before writing off.")
@endpoint
@as_json
@click.pass_obj
def command(
    app: App,
    dry_run: bool,
    only: tuple[str, ...],
    write_off: bool,
    reason: str | None,
    yes: bool,
    api_url: str | None,
    as_json: bool,
) -> int:
    """Finish what a crash or a fault left open; never an acquisition: its box is given back.

    What has expired is left to `cleanup`. The exit code is 10 while something that may cost money is left. What no
    evidence can settle, a person can: --only LEASE --write-off --reason TEXT.
    """
    app.use_flags(fal_api_url=api_url)
    if write_off:
        from cli.writing_off import WriteOff, write_one_off

        if len(only) != 1:
            raise UsageFailure("--write-off goes with --only LEASE, once", hint="one lease at a time is written off")
        if reason is None or not reason.strip():
            raise UsageFailure("--write-off needs --reason", hint="say why nobody has to look for a box of it any more")
        return write_one_off(app, WriteOff(only[0], reason.strip(), yes=yes, dry_run=dry_run, as_json=as_json))
    for flag, is_given in (("--reason", reason is not None), ("--yes", yes)):
        if is_given:
            raise UsageFailure(f"{flag} goes with --write-off")
    from cli.recovering import Wish, carry_out

    return carry_out(app, Wish("recover", only, expires=False, dry_run=dry_run, as_json=as_json))
