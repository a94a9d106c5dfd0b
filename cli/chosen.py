"""Which lease a `run` works on, where it does not make one."""

from typing import TYPE_CHECKING, Any

from cli.leases import find, open_here
from cli.render import note
from cli.staying import AFTERWARDS

if TYPE_CHECKING:
    from cli.app import App
    from ledger.domain.claim import Claim

RUN = "run"
"""The purpose of a lease that ends with the run that made it."""


def existing(app: "App", flags: dict[str, Any]) -> "Claim | None":
    """The lease that is named, or that this repository already has; None where a new one is wanted."""
    if flags["lease_name"] is not None:
        return find(app, flags["lease_name"])
    if flags["reuse"]:
        from ledger.domain import names

        with app.reader() as reader:
            held = [claim for claim in reader.find(names.normalise_slug(flags["slug"])) if claim.is_open]
        return held[0] if held else None
    if flags["wants_new"]:
        return None
    ours = open_here(app)
    if len(ours) != 1 or ours[0].purpose == RUN:
        return None  # a lease that another run made for itself ends with that run
    (only,) = ours
    if only.phase != "ready":
        from ledger.domain.refusals import Refused

        refusal = Refused(app.register.load(only.lease_id), "not-ready", f"it is {only.phase}, not ready")
        refusal.hint = "it is this repository's only open lease; to lease another box say --slug NAME"
        refusal.next_step = f"rentroll status {only.slug}"
        raise refusal
    note(f"on lease {only.slug}, the only one of this repository; {AFTERWARDS[flags['stop_after']]}")
    return only
