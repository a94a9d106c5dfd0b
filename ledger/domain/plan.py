"""What there is to do about the leases of a ledger: the one planner, pure. A dry run prints what a real run does."""

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct

from ledger.domain.claim import Claim, is_overdue, moment, short_time
from ledger.domain.units import after_ms, format_time
from ledger.domain.windows import RETRY_MAX_MS, SUSPECT_MS


class Action(Struct, frozen=True, kw_only=True):
    """What is to be done with one lease, and why.

    `action` is none, cancel, settle, roll-back, delete, finish, or search: for a box that no lease is bound to.
    """

    lease_id: str
    slug: str
    instance_id: str | None
    action: str
    reason: str


class Around(Struct, frozen=True, kw_only=True):
    """What the claims do not say: the time, and who is at work.

    `worked_on` are leases whose lock somebody holds, `attended` leases of a `run` whose client lives or whose job may
    still run on the box. `expires` says that what has expired is to be deleted (`cleanup`), `waits` that nothing is
    tried again before its date (`watch`).
    """

    now: datetime
    worked_on: frozenset[str] = frozenset()
    attended: frozenset[str] = frozenset()
    expires: bool = True
    waits: bool = False


def plan(claims: Iterable[Claim], around: Around) -> list[Action]:
    """An action for each open lease and each suspect, in the order of lease ids."""
    return [judge(claim, around) for claim in sorted(claims) if claim.is_open or is_suspect(claim, around.now)]


def judge(claim: Claim, around: Around) -> Action:
    """What is to be done with one lease."""
    action, reason = _judge(claim, around)
    return Action(lease_id=claim.lease_id, slug=claim.slug, instance_id=claim.instance_id, action=action, reason=reason)


def is_suspect(claim: Claim, now: datetime) -> bool:
    """Whether a box of it is still looked for: while it is open, and for seven days after.

    A second box beside its own is looked for until none is unsettled.
    """
    if not claim.suspect:
        return False
    if claim.instance_id is not None and claim.outcome != "written-off":
        return True
    return claim.released_at is None or claim.released_at > looked_for_since(now)


def looked_for_since(now: datetime) -> str:
    """The stored time after which a released lease's box is still looked for."""
    return format_time(after_ms(now, -SUSPECT_MS))


def may_cost(claim: Claim, around: Around) -> bool:
    """Whether something of the lease may cost money although nobody is to have it any more.

    A box whose lease has ended, a create in doubt: not a ready box inside its time or kept, nor an acquire at work.
    """
    may_exist = claim.sent or claim.instance_id is not None  # a second box has a lease that sent nothing of its own
    if not claim.is_open or claim.billed_until is not None or not may_exist:
        return False
    if claim.contradiction is None and is_live(claim, around):
        return False
    is_kept = claim.failure_stage is not None and claim.keep_until is not None
    if claim.phase == "ready" or (claim.phase == "provisioning" and is_kept):
        return is_overdue(claim, around.now) or _is_unwanted(claim, around) is not None
    return True


def _judge(claim: Claim, around: Around) -> tuple[str, str]:
    if claim.contradiction is not None:
        return "none", claim.contradiction
    if not claim.is_open and is_suspect(claim, around.now):
        return "search", f"it was released as {claim.outcome}: a box of it may still show up"
    if not claim.is_open:
        return "none", f"it is released ({claim.outcome})"
    if is_live(claim, around):
        return "none", "somebody is working on it"
    if around.waits and claim.retry_at is not None and _is_to_wait(moment(claim.retry_at), around.now):
        return "none", f"it is tried again at {short_time(claim.retry_at)}"
    match claim.phase:
        case "requested":
            return "cancel", "nothing was sent"
        case "in-doubt":
            return "settle", "its create may have made a box"
        case "provisioning" if claim.failure_stage is None or claim.keep_until is None:
            return "roll-back", "its acquirer is gone"
        case "rolling-back" | "deleting":
            if claim.billed_until is not None or claim.instance_id is None:
                return "finish", "nothing of it exists"
            return "delete", f"its deletion is not finished ({claim.phase})"
    return _judge_held(claim, around)


def _is_to_wait(retry_at: datetime, now: datetime) -> bool:
    return now < retry_at <= after_ms(now, RETRY_MAX_MS)


def _judge_held(claim: Claim, around: Around) -> tuple[str, str]:
    """A box that somebody may use: ready, or kept after a failed acquire."""
    unwanted = _is_unwanted(claim, around)
    if unwanted is not None:
        return "delete", unwanted
    if is_overdue(claim, around.now):
        expired = f"expired at {claim.expires_at[:19]}Z"
        return ("delete", expired) if around.expires else ("none", f"{expired}: `rentroll cleanup` deletes it")
    if claim.suspect:
        return "search", "its create was sent more than once: a second box may exist"
    return "none", "kept" if claim.keep_until is not None else "inside its time"


def is_live(claim: Claim, around: Around) -> bool:
    """Whether somebody is at it who is not to be disturbed: never past an acquire's deadline.

    A ready box's own time applies whoever holds its lock.
    """
    held = claim.lease_id in around.worked_on and claim.phase != "ready"
    return held and moment(claim.acquire_deadline) >= around.now


def _is_unwanted(claim: Claim, around: Around) -> str | None:
    """Why nobody wants the box any more although it has time left."""
    if claim.stop_reason is not None:
        return f"it was to be given back ({claim.stop_reason})"
    if claim.purpose == "run" and claim.keep_until is None and claim.lease_id not in around.attended:
        return "the run that leased it is gone"
    return None
