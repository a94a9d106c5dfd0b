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
from ledger.domain.errors import SshFailure, UsageFailure
from ledger.domain.lease import decide
from ledger.flows.work import endpoint_of
from providers.ssh.openssh import ssh_command

END_OF_OURS = "--"
SIGNAL_BASE = 128
SSH_FAILED = 255
"""What ssh ends with when it fails itself: no connection, another host key, no login (ssh(1), exit status)."""


class _SshCommand(click.Command):
    """Keeps apart what stands behind `--`: with no LEASE before it, its first word is not one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if END_OF_OURS in args:
            at = args.index(END_OF_OURS)
            ctx.meta[END_OF_OURS] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)


@click.command(name="ssh", cls=_SshCommand, context_settings={"ignore_unknown_options": True})
@click.argument("lease", type=LeaseName(), required=False)
@click.argument("remote", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD...]")
@click.option("--print", "print_only", is_flag=True, help="Print the command instead.")
@click.pass_context
def command(ctx: click.Context, lease: str | None, remote: tuple[str, ...], print_only: bool) -> int:
    """Open a session on a box, or run one command there.

    Without LEASE it is the only open lease of this repository; a command then comes after `--`.
    """
    app: App = ctx.obj
    behind = ctx.meta.get(END_OF_OURS)
    if behind is not None and remote:
        raise UsageFailure(f"one LEASE stands before --, not {shlex.join((lease or '', *remote))}")
    remote = behind or remote
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
    if code == SSH_FAILED:
        raise SshFailure(
            f"ssh could not work on {claim.slug}, or the command itself ended with {SSH_FAILED}",
            stage="session",
            next_step=f"rentroll status {claim.slug} --refresh",
        )
    return SIGNAL_BASE - code if code < 0 else code
