"""`rentroll rotate`: another API key of the same account takes over every lease of the old one (W-20, W-21)."""

from typing import TYPE_CHECKING, Any

import click

from cli.app import OLD_KEY_VARIABLE, App
from cli.options import LeaseName, as_json, endpoint
from cli.render import emit, say, table
from ledger.domain.errors import CredentialsFailure, UsageFailure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.domain.claim import Claim
    from ledger.domain.state import Lease
    from ledger.flows.rotate import OldKey


@click.command(name="rotate")
@click.option("--dry-run", is_flag=True, help="Ask with both keys, and show the leases; change nothing.")
@click.option(
    "--confirm",
    "lost",
    multiple=True,
    metavar="LEASE",
    type=LeaseName(),
    help="Where the old key is lost: this lease is of the new key's account, which sees another box of the old one.",
)
@endpoint
@as_json
@click.pass_obj
def command(app: App, dry_run: bool, lost: tuple[str, ...], api_url: str | None, as_json: bool) -> None:
    """Bind every lease of the old API key to the new one.

    The old key is read from RENTROLL_FAL_KEY_OLD, the new one as ever. Both must be accepted now and be of one account.
    """
    app.use_flags(fal_api_url=api_url)
    app.purpose = "rotate"
    if lost:
        if dry_run:
            raise UsageFailure("--confirm goes without --dry-run", hint="it changes only the leases that are named")
        _show(_confirmed(app, lost), "confirmed", dry_run=False, as_json=as_json)
        return
    _rotate(app, dry_run=dry_run, as_json=as_json)


def _confirmed(app: App, names: "Sequence[str]") -> "list[Lease]":
    """The leases under the new key, by the word of a person and what this key sees of the old one's boxes."""
    from cli.actions import told
    from cli.leases import find
    from ledger.flows.rebind import own_account

    claims = [find(app, name) for name in names]
    services = app.services(told)
    return [own_account(services, services.book.load(claim.lease_id), confirmed=True) for claim in claims]


def _rotate(app: App, *, dry_run: bool, as_json: bool) -> None:
    from cli.actions import told
    from ledger.flows.rotate import leases_of, prove_one_account, rotate

    old_key = app.old_api_key()
    if old_key is None:
        raise CredentialsFailure(
            f"the old API key is required from {OLD_KEY_VARIABLE}",
            hint=f"set {OLD_KEY_VARIABLE} to the key that is replaced, and RENTROLL_FAL_KEY to the new one",
        )
    with app.reader() as reader:
        if not reader.head().position:
            _show([], None, dry_run=dry_run, as_json=as_json)
            return
    services = app.services(told)
    with app.provider(key=old_key) as provider:
        old = _old(app, provider, old_key)
        if dry_run:
            evidence = prove_one_account(services, old).evidence
            _show(leases_of(services, old), evidence, dry_run=True, as_json=as_json)
        else:
            fact, leases = rotate(services, old)
            _show(leases, fact.evidence, dry_run=False, as_json=as_json)


def _old(app: App, provider: Any, key: str) -> "OldKey":
    from ledger.domain.credentials import credential_binding
    from ledger.flows.rotate import OldKey

    return OldKey(provider=provider, credential_binding=credential_binding(app.register.salt(), key))


def _show(leases: "Sequence[Claim | Lease]", evidence: str | None, *, dry_run: bool, as_json: bool) -> None:
    result = "not done: dry run" if dry_run else "rebound"
    if as_json:
        shown = [
            {
                "lease_id": lease.lease_id,
                "slug": lease.slug,
                "instance_id": lease.instance_id,
                "phase": lease.phase,
                "result": result,
            }
            for lease in leases
        ]
        emit("rotate", {"dry_run": dry_run, "evidence": evidence, "leases": shown})
    elif leases:
        table(("LEASE", "PHASE", "RESULT"), [(lease.slug, str(lease.phase), result) for lease in leases])
    else:
        say("no lease of the old key is open or looked for")
