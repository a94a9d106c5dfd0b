"""Runs that nobody follows any more, on leases that end with their run: the box itself tells how they ended.

Only then can such a lease be given back before its time is over.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cli.around import ALIVE_ELSEWHERE, is_attended_by_client
from cli.chosen import RUN
from cli.outcome import told
from cli.render import note
from ledger.domain.claim import Claim, is_overdue
from ledger.domain.errors import RentrollError
from ledger.flows.attach import settle_runs

if TYPE_CHECKING:
    from cli.app import App


def settle_left_runs(app: "App", claims: Iterable[Claim], *, expires: bool) -> None:
    """Asks the boxes of such leases, and records what they say. A box that does not answer is told, and left.

    One that is deleted whatever it says is not asked; `expires` is that of `ledger.domain.plan.Around`.
    """
    for claim in claims:
        if claim.purpose != RUN or claim.phase != "ready" or is_attended_by_client(app, claim, app.now()):
            continue
        if claim.stop_reason is not None or (expires and is_overdue(claim, app.now())):
            continue
        try:
            lease = app.register.load(claim.lease_id)
            if lease.open_runs:
                is_fresh = lease.touched_at is not None and app.now() - lease.touched_at < ALIVE_ELSEWHERE
                settle_runs(app.services(told, with_provider=False), lease, may_be_beginning=is_fresh)
        except RentrollError as failure:
            note(f"{claim.slug}: whether its run goes on is not known: {failure.message}")
