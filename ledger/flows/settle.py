"""Settling a create in doubt: find its box by proof and delete it, or prove that there never was one.

Whoever settles wants the box gone, so it looks before it replays (W-13); past the window it never replays.
"""

from ledger.domain import events as e
from ledger.domain.errors import InDoubt
from ledger.domain.ports import Instance, Inventory, LeaseLock
from ledger.domain.refusals import Refused
from ledger.domain.state import Lease, Outcome, Phase
from ledger.domain.suspects import Seen, never_created_evidence, next_look_at, of_owner, unsettled
from ledger.domain.windows import window_open
from ledger.flows.create import replay_once
from ledger.flows.observe import observe
from ledger.flows.prove import prove
from ledger.flows.rebind import own_account
from ledger.flows.release import delete_box, finish
from ledger.flows.services import Services, Stage
from ledger.flows.takeover import take_over


def settle(
    services: Services, lease_id: str, *, lock: LeaseLock | None, token: str, inventory: Inventory | None = None
) -> Lease:
    """Brings a create in doubt as near to its end as can be now.

    `lock` is the lease's, which the caller holds; None where the caller has fenced a holder that hangs. `inventory` is
    one that was just read and recorded; without it one is. `token` is this process's random name, should it have to be
    taken over. Gives the lease released. Raises `InDoubt`, saying what is waited for and until when, where it is not
    settled yet, and what the provider raises.
    """
    lease = own_account(services, services.book.load(lease_id))
    seen = inventory or observe(services)
    holders = prove(services, lease_id, _candidates(services, lease, seen), seen)
    lease = services.book.load(lease_id)
    if lease.phase is Phase.IN_DOUBT and _may_be_there(services, lease, seen):
        lease = _ask_again(services, lease, lock, token)
    if lease.phase is Phase.IN_DOUBT:
        return _end_without_a_box(services, lease)
    for twin in holders[1:]:
        delete_box(services, twin.lease_id, reason="rollback")
    if lease.instance_id is not None:
        return delete_box(services, lease_id, reason="rollback")
    return finish(services, lease_id) if lease.is_open else lease


def _candidates(services: Services, lease: Lease, seen: Inventory) -> list[Instance]:
    observed = of_owner(lease, services.book.inventories_since_create(lease.lease_id))
    return unsettled(lease, seen.instances, observed, services.book.is_bound)


def _may_be_there(services: Services, lease: Lease, seen: Inventory) -> bool:
    """Whether a replay may learn an id sooner than the key can: something new has not answered, and the window is open.

    Where nothing new is there, or all of it has refused the key once, a replay might make the very box that is to be
    deleted. The window is judged by the `Date` of a read of our own, just before.
    """
    if all(_last_verdict(lease, box.id) == "refused" for box in _candidates(services, lease, seen)):
        return False
    services.provider.inventory()
    boot = services.clock.boot()
    return window_open(
        lease,
        now=services.clock.now(),
        boot_id=boot.boot_id,
        uptime_ms=boot.uptime_ms,
        provider_date=services.provider.server_date,
    )


def _ask_again(services: Services, lease: Lease, lock: LeaseLock | None, token: str) -> Lease:
    try:
        if lease.acquirer != token:
            lease = take_over(services, lease, token=token, holds_lock=lock is not None)
        return replay_once(services, lease, lock)
    except Refused:
        return services.book.load(lease.lease_id)  # it may not be replayed: the key and the inventories will tell


def _end_without_a_box(services: Services, lease: Lease) -> Lease:
    """Appends `never-created` where enough inventories prove it; raises `InDoubt` where they do not yet."""
    book = services.book
    observed = book.inventories_since_create(lease.lease_id)
    evidence = never_created_evidence(lease, observed, book.is_bound)
    if not evidence:
        raise _still_in_doubt(services, lease, observed)
    services.keys.destroy(lease.lease_id)
    fact = e.Released(outcome=Outcome.NEVER_CREATED, reason=lease.stop_reason, inventories=evidence)
    released = book.record(lease.lease_id, fact).lease
    services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name="released", detail=Outcome.NEVER_CREATED))
    return released


def _still_in_doubt(services: Services, lease: Lease, observed: list[Seen]) -> InDoubt:
    """What is not known, what it waits for, and what a person can do."""
    own = of_owner(lease, observed)
    newest = own[-1].fact.instances if own else ()
    suspects = unsettled(lease, newest, own, services.book.is_bound)
    look_at = next_look_at(lease, observed, services.book.is_bound)
    next_step = f"rentroll recover --only {lease.slug}"
    if any(_last_verdict(lease, box.id) == "unproven" for box in suspects):
        next_step += " --write-off --reason TEXT"
    if suspects:
        named = ", ".join(f"{box.id} ({_last_verdict(lease, box.id)})" for box in suspects)
        hint = f"could be its box: {named}; each is offered the lease's key again, five minutes apart and more"
        if "--write-off" in next_step:
            hint = f"could be its box: {named}; one that lets every key in proves nothing, ever: a person has to end it"
    else:
        hint = "fal shows no instance that could be its box; five looks five minutes apart settle it"
    when = f", next at {look_at:%H:%M:%SZ}" if look_at is not None else ""
    return InDoubt(
        f"whether a box was made for lease {lease.slug} is not known yet, and the lease stays open",
        hint=f"{hint}{when}; `rentroll watch` goes on by itself",
        next_step=next_step,
        lease_id=lease.lease_id,
    )


def _last_verdict(lease: Lease, instance_id: str) -> str:
    return next((t.verdict for t in reversed(lease.tries) if t.instance_id == instance_id), "no address yet")
