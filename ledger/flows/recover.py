"""Finishing what a crash or a fault left open, and deleting what has expired: look, plan, act, each lease on its own.

Recovery never completes an acquisition; whatever it finishes, it finishes by giving back.
"""

import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ledger.domain import events as e
from ledger.domain.claim import Claim
from ledger.domain.errors import Conflict, IntegrityFailure, RentrollError
from ledger.domain.plan import Action, Around, judge, looked_for_since, plan
from ledger.domain.ports import Inventory, LeaseLock
from ledger.domain.redact import redact
from ledger.domain.state import Lease, Outcome, Phase
from ledger.domain.suspects import new_boxes, of_owner
from ledger.domain.units import after_ms, milliseconds_between
from ledger.domain.windows import INVENTORY_SPACING_MS, WINDOW_MS
from ledger.flows.observe import record
from ledger.flows.release import delete_box, finish
from ledger.flows.reopen import released_lately, reopen_returned
from ledger.flows.search import search
from ledger.flows.services import Services, Stage
from ledger.flows.settle import settle
from ledger.flows.takeover import take_over

SIDE_BY_SIDE = 64
"""So many leases are worked on at a time: most of the time is waiting for the provider."""
NOT_BEGUN = "not begun"
"""The result for a lease whose turn did not come any more."""


class Pass(Struct, frozen=True, kw_only=True):
    """One pass over a ledger. `only` are the lease ids to look at, None for all.

    `around` says who is at work, as of now, for some leases (`ledger.domain.plan`). `token` is this process's random
    name. `is_ending` is asked before each lease: once it says so, no other one is begun.
    """

    around: Callable[[list[Claim]], Around]
    token: str
    only: frozenset[str] | None = None
    side_by_side: int = SIDE_BY_SIDE
    is_ending: Callable[[], bool] = lambda: False


class Done(Struct, frozen=True, kw_only=True):
    """What became of one lease: the action, why, and its result in a word; `error` where it failed."""

    action: Action
    result: str
    error: RentrollError | None = None


def recover(services: Services, wish: Pass) -> list[Done]:
    """Does what is to be done now, and says what became of each lease, in the order of lease ids.

    A failure is the failure of one lease: every other one is still worked on (CLN-10). Raises only what makes the
    whole pass impossible: the ledger cannot be read, or `Interrupted`.
    """
    inventory = _look(services, wish)
    claims = [claim for claim in _open_or_suspect(services) if wish.only is None or claim.lease_id in wish.only]
    actions = plan(claims, wish.around(claims))
    alone = replace(services, interrupts=_Unshielded())
    if wish.side_by_side == 1 or len(actions) < 2:  # noqa: PLR2004 - nothing to do side by side
        return [_carry_out(services, wish, action, inventory) for action in actions]
    with ThreadPoolExecutor(min(wish.side_by_side, len(actions))) as pool:
        try:
            return list(pool.map(lambda action: _carry_out(alone, wish, action, inventory), actions))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Unshielded:
    """Signals reach the main thread alone: it stops handing out work, and what has begun is finished."""

    asked_at_s: float | None = None

    def shielded(self) -> AbstractContextManager[None]:
        return nullcontext()


def _open_or_suspect(services: Services) -> list[Claim]:
    register = services.book.register
    suspects = register.suspects(looked_for_since(services.clock.now()))
    found = {claim.lease_id: claim for claim in (*suspects, *register.claims())}
    return list(found.values())


def _look(services: Services, wish: Pass) -> Inventory | None:
    """One inventory for all that needs one, kept as evidence; opens again what has come back.

    None where nothing needs one or it cannot be read: then each lease that needs it says so itself.
    """
    needy = [claim for claim in _open_or_suspect(services) if claim.phase == "in-doubt" or claim.suspect]
    lately = released_lately(services)
    _destroy_written_off_keys(services, lately)
    if not needy and not any(claim.instance_id for claim in lately):
        return None
    try:
        inventory = services.provider.inventory()
        if any(_is_evidence(services, claim, inventory) for claim in needy):
            record(services, inventory)
        reopen_returned(services, [c for c in lately if wish.only is None or c.lease_id in wish.only], inventory)
    except RentrollError as failure:
        services.tell(Stage(lease_id="", slug="the account", name="not seen", detail=failure.message))
        return None
    return inventory


def _destroy_written_off_keys(services: Services, lately: list[Claim]) -> None:
    """A lease is written off before its key is destroyed, and whoever did it may have died between the two."""
    for claim in lately:
        if claim.outcome == Outcome.WRITTEN_OFF:
            with suppress(RentrollError):
                services.keys.destroy(claim.lease_id)


