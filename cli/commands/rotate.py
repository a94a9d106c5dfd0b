"""`rentroll rotate`: another API key of the same account takes over every lease of the old one (W-20, W-21)."""

import json
from typing import TYPE_CHECKING, Any

import click

from cli.app import OLD_KEY_VARIABLE, App
from cli.failures import error_object, tell_failure
from cli.options import LeaseName, as_json, endpoint
from cli.render import emit, say, table
from ledger.domain.errors import CredentialsFailure, RentrollError, UsageFailure

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
def command(app: App, dry_run: bool, lost: tuple[str, ...], api_url: str | None, as_json: bool) -> int:
    """Bind every lease of the old API key to the new one.

    The old key is read from RENTROLL_FAL_KEY_OLD, the new one as ever. Both must be accepted now and be of one account.
    """
    app.use_flags(fal_api_url=api_url)
    app.purpose = "rotate"
    if lost:
        if dry_run:
            raise UsageFailure("--confirm goes without --dry-run", hint="it changes only the leases that are named")
        return _confirm(app, lost, as_json=as_json)
    _rotate(app, dry_run=dry_run, as_json=as_json)
    return 0


def _confirm(app: App, names: "Sequence[str]", *, as_json: bool) -> int:
    """Takes leases over by the word of a person and what this key sees; a failure keeps no other from its turn.

    Gives the exit code of the first failure.
    """
    from cli.leases import find, with_our_flags

    shown: list[dict[str, Any]] = []
    code = 0
    for name in dict.fromkeys(names):
        claim: Claim | None = None
        try:
            claim = find(app, name)
            shown.append(_confirmed(app, claim))
        except RentrollError as failure:
            with_our_flags(app, failure)
            tell_failure(claim.slug if claim else name, failure)
            shown.append(_failed(claim, name, failure))
            code = code or failure.exit_code
    proofs = {lease["evidence"] for lease in shown}
    _print(shown, proofs.pop() if len(proofs) == 1 else None, dry_run=False, as_json=as_json)
    return code


def _failed(claim: "Claim | None", name: str, failure: RentrollError) -> dict[str, Any]:
    fields = ("lease_id", "slug", "instance_id", "phase")
    lease = {field: getattr(claim, field) for field in fields} if claim else dict.fromkeys(fields) | {"slug": name}
    return {**lease, "result": "failed", "evidence": None, "error": error_object(failure)["error"]}


def _confirmed(app: App, claim: "Claim") -> dict[str, Any]:
    """One lease as it is under this key. Its evidence is that of its last rebinding, if there was one."""
    from cli.actions import NOTHING_DONE, told
    from ledger.flows.rebind import own_account

    services = app.services(told)
    before = services.book.load(claim.lease_id)
    after = own_account(services, before, confirmed=True)
    result = NOTHING_DONE[0] if after.credential_binding == before.credential_binding else "rebound"
    with app.reader() as reader:
        rows = [*reader.rows(claim.lease_id, types=("credential-rebound",))]
    evidence = json.loads(rows[-1].payload)["evidence"] if rows else None
    return _lease_object(after, result) | {"evidence": evidence}


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
    _print([_lease_object(lease, result) for lease in leases], evidence, dry_run=dry_run, as_json=as_json)


def _lease_object(lease: "Claim | Lease", result: str) -> dict[str, Any]:
    return {
        "lease_id": lease.lease_id,
        "slug": lease.slug,
        "instance_id": lease.instance_id,
        "phase": lease.phase,
        "result": result,
    }


def _print(leases: list[dict[str, Any]], evidence: str | None, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        emit("rotate", {"dry_run": dry_run, "evidence": evidence, "leases": leases})
    elif leases:
        table(
            ("LEASE", "PHASE", "RESULT"), [(lease["slug"], lease["phase"] or "-", lease["result"]) for lease in leases]
        )
    else:
        say("no lease of the old key is open or looked for")
