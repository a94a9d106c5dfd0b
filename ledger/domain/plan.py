"""What there is to do about the open leases: the one planner, pure. A dry run prints what a real run executes."""

from datetime import datetime

from msgspec import Struct

from ledger.domain.claim import Claim, is_overdue, moment, short_time


class Action(Struct, frozen=True, kw_only=True):
    """What is to be done with one lease, and why. `action` is none, cancel, settle, roll-back, delete or finish."""

    lease_id: str
    slug: str
    instance_id: str | None
    action: str
    reason: str


def plan(claims: list[Claim], *, now: datetime, is_worked_on: frozenset[str]) -> list[Action]:
    """An action for each open lease, in the order of lease ids. `is_worked_on` are leases whose lock somebody holds."""
    return [
        Action(lease_id=claim.lease_id, slug=claim.slug, instance_id=claim.instance_id, action=action, reason=reason)
        for claim in sorted(claims)
        if claim.is_open
        for action, reason in [_judge(claim, now, worked_on=claim.lease_id in is_worked_on)]
    ]


def _judge(claim: Claim, now: datetime, *, worked_on: bool) -> tuple[str, str]:
    if claim.contradiction is not None:
        return "none", claim.contradiction
    # A ready box's own time applies whoever holds its lock: only an acquire inside its deadline is waited for.
    if worked_on and claim.phase != "ready" and moment(claim.acquire_deadline) >= now:
        return "none", "somebody is working on it"
    match claim.phase:
        case "requested":
            return "cancel", "nothing was sent"
        case "in-doubt":
            return "settle", "its create may have made a box"
        case "provisioning" if claim.failure_stage is None:
            return "roll-back", "its acquirer is gone"
        case "rolling-back" | "deleting":
            if claim.billed_until is not None or claim.instance_id is None:
                return "finish", "nothing of it exists"
            return "delete", f"its deletion is not finished ({claim.phase})"
    if is_overdue(claim, now):
        return "delete", f"expired at {short_time(claim.expires_at)}"
    return "none", "kept" if claim.keep_until is not None else "inside its time"
