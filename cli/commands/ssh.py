"""`rentroll ssh LEASE [-- CMD…]`: a session on the box, or one command, through the system's ssh."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click

from cli.alive import signs_of_life
from cli.app import App
from cli.leases import find_or_only
from cli.options import LeaseName
from cli.render import say
from ledger.domain import events as e
from ledger.domain.errors import UsageFailure
from ledger.domain.lease import decide
from ledger.flows.work import endpoint_of
from providers.ssh.openssh import ssh_command

SIGNAL_BASE = 128


@click.command(name="ssh", context_settings={"ignore_unknown_options": True})
@click.argument("lease", type=LeaseName(), required=False)
@click.argument("remote", nargs=-1, type=click.UNPROCESSED)
@click.option("--print", "print_only", is_flag=True, help="Print the command instead.")
@click.pass_obj
def command(app: App, lease: str | None, remote: tuple[str, ...], print_only: bool) -> int:
    """Open a session on a box, or run one command there."""
    claim = find_or_only(app, lease)
    state = app.register.load(claim.lease_id)
    line = ssh_command(
        endpoint_of(state), Path(app.keys_root), argv=remote or None, tty=None if sys.stdin.isatty() else False
    )
    if print_only:
        say(shlex.join(line))
        return 0
    sign = e.Touched(cause="ssh")
    decide(state, sign, app.now())
    if shutil.which("ssh") is None:
        raise UsageFailure(
            "there is no ssh on this machine", hint=f"use `rentroll run --id {claim.slug} --no-sync -- CMD`"
        )
    app.book.record(claim.lease_id, sign)
    with signs_of_life(app, claim.lease_id, "ssh"):
        code = subprocess.run(line, check=False).returncode
    return SIGNAL_BASE - code if code < 0 else code
