"""`rentroll ssh LEASE [-- CMD…]`: a session on the box, or one command, through the system's ssh where there is one."""

import contextlib
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from cli.alive import signs_of_life
from cli.app import App
from cli.belonging import require_ours
from cli.leases import about, find_or_only
from cli.options import LeaseName
from cli.render import say
from ledger.domain import events as e
from ledger.domain.errors import SshFailure, UsageFailure
from ledger.domain.lease import decide
from ledger.flows.work import endpoint_of
from providers.ssh.openssh import ssh_command

if TYPE_CHECKING:
    from ledger.domain.ports import Endpoint

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
@click.option("--reclaim", is_flag=True, help="Take the lease over from the repository that it belongs to.")
@click.pass_context
def command(ctx: click.Context, lease: str | None, remote: tuple[str, ...], print_only: bool, reclaim: bool) -> int:
    """Open a session on a box, or run one command there.

    Without LEASE it is the only open lease of this repository; a command then comes after `--`. The session goes over
    the connection that is kept open between commands; what is printed works on its own.
    """
    app: App = ctx.obj
    behind = ctx.meta.get(END_OF_OURS)
    if behind is not None and remote:
        raise UsageFailure(f"one LEASE stands before --, not {shlex.join((lease or '', *remote))}")
    remote = behind or remote
    claim = find_or_only(app, lease)
    state = require_ours(app, claim.lease_id, reclaim=reclaim)
    endpoint = endpoint_of(state)
    if print_only:
        # Whether there is a terminal ssh itself finds out, where the line is typed.
        say(shlex.join(ssh_command(endpoint, Path(app.keys_root), argv=remote or None, tty=None)))
        return 0
    sign = e.Touched(cause="ssh")
    decide(state, sign, app.now())
    app.book.record(claim.lease_id, sign)
    has_terminal = sys.stdin.isatty()
    with about(app, claim):
        with signs_of_life(app, claim.lease_id, "ssh"):
            if not app.has_system_ssh:
                return _through_the_library(app, endpoint, remote, has_terminal=has_terminal)
            line = _through_the_open_connection(app, endpoint, remote, has_terminal=has_terminal)
            ours, code = _run_to_its_end(line)
        if ours is None and code == SSH_FAILED and not _is_unread():
            raise SshFailure(
                f"ssh could not work on {claim.slug}, or the command itself ended with {SSH_FAILED}", stage="session"
            )
    if ours is not None:
        return SIGNAL_BASE + ours
    return SIGNAL_BASE - code if code < 0 else code


def _is_unread() -> bool:
    """Whether nobody reads our stdout any more: ssh then ends with 255, as `yes` on the box does of SIGPIPE.

    An ssh that fails by itself meanwhile ends with the same code; it has said why on stderr.
    """
    poll = select.poll()
    poll.register(1, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _through_the_open_connection(
    app: App, endpoint: "Endpoint", remote: tuple[str, ...], *, has_terminal: bool
) -> list[str]:
    """The ssh that uses the connection that `run` keeps open, which is opened if there is none.

    Raises SshFailure naming the stage where the box cannot be reached.
    """
    from providers.ssh.control import answers, socket_path
    from providers.ssh.multiplex import options, started

    keys_root = Path(app.keys_root)
    path = socket_path(endpoint, keys_root)
    if path is None or not answers(path):
        started(endpoint, keys_root)
    tty = None if has_terminal else False
    return ssh_command(endpoint, keys_root, argv=remote or None, tty=tty, extra=options(endpoint, keys_root))


def _through_the_library(app: App, endpoint: "Endpoint", remote: tuple[str, ...], *, has_terminal: bool) -> int:
    from providers.ssh.connection import connect
    from providers.ssh.openssh import quote_argv

    term = (app.variable("TERM") or "xterm") if has_terminal and not remote else None
    with connect(endpoint, Path(app.keys_root)) as connection:
        return connection.converse(quote_argv(remote) if remote else None, term=term)


def _run_to_its_end(line: Sequence[str]) -> tuple[int | None, int]:
    """Runs ssh and outlives it, so that nothing stays that holds the caller's stdout.

    Gives the signal that was to end us, if any, which ssh gets as well, and ssh's own code. An interrupt the terminal
    sends to ssh itself.
    """
    received: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if child is not None:
            child.send_signal(number)

    with _handled(pass_on, signal.SIGTERM, signal.SIGHUP), _handled(lambda *_: None, signal.SIGINT):
        child = subprocess.Popen(line)
        if received:  # before there was a child to pass it on to
            child.send_signal(received[0])
        code = child.wait()
    return (received[0] if received else None), code


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    """Takes signals over for a block, except those that the caller wants ignored (nohup)."""
    before = {number: signal.getsignal(number) for number in numbers}
    taken = [number for number in numbers if before[number] is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])
