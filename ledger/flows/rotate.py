"""Changing the API key: both keys at once prove that they are of one account, and every lease follows (W-20, W-21)."""

from msgspec import Struct

from ledger.domain import events as e
from ledger.domain.claim import Claim
from ledger.domain.errors import CredentialsFailure, IntegrityFailure, UsageFailure
from ledger.domain.plan import looked_for_since
from ledger.domain.ports import CallFailed, KeyRejected, Provider
from ledger.domain.state import Lease
from ledger.flows.reopen import released_lately
from ledger.flows.services import Services, Stage


class OldKey(Struct, frozen=True, kw_only=True):
    """The key that is replaced: a client that uses it, and what stands for it in the ledger."""

    provider: Provider
    credential_binding: str


def rotate(services: Services, old: OldKey) -> tuple[e.CredentialRebound, list[Lease]]:
    """Binds every lease of the old key that is open, or whose box is still looked for, to the services' own key.

    Gives the fact and the leases it was appended to. Raises what `prove_one_account` raises; nothing is appended then.
    Raises `IntegrityFailure` where a lease cannot be read, after all others have followed.
    """
    fact = prove_one_account(services, old)
    rebound, damaged = [], []
    for claim in leases_of(services, old):
        try:
            lease = services.book.record(claim.lease_id, fact).lease
        except IntegrityFailure as failure:  # it is told at the end, and keeps no other one with the old key
            damaged.append((claim, failure))
            continue
        services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name="rebound", detail=fact.evidence))
        rebound.append(lease)
    if damaged:
        named = "; ".join(f"{claim.slug}: {failure.message}" for claim, failure in damaged)
        raise IntegrityFailure(
            f"{len(rebound)} leases follow the new key, {len(damaged)} could not be read: {named}",
            hint="keep the old key until a person has settled these",
            next_step="rentroll verify",
        )
    return fact, rebound


def prove_one_account(services: Services, old: OldKey) -> e.CredentialRebound:
    """The fact that every lease of the old key is due, once it is proven that both keys are of one account.

    Both keys must be accepted now, at the same endpoint, and show the same account: its name, or one and the same
    inventory that is not empty. Raises `UsageFailure` where the keys are one, `CredentialsFailure` where that is not
    proven, `CallFailed` where it could not be asked.
    """
    if old.credential_binding == services.credential_binding:
        raise UsageFailure("the old key and the new one are the same", hint="nothing was changed")
    if old.provider.scope != services.provider.scope:
        raise UsageFailure("both keys must be of one endpoint", hint="nothing was changed")
    evidence, account_name = _one_account(services.provider, old.provider)
    return e.CredentialRebound(
        credential_binding=services.credential_binding, account_name=account_name, evidence=evidence
    )


def _one_account(new: Provider, old: Provider) -> tuple[str, str | None]:
    """How it is proven that both keys are of one account, and the account's name where both may read it."""
    ids = [_ids(provider, which) for provider, which in ((old, "old"), (new, "new"))]
    names = [_name(provider) for provider in (old, new)]
    if names[0] is not None and names[0] == names[1]:
        return "both-keys-one-name", names[0]
    if None in names and ids[0] and ids[0] == ids[1]:
        return "both-keys-one-inventory", names[0] or names[1]
    raise CredentialsFailure(
        "the two keys are not proven to be of one account",
        hint="both must be accepted now and read the same account name, or see the same instances; nothing was changed",
    )


def _ids(provider: Provider, which: str) -> set[str]:
    try:
        return {instance.id for instance in provider.inventory().instances}
    except KeyRejected as failure:
        raise CredentialsFailure(
            f"the {which} API key is not accepted ({failure.message})",
            hint="both must be accepted now; a lease whose box the new key can see follows it without, at `recover`",
        ) from failure


def _name(provider: Provider) -> str | None:
    try:
        return provider.account().username
    except CallFailed:
        return None


def leases_of(services: Services, old: OldKey) -> list[Claim]:
    """The leases that are bound to the old key and still matter, in the order of their ids."""
    register = services.book.register
    suspects = register.suspects(looked_for_since(services.clock.now()))
    found = {claim.lease_id: claim for claim in (*register.claims(), *released_lately(services), *suspects)}
    return [
        claim
        for claim in sorted(found.values())
        if (claim.scope, claim.credential_binding) == (old.provider.scope, old.credential_binding)
    ]
