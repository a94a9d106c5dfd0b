"""`rentroll ssh-config`: what plain ssh, rsync, scp and editors need to reach the boxes by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.app import App
from cli.leases import find
from cli.options import LeaseName, as_json
from cli.render import emit, note, say
from ledger.domain.errors import UsageFailure
from ledger.flows.work import endpoint_of

if TYPE_CHECKING:
    from ledger.domain.claim import Claim

PREFIX = "rentroll-"
"""What a host's name begins with, so that no slug hides a host of the user's own."""
FILE = "ssh_config"
HEADING = "# Written by `rentroll ssh-config --write`, which replaces it; changes made here are lost.\n"


@click.command(name="ssh-config")
@click.argument("leases", type=LeaseName(), nargs=-1, metavar="[LEASE]...")
@click.option("--write", is_flag=True, help="Write the file to be included, for all leases.")
@as_json
@click.pass_obj
def command(app: App, leases: tuple[str, ...], write: bool, as_json: bool) -> None:
    """Name the ready boxes for plain ssh, rsync and editors.

    A box whose slug is SLUG becomes the host rentroll-SLUG, with its own key and its pinned host key. Without LEASE it
    is every ready lease of this ledger. The blocks are printed; with --write they go to a file in the state folder,
    which is then as the ledger is: boxes that were given back are gone from it. Include it at the top of ~/.ssh/config,
    and write it again when a lease was made.

    What such programs do is no sign of life: renew the lease with `rentroll touch`, or keep it.
    """
    if write and leases:
        raise UsageFailure("--write is for all leases at once", hint="leave out the names, or leave out --write")
    claims = [find(app, name) for name in leases] if leases else _all_ready(app)
    blocks = [_block(app, claim) for claim in claims]
    path = _write(app, blocks) if write else None
    if as_json:
        emit("ssh-config", {"path": path, "hosts": [_told(claim) for claim in claims]})
    elif path is None:
        for block in blocks:
            say(block)
    else:
        note(f"{len(blocks)} in {path}; the first line of ~/.ssh/config should be:")
        say(f"Include {_quoted(path)}")


def _all_ready(app: App) -> "list[Claim]":
    with app.reader() as reader:
        return [claim for claim in reader.claims() if claim.phase == "ready"]


def _block(app: App, claim: "Claim") -> str:
    from providers.ssh.openssh import host_block

    endpoint = endpoint_of(app.register.load(claim.lease_id))
    return host_block(PREFIX + claim.slug, endpoint, Path(app.keys_root))


def _write(app: App, blocks: list[str]) -> str:
    from ledger.store.private_files import keep_private_file

    path = Path(app.state_dir) / FILE
    try:
        keep_private_file(path, "\n".join([HEADING, *blocks]).encode(errors="surrogateescape"))
    except OSError as error:
        raise UsageFailure(f"{path} could not be written: {error.strerror or error}") from error
    return str(path)


def _told(claim: "Claim") -> dict[str, Any]:
    return {
        "host": PREFIX + claim.slug,
        "lease_id": claim.lease_id,
        "slug": claim.slug,
        "address": claim.ssh_host,
        "port": claim.ssh_port,
        "user": claim.ssh_user,
    }


def _quoted(path: str) -> str:
    """A path for `Include`, which is split at spaces and expands what looks like a pattern (glob(7))."""
    import glob

    escaped = glob.escape(path).replace('"', '\\"')
    return f'"{escaped}"' if any(mark in path for mark in " \t\"'#") else escaped
