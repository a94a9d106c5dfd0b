"""Whose lease it is: the key that made it, or another one that is proven to be of the same account."""

from ledger.domain import events as e
from ledger.domain.errors import CredentialsFailure, NotFound, UsageFailure
from ledger.domain.ports import CallFailed, InstanceAbsent, KeyRejected
from ledger.domain.state import Lease
from ledger.flows.services import Services, Stage


def own_account(services: Services, lease: Lease, *, confirmed: bool = False) -> Lease:
    """The lease, which this key at this endpoint may act on: what others do not show proves nothing.

    A new key is accepted, with a `credential-rebound`, if it can read the lease's instance and sees it in the
    inventory (CRD-02); where there is none to see, if it reads the account name that was recorded; or, `confirmed` by
    a person, if it sees another box that the old key bound here. Raises `UsageFailure` for another endpoint,
    `CredentialsFailure` where nothing is proven, `CallFailed` where it could not be asked (CRD-04).
    """
    request = lease.request
    if request is None:
        raise NotFound(f"no lease {lease.lease_id} in this ledger")
    if request.scope != services.provider.scope:
        raise UsageFailure(
            f"lease {lease.slug} was made at {request.scope}, not at {services.provider.scope}",
            hint="set the API URL that it was made with",
            lease_id=lease.lease_id,
        )
    if lease.credential_binding == services.credential_binding:
        return lease
    evidence, account_name = _same_account(services, lease, confirmed=confirmed)
    if evidence is None:
        raise CredentialsFailure(
            f"lease {lease.slug} was made with another API key, and this one is not proven to be of its account",
            hint="set the key that made it, or both keys and `rentroll rotate`; nothing was sent",
            next_step="rentroll rotate" if not confirmed else f"rentroll recover --only {lease.slug} --write-off",
            lease_id=lease.lease_id,
        )
    fact = e.CredentialRebound(
        credential_binding=services.credential_binding,
        account_name=account_name or lease.account_name,
        evidence=evidence,
    )
    rebound = services.book.record(lease.lease_id, fact).lease
    services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name="rebound", detail=f"another key ({evidence})"))
    return rebound


def _same_account(services: Services, lease: Lease, *, confirmed: bool) -> tuple[str | None, str | None]:
    """What proves that this key is of the lease's account, if anything, and the account's name where it may be read."""
    if lease.instance_id is not None and lease.confirmed_at is None and _sees(services, lease.instance_id):
        return "instance-seen", None
    name = _account_name(services)
    # A box that the old key was never told to delete, and this key does not see, may be another workspace's (CRD-03).
    is_gone = lease.instance_id is None or lease.confirmed_at is not None or lease.delete_accepted_at is not None
    if is_gone and name is not None and name == lease.account_name:
        return "account-name", name
    if confirmed and any(_sees(services, box) for box in _siblings(services, lease)):
        return "sibling-seen", name
    return None, None


def _sees(services: Services, instance_id: str) -> bool:
    """Whether this key reads exactly that instance, and sees it in the complete inventory as well."""
    try:
        services.provider.get(instance_id)
    except (InstanceAbsent, KeyRejected):
        return False
    return any(instance.id == instance_id for instance in services.provider.inventory().instances)


def _account_name(services: Services) -> str | None:
    try:
        return services.provider.account().username
    except CallFailed:
        return None  # a key need not be allowed to read it; no name is no proof


def _siblings(services: Services, lease: Lease) -> list[str]:
    """The boxes of other open leases that the lease's own key has bound."""
    return [
        claim.instance_id
        for claim in services.book.register.claims()
        if claim.instance_id is not None
        and claim.lease_id != lease.lease_id
        and (claim.scope, claim.credential_binding) == (lease.request and lease.request.scope, lease.credential_binding)
    ]