def _is_evidence(services: Services, claim: Claim, inventory: Inventory) -> bool:
    """Whether an inventory says more of a lease than the last one: it shows something else, or is another look.

    Of a lease that is over without a box, only what shows a box that could be its own says anything.
    """
    try:
        lease = services.book.load(claim.lease_id)
    except IntegrityFailure:
        return False  # its own action says so
    new = new_boxes(lease, inventory.instances, services.book.is_bound)
    if not claim.is_open and claim.instance_id is None and not new:
        return False
    looks = of_owner(lease, services.book.inventories_since_create(claim.lease_id))
    if lease.phase is Phase.IN_DOUBT and lease.first_sent_at is not None:
        closed_at = after_ms(lease.first_sent_at, WINDOW_MS)
        if inventory.begun_at >= closed_at:  # what was seen before cannot stand for what is seen after
            looks = [look for look in looks if look.fact.begun_at >= closed_at]
    if not looks or milliseconds_between(looks[-1].recorded_at, inventory.begun_at) >= INVENTORY_SPACING_MS:
        return True
    return new != new_boxes(lease, looks[-1].fact.instances, services.book.is_bound)


def _carry_out(services: Services, wish: Pass, action: Action, inventory: Inventory | None) -> Done:
    if action.action == "none":
        return Done(action=action, result="nothing to do")
    if wish.is_ending():
        return Done(action=action, result=NOT_BEGUN)
    try:
        with _turn(services, wish, action) as (now_due, lock):
            if now_due.action == "none":
                return Done(action=now_due, result="nothing to do")
            return Done(action=now_due, result=_act(services, wish, now_due, inventory, lock))
    except RentrollError as failure:
        return Done(action=action, result="failed", error=failure)
    except Exception as bug:  # noqa: BLE001 - whatever it is, it must not starve the other leases
        return Done(action=action, result="failed", error=failure_of(bug, lease_id=action.lease_id))


def failure_of(bug: Exception, *, lease_id: str | None = None) -> RentrollError:
    """A bug as a failure that names its kind and where it was met; the bug itself is its cause."""
    last = traceback.extract_tb(bug.__traceback__)[-1:]
    where = "".join(f" ({Path(frame.filename).name}:{frame.lineno})" for frame in last)
    failure = RentrollError(redact(f"{type(bug).__name__}: {bug}{where}"), lease_id=lease_id)
    failure.__cause__ = bug
    return failure


@contextmanager
def _turn(services: Services, wish: Pass, action: Action) -> Iterator[tuple[Action, LeaseLock | None]]:
    """The lease's lock while it lasts, and what is due now that we have it: its stream may have moved on.

    Without the lock (None) there is only what the plan allows with its holder alive: a hung acquirer past its deadline,
    a deletion, a box whose own time is over. Their own announcements then keep two processes apart.
    """
    lock = services.locks(action.lease_id)
    held = lock.try_acquire()
    try:
        claim = services.book.claim(action.lease_id)  # read after the lock was tried: whoever had it may be done by now
        around, this = wish.around([claim]), {action.lease_id}
        due = judge(claim, replace(around, worked_on=around.worked_on - this if held else around.worked_on | this))
        if due.action == "search" and not held:
            due = replace(due, action="none", reason="somebody is working on it")
        yield due, lock if held else None
    finally:
        if held:
            lock.release()


def _act(services: Services, wish: Pass, action: Action, inventory: Inventory | None, lock: LeaseLock | None) -> str:
    """Carries one action out; gives its result in a word or two."""
    lease = services.book.load(action.lease_id)
    if lease.is_acquiring and not (lease.is_taken_over and lock is not None):
        lease = take_over(services, lease, token=wish.token, holds_lock=lock is not None)
    match action.action:
        case "cancel" | "finish":
            return str(finish(services, lease.lease_id).outcome)
        case "settle":
            return str(settle(services, lease.lease_id, lock=lock, token=wish.token, inventory=inventory).outcome)
        case "roll-back" if lease.failure is not None and lease.keep is not None:
            return "kept meanwhile"
        case "roll-back":
            fact = e.Rollback(stage="recovery", cause="its acquirer is gone", shown=lease.shown)
            services.book.record(lease.lease_id, fact)
            return str(delete_box(services, lease.lease_id, reason="rollback").outcome)
        case "delete":
            return str(delete_box(services, lease.lease_id, reason=_cause(lease, action)).outcome)
        case "search":
            found = search(services, lease.lease_id, inventory=inventory)
            return f"{len(found)} found and deleted" if found else "nothing found"
        case other:
            raise Conflict(f"nothing is known of the action {other}", lease_id=lease.lease_id)


def _cause(lease: Lease, action: Action) -> str:
    """What the DELETE is recorded under. An expiry is judged once more, on the newest facts, when it is announced."""
    if lease.delete_reason is not None and lease.phase is Phase.DELETING:
        return lease.delete_reason
    if lease.phase is Phase.ROLLING_BACK:
        return "rollback"
    if action.reason.startswith("expired"):
        return "expired"
    return "run-finished" if lease.stop_reason is None else "stop"
