"""`rentroll forward LEASE PORT…`: ports of the box on this machine's loopback, until Ctrl-C."""

import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.alive import signs_of_life
from cli.app import App
from cli.belonging import require_ours
from cli.leases import about, find
from cli.options import LeaseName, as_json
from cli.render import emit, note, say
from ledger.domain import events as e
from ledger.domain.errors import Interrupted, SshFailure, UsageFailure
from ledger.domain.lease import decide
from ledger.flows.work import endpoint_of

if TYPE_CHECKING:
    from ledger.domain.ports import Endpoint
    from providers.ssh.forwarding import Forward, Forwarding
    from providers.ssh.library_forwarding import LibraryForwarding

CAUSE = "forward"
LOOK_S = 5.0
"""How often it is looked whether the lease still is what it was."""
HIGHEST_PORT = 65_535
_PORTS = re.compile(r"(?:([0-9]{1,5}):)?([0-9]{1,5})", re.ASCII)


@click.command(name="forward")
@click.argument("lease", type=LeaseName())
@click.argument("ports", nargs=-1, required=True, metavar="[LOCAL:]REMOTE...")
@click.option("--reclaim", is_flag=True, help="Take the lease over from the repository that it belongs to.")
@as_json
@click.pass_obj
def command(app: App, lease: str, ports: tuple[str, ...], reclaim: bool, as_json: bool) -> int:
    """Forward ports of a box to this machine, until Ctrl-C.

    8888 is the box's port 8888 under the same number here, 9000:8888 under another one, 0:8888 under any that is free.
    Only this machine can connect (127.0.0.1), and on the box only what listens there itself is reached (localhost).
    Each port's URL is printed once it can be opened. While this runs the lease does not go idle. Ctrl-C ends it with
    exit code 0; a lost connection or a lease that has ended with 7.
    """
    wanted = [_ports(text) for text in ports]
    claim = find(app, lease)
    state = require_ours(app, claim.lease_id, reclaim=reclaim)
    endpoint = endpoint_of(state)
    sign = e.Touched(cause=CAUSE)
    decide(state, sign, app.now())
    from providers.ssh.forwarding import Forward, free_ports

    forwards = free_ports([Forward(*pair) for pair in wanted])
    app.book.record(claim.lease_id, sign)
    app.interrupts.stop_command = None
    try:
        with (
            about(app, claim),
            signs_of_life(app, claim.lease_id, CAUSE),
            _opened(app, endpoint, forwards) as forwarding,
        ):
            _tell(claim.lease_id, claim.slug, forwards, as_json=as_json)
            _wait(app, claim.lease_id, claim.slug, forwarding)
    except Interrupted as interrupted:
        if interrupted.signal_number != signal.SIGINT:
            raise
    return 0


def _opened(app: App, endpoint: "Endpoint", forwards: "list[Forward]") -> "Forwarding | LibraryForwarding":
    if app.has_system_ssh:
        from providers.ssh.forwarding import Forwarding

        return Forwarding(endpoint, Path(app.keys_root), forwards)
    from providers.ssh.library_forwarding import LibraryForwarding

    return LibraryForwarding(endpoint, Path(app.keys_root), forwards)


def _ports(text: str) -> tuple[int, int]:
    """The local and the remote port that an argument names."""
    found = _PORTS.fullmatch(text)
    remote = int(found[2]) if found else 0
    local = int(found[1]) if found and found[1] is not None else remote
    if not 1 <= remote <= HIGHEST_PORT or local > HIGHEST_PORT:
        raise UsageFailure(f"not a port to forward: {text!r}", hint="write 8888, 9000:8888, or 0:8888 for any free one")
    return local, remote


def _tell(lease_id: str, slug: str, forwards: "list[Forward]", *, as_json: bool) -> None:
    if as_json:
        emit("forward", {"lease_id": lease_id, "slug": slug, "forwards": [_object(each) for each in forwards]})
    else:
        for each in forwards:
            say(f"{each.url} -> {slug}:{each.remote_port}")
    sys.stdout.flush()  # it goes on for hours, and whoever started it waits for this
    note("forwarding; Ctrl-C ends it")


def _object(forward: "Forward") -> dict[str, Any]:
    return {**forward._asdict(), "url": forward.url}


def _wait(app: App, lease_id: str, slug: str, forwarding: "Forwarding | LibraryForwarding") -> None:
    """Returns never: what ends it is raised."""
    while not forwarding.wait(LOOK_S):
        with app.reader() as reader:
            (claim,) = reader.find(lease_id)
        if claim.phase != "ready":
            raise SshFailure(f"{slug} is {claim.phase} now, so nothing is forwarded any more", stage="session")
    raise SshFailure(f"the connection to {slug} was lost", stage="session")
