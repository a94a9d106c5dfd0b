"""A released box that shows up again opens its lease again, to be deleted again (W-06)."""

from ledger.domain import events as e
from ledger.domain.claim import Claim, moment
from ledger.domain.errors import Conflict, RentrollError
from ledger.domain.plan import looked_for_since
from ledger.domain.ports import CallFailed, Inventory
from ledger.domain.refusals import Refused
from ledger.flows.services import Services, Stage


def released_lately(services: Services) -> list[Claim]:
    """The leases whose box is still looked for: released within the last seven days."""
    return services.book.register.released_since(looked_for_since(services.clock.now()))


def reopen_returned(services: Services, claims: list[Claim], inventory: Inventory) -> list[str]:
    """Appends `reopened` for each released lease whose box is in an inventory begun after its end and answers a GET.

    One look alone may be a glitch of a listing; both say that it is there. Gives the ids of the leases.
    """
    listed = {instance.id for instance in inventory.instances}
    found = []
    for claim in claims:
        if claim.scope != services.provider.scope or claim.instance_id is None or claim.instance_id not in listed:
            continue
        if claim.released_at is None or inventory.begun_at <= moment(claim.released_at):
            continue
        try:
            services.provider.get(claim.instance_id)
            _reopen(services, claim, claim.instance_id, inventory)
        except (CallFailed, Refused, Conflict):
            continue  # not there after all, or somebody else has just opened it
        except RentrollError as failure:  # a damaged lease hides no other one's box
            services.tell(Stage(lease_id=claim.lease_id, slug=claim.slug, name="not reopened", detail=failure.message))
            continue
        services.tell(Stage(lease_id=claim.lease_id, slug=claim.slug, name="reopened", detail=claim.instance_id))
        found.append(claim.lease_id)
    return found


def _reopen(services: Services, claim: Claim, instance_id: str, inventory: Inventory) -> None:
    """A key that reads the lease's own box and sees it in the inventory is of its account, as for any rebinding."""
    binding = services.credential_binding
    if claim.credential_binding != binding:
        account_name = services.book.load(claim.lease_id).account_name
        rebound = e.CredentialRebound(credential_binding=binding, account_name=account_name, evidence="instance-seen")
        services.book.record(claim.lease_id, rebound)
    fact = e.Reopened(
        instance_id=instance_id,
        credential_binding=binding,
        slug=claim.slug,
        evidence=(
            e.Observation(kind="inventory", at=inventory.begun_at),
            e.Observation(kind="get-200", at=services.clock.now()),
        ),
    )
    services.book.reopen(claim.lease_id, fact)
