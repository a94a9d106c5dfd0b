"""Who is at work on leases, as this machine sees it: lease locks, living clients of runs, commands that may still run.

What the planner is told beside the claims (`ledger.domain.plan.Around`), gathered anew for each question.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.domain.claim import Claim, moment
from ledger.domain.errors import RentrollError
from ledger.domain.plan import Around
from ledger.store.locks import is_worked_on

if TYPE_CHECKING:
    from cli.app import App

ALIVE_ELSEWHERE = timedelta(minutes=3)
"""Another host's locks need not be visible here: a sign of life, one a minute, younger than this counts instead."""


def around_of(app: "App", *, expires: bool, waits: bool = False) -> Callable[[list[Claim]], Around]:
    """The question for `ledger.flows.recover.Pass`: who is at work on some leases now.

    `expires` and `waits` are those of `Around`. It may be asked by several threads at once; it makes no file.
    """

    def ask(claims: list[Claim]) -> Around:
        now, folder = app.now(), Path(app.locks_folder)
        return Around(
            now=now,
            worked_on=frozenset(claim.lease_id for claim in claims if is_worked_on(folder, claim.lease_id)),
            attended=frozenset(claim.lease_id for claim in claims if _is_attended(app, claim, now)),
            expires=expires,
            waits=waits,
        )

    return ask


def _is_attended(app: "App", claim: Claim, now: datetime) -> bool:
    """Whether the run that leased a ready box lives, or a command may still run on the box."""
    if claim.purpose != "run" or claim.phase != "ready":
        return False
    if is_attended_by_client(app, claim, now):
        return True
    try:
        return bool(app.register.load(claim.lease_id).open_runs)
    except RentrollError:
        return True  # what cannot be read is not known to be over; its own time ends it all the same


def is_attended_by_client(app: "App", claim: Claim, now: datetime) -> bool:
    """Whether the `run` that leased a box for itself lives."""
    if is_worked_on(Path(app.locks_folder), claim.lease_id, by_client=True):
        return True
    is_elsewhere = claim.host != app.host and claim.touched_at is not None
    return is_elsewhere and now - moment(claim.touched_at or "") < ALIVE_ELSEWHERE


def elsewhere(app: "App", claims: list[Claim]) -> list[Claim] | None:
    """The open claims that the API key of the environment, at the URL of the settings, did not make (W-38).

    None without a key: then nobody can tell.
    """
    if app.api_key() is None:
        return None
    is_open = [claim for claim in claims if claim.is_open]
    if not is_open:
        return []
    ours = own_side(app)
    return [claim for claim in is_open if (claim.scope, claim.credential_binding) != ours]


def own_side(app: "App") -> tuple[str, str] | None:
    """The endpoint and the credential binding that this process's key stands for in the ledger; None without a key."""
    key = app.api_key()
    if key is None:
        return None
    from ledger.domain.credentials import credential_binding
    from providers.fal.endpoint import endpoint_scope

    return endpoint_scope(app.settings["fal.api_url"].value), credential_binding(app.salt(), key)
