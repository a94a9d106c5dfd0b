"""What the provider shows of the boxes that claims name: one walk over the inventory, never one GET each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cli.render import note
from ledger.domain.claim import Claim
from ledger.domain.credentials import credential_binding
from ledger.domain.errors import RentrollError, UsageFailure

if TYPE_CHECKING:
    from cli.app import App

UNVERIFIED = "provider-absence-unverified"
UNAVAILABLE = "provider-verification-unavailable"
OTHER_KEY = "credential-binding-mismatch"


def refreshed(app: "App", claims: Sequence[Claim]) -> list[Claim]:
    """The claims with the live status and region. What cannot be verified says so; nothing disappears (LST-03..05).

    Raises `UsageFailure` for settings that name no provider.
    """
    if not any(claim.instance_id for claim in claims):
        return list(claims)
    if app.api_key() is None:
        note("without an API key the provider is not asked")
        return [claim._replace(provider_status=OTHER_KEY) if claim.instance_id else claim for claim in claims]
    try:
        with app.provider() as provider:
            scope = provider.scope
            live = {instance.id: instance for instance in provider.inventory().instances}
    except UsageFailure:
        raise
    except RentrollError as failure:
        note(f"the provider could not be asked: {failure.message}")
        return [claim._replace(provider_status=UNAVAILABLE) if claim.instance_id else claim for claim in claims]
    binding = credential_binding(app.salt(), app.api_key() or "")
    shown = []
    for claim in claims:
        if claim.instance_id is None:
            shown.append(claim)
        elif claim.scope != scope:
            shown.append(claim._replace(provider_status=UNAVAILABLE))
        elif claim.credential_binding != binding:
            shown.append(claim._replace(provider_status=OTHER_KEY))
        elif claim.instance_id in live:
            instance = live[claim.instance_id]
            shown.append(
                claim._replace(
                    provider_status=instance.status,
                    region=instance.region,
                    sector=instance.sector,
                    instance_type=instance.instance_type,
                )
            )
        else:
            shown.append(claim._replace(provider_status=UNVERIFIED if claim.is_open else claim.provider_status))
    return shown
