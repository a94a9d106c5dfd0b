"""What may happen from `delete-requested` to `released`, and back: the end of a lease, which needs proof.

Each judge says whether the wanted fact is new; it raises `Refused` where it may not happen.
"""

from datetime import datetime
from typing import assert_never

from ledger.domain import events as e
from ledger.domain.refusals import Refused, require_open, require_owning_key, require_same_box
from ledger.domain.state import Lease, Outcome, Phase
from ledger.domain.units import milliseconds_between
from ledger.domain.windows import (
    DELETE_SETTLE_MS,
    INVENTORY_SPACING_MS,
    NEVER_CREATED_INVENTORIES,
    UNSHOWN_ABSENCE_MS,
    WINDOW_MS,
    is_behind,
    is_expired,
    since_first_sent_ms,
)


def delete_requested(lease: Lease, fact: e.DeleteRequested, now: datetime) -> bool:
    require_open(lease)
    if lease.instance_id is None:
        raise Refused(lease, "may-exist", "its box is not known, so nothing can be deleted")
    require_same_box(lease, fact.instance_id)
    if lease.phase is Phase.PROVISIONING:
        raise Refused(lease, "roll-back-first", "it is provisioning: roll it back first")
    if fact.reason == "expired" and lease.phase is Phase.READY and not is_expired(lease, now):
        raise Refused(lease, "not-expired", "it has time left")
    if fact.attempt == lease.deletes and lease.phase is Phase.DELETING:
        return False
    if fact.attempt != lease.deletes + 1:
        raise Refused(lease, "wrong-attempt", f"the next attempt is {lease.deletes + 1}")
    if lease.confirmed_at is not None:
        raise Refused(lease, "settled", "its box is gone")
    if (
        lease.delete_result == "accepted"
        and lease.delete_accepted_at is not None
        and 0 <= milliseconds_between(lease.delete_accepted_at, now) < DELETE_SETTLE_MS
    ):
        raise Refused(lease, "settling", "its deletion was accepted a moment ago")
    return True


def delete_answered(lease: Lease, fact: e.DeleteAccepted | e.DeleteDeferred) -> bool:
    require_same_box(lease, fact.instance_id)
    if not 1 <= fact.attempt <= lease.deletes:
        raise Refused(lease, "wrong-attempt", f"DELETE {fact.attempt} was never announced")
    return fact.attempt == lease.deletes and lease.delete_result == "open" and lease.phase is Phase.DELETING


def deletion_confirmed(lease: Lease, fact: e.DeletionConfirmed, now: datetime) -> bool:
    require_open(lease)
    require_same_box(lease, fact.instance_id)
    if lease.confirmed_at is not None:
        return False
    if lease.phase is not Phase.DELETING or lease.bound_at is None:
        raise Refused(lease, "not-deleting", f"it is {lease.phase}, not deleting")
    if [seen.kind for seen in fact.evidence] != ["get-404", "inventory", "get-404"]:
        raise Refused(lease, "no-evidence", "absence is GET 404, a complete inventory without it, GET 404")
    require_owning_key(lease, fact.credential_binding)
    looked_at = [seen.at for seen in fact.evidence]
    if looked_at != sorted(looked_at):
        raise Refused(lease, "no-evidence", "the looks that its absence rests on are out of order")
    if lease.shown:
        return True
    if not lease.delete_answered:
        raise Refused(lease, "no-evidence", "no read has ever shown its box and no DELETE of it was answered")
    if milliseconds_between(lease.bound_at, min(looked_at[0], now)) < UNSHOWN_ABSENCE_MS:
        raise Refused(lease, "no-evidence", "no read has ever shown its box: it may still appear")
    return True


def released(lease: Lease, fact: e.Released, now: datetime) -> bool:
    if lease.phase is Phase.RELEASED:
        if lease.outcome == fact.outcome:
            return False
        raise Refused(lease, "released", f"it is released ({lease.outcome})")
    if fact.outcome not in list(Outcome):
        raise Refused(lease, "no-evidence", f"{fact.outcome} is not how a lease ends")
    match Outcome(fact.outcome):
        case Outcome.COMPLETED:
            proven = lease.confirmed_at is not None and lease.ready_at is not None
        case Outcome.ROLLED_BACK:
            proven = lease.confirmed_at is not None and lease.ready_at is None
        case Outcome.REJECTED:
            proven = lease.rejected and lease.instance_id is None
        case Outcome.CANCELLED:
            proven = lease.nothing_sent and lease.instance_id is None
        case Outcome.NEVER_CREATED:
            proven = _never_created(lease, fact, now)
        case Outcome.WRITTEN_OFF:
            if not (fact.reason or "").strip():
                raise Refused(lease, "no-evidence", "writing off needs a reason")
            proven = _is_past_its_window(lease, now)
        case _ as never:
            assert_never(never)
    if not proven:
        raise Refused(lease, "may-exist", f"it cannot be released as {fact.outcome}: a box of it may exist")
    return True


def _is_past_its_window(lease: Lease, now: datetime) -> bool:
    """Whether nothing can be replayed any more; a twin was never sent.

    A clock from before the first POST cannot replay it either, and must not take the last way out.
    """
    since_ms = since_first_sent_ms(lease, now)
    return lease.instance_id is not None if since_ms is None else not 0 <= since_ms < WINDOW_MS


def _never_created(lease: Lease, fact: e.Released, now: datetime) -> bool:
    """Whether enough inventories are named and enough time has passed for them to have been made apart."""
    since_ms = since_first_sent_ms(lease, now)
    looking_ms = (NEVER_CREATED_INVENTORIES - 1) * INVENTORY_SPACING_MS
    return (
        lease.phase is Phase.IN_DOUBT
        and len(set(fact.inventories)) >= NEVER_CREATED_INVENTORIES
        and since_ms is not None
        and since_ms >= WINDOW_MS + looking_ms
        and not is_behind(lease, now)
        and not any(tried.verdict == "accepted" for tried in lease.tries)
    )


def reopened(lease: Lease, fact: e.Reopened) -> bool:
    require_same_box(lease, fact.instance_id)
    if lease.phase is not Phase.RELEASED:
        if lease.confirmed_at is None and lease.phase is Phase.ROLLING_BACK:
            return False
        raise Refused(lease, "not-released", f"it is {lease.phase}")
    require_owning_key(lease, fact.credential_binding)
    if [seen.kind for seen in fact.evidence] != ["inventory", "get-200"]:
        raise Refused(lease, "no-evidence", "a released box is back when an inventory and a GET show it")
    if lease.released_at is not None and any(seen.at <= lease.released_at for seen in fact.evidence):
        raise Refused(lease, "no-evidence", "the looks at a released box are later than its release")
    return True


def end_of(lease: Lease) -> Outcome | None:
    """The outcome that the facts already prove, or None while something may exist or is unknown."""
    if lease.rejected and lease.instance_id is None:
        return Outcome.REJECTED
    if lease.instance_id is None:
        return Outcome.CANCELLED if lease.phase is not None and lease.nothing_sent else None
    if lease.confirmed_at is None:
        return None
    return Outcome.COMPLETED if lease.ready_at is not None else Outcome.ROLLED_BACK
