"""The line with which a command ends while boxes bill past their time: nobody should have to look for it (W-10).

It must stay cheap: it loads what a listing loads, and makes no ledger.
"""

from typing import TYPE_CHECKING

from cli.render import clock, money, note
from ledger.domain.claim import Claim, is_overdue
from ledger.domain.errors import RentrollError

if TYPE_CHECKING:
    from cli.app import App

NAMED = 3
"""So many are named; the others are counted."""


def warn(app: "App") -> None:
    """One line on stderr where open leases are past their end. It never fails: the command has done its work."""
    try:
        claims = app.open_claims()
    except RentrollError:
        return  # what could not be read the command itself has told, or did not need
    now = app.now()
    may_exist = [claim for claim in claims if claim.billed_until is None and (claim.sent or claim.instance_id)]
    told = app.overdue_told or ()
    overdue = [claim for claim in may_exist if is_overdue(claim, now) and claim.lease_id not in told]
    if overdue:
        overdue.sort(key=lambda claim: claim.expires_at)
        more = f" and {len(overdue) - NAMED} more" if len(overdue) > NAMED else ""
        named = ", ".join(map(_named, overdue[:NAMED]))
        note(f"overdue: {named}{more}: `{app.command_line('cleanup')}` deletes what nobody wants any more")


def _named(claim: Claim) -> str:
    rate = f", {money(claim.rate_per_hour, claim.currency)}/h" if claim.rate_per_hour else ""
    return f"{claim.slug} (since {clock(claim.expires_at)}{rate})"
