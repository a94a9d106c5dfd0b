"""Which boxes could be a lease's own although no answer said so, and when it is proven that there is none. Pure.

A new box that no lease is bound to could be ours until it is gone, is bound, or has refused the lease's key long
enough; how well it fits the request decides only the order of trying (`docs/ownership.md`).
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from msgspec import Struct

from ledger.domain.events import InventoryObserved
from ledger.domain.instance import Instance
from ledger.domain.state import Lease, Try
from ledger.domain.units import after_ms, milliseconds_between
from ledger.domain.windows import (
    FREQUENT_TRIES,
    INVENTORY_SPACING_MS,
    NEVER_CREATED_INVENTORIES,
    READY_BEFORE_REFUSED_MS,
    REFUSALS_NEEDED,
    TRY_SPACING_MAX_MS,
    TRY_SPACING_MS,
    WINDOW_MS,
)

IsBound = Callable[[str], bool]
"""Whether any lease of this ledger, open or released, is bound to an instance id."""


class Seen(Struct, frozen=True, kw_only=True):
    """One `inventory-observed` as it stands in the ledger."""

    position: int
    recorded_at: datetime
    fact: InventoryObserved


def of_owner(lease: Lease, observed: Iterable[Seen]) -> list[Seen]:
    """The inventories of the lease's own account, in order.

    They were seen at its endpoint, with the key that asked for it or the one that owns it now.
    """
    request = lease.request
    if request is None:
        return []
    keys = (request.credential_binding, lease.credential_binding)
    return [seen for seen in observed if seen.fact.scope == request.scope and seen.fact.credential_binding in keys]


def new_boxes(lease: Lease, instances: Iterable[Instance], is_bound: IsBound) -> list[Instance]:
    """The instances that were not there before the create and that no lease holds, the best fitting first."""
    request = lease.request
    if request is None:
        return []
    new = [instance for instance in instances if instance.id not in request.ids_before and not is_bound(instance.id)]

    def misfit(instance: Instance) -> tuple[bool, bool, str]:
        other_sector = request.sector is not None and instance.sector not in (None, request.sector)
        return (instance.instance_type != request.instance_type, other_sector, instance.id)

    return sorted(new, key=misfit)


def unsettled(
    lease: Lease, instances: Iterable[Instance], observed: Sequence[Seen], is_bound: IsBound
) -> list[Instance]:
    """The new boxes that could still be this lease's; `observed` are the inventories that its refusals rest on."""
    return [box for box in new_boxes(lease, instances, is_bound) if not has_refused(lease, box.id, observed)]


def has_refused(lease: Lease, instance_id: str, observed: Sequence[Seen]) -> bool:
    """Whether a box is proven not to be the lease's.

    Its SSH server has answered authentication failure three times, five minutes apart, under one host key at one
    address, each time after the provider had shown it ready there for ten minutes. One answer that proved nothing
    (it lets others in too) spoils all others: then only a person can tell.
    """
    tries = [tried for tried in lease.tries if tried.instance_id == instance_id]
    if any(tried.verdict in ("accepted", "unproven") for tried in tries):
        return False
    own = of_owner(lease, observed)
    return any(_most_apart(_refusals_that_count(run, own)) >= REFUSALS_NEEDED for run in _under_one_host_key(tries))


def _under_one_host_key(tries: Iterable[Try]) -> list[list[Try]]:
    """The tries of a box in runs: another address or another host key may be another server, and begins anew.

    A try in which no host key was seen says nothing about it, and ends a run only by its address.
    """
    runs: list[list[Try]] = []
    host, host_key = "", None
    for tried in tries:
        if not runs or tried.host != host or tried.host_key not in (None, host_key):
            runs.append([])
            host, host_key = tried.host, tried.host_key
        runs[-1].append(tried)
    return runs


def _refusals_that_count(run: Sequence[Try], own: Sequence[Seen]) -> list[Try]:
    """The refusals of a run that came from a box which had been ready for ten minutes.

    Every look at it from ten minutes before until the first one after gives it, and no other box, that address: else
    the refusal may be another machine's.
    """
    refusals = [tried for tried in run if tried.verdict == "refused" and tried.host_key is not None]
    if not refusals:
        return []
    looks = [(seen, _is_ready_at(seen, run[0])) for seen in own]
    return [
        tried
        for tried in refusals
        for since in [_ready_since(tried, looks)]
        if since is not None and milliseconds_between(since, tried.at) >= READY_BEFORE_REFUSED_MS
    ]


def _most_apart(refusals: Sequence[Try]) -> int:
    """How many of them are five minutes apart at most: one by a clock that was ahead takes nothing from the others."""
    chains: list[int] = []
    for tried in refusals:
        before = (
            length
            for earlier, length in zip(refusals, chains, strict=False)
            if milliseconds_between(earlier.at, tried.at) >= TRY_SPACING_MS
        )
        chains.append(1 + max(before, default=0))
    return max(chains, default=0)


def _is_ready_at(seen: Seen, tried: Try) -> bool:
    there = [(box.id, box.status) for box in seen.fact.instances if box.ip == tried.host]
    return there == [(tried.instance_id, "ready")]


def _ready_since(tried: Try, looks: Sequence[tuple[Seen, bool]]) -> datetime | None:
    """Since when a box was shown ready at the address that was tried, without a break until the look after the try."""
    since: datetime | None = None
    newest_before = 0
    for seen, is_ready in looks:
        if seen.fact.begun_at <= tried.at:
            since = None if not is_ready else since or seen.recorded_at
            newest_before = seen.position
    # By its place, not only by its time: a clock may have been ahead for a while.
    after = next((is_ready for seen, is_ready in looks if seen.position > newest_before), False)
    return since if after else None


def may_be_tried(lease: Lease, instance: Instance, now: datetime) -> bool:
    """Whether a box has an address and has not been tried there lately: few, spaced tries.

    The first ones are five minutes apart; after them each wait is twice the one before, up to an hour, since what has
    neither accepted nor refused by then is probably somebody else's.
    """
    if not instance.ip:
        return False
    tries = [tried for tried in lease.tries if (tried.instance_id, tried.host) == (instance.id, instance.ip)]
    if not tries:
        return True
    pause_ms = min(TRY_SPACING_MS << max(0, len(tries) - FREQUENT_TRIES), TRY_SPACING_MAX_MS)
    return not 0 <= milliseconds_between(tries[-1].at, now) < pause_ms


def never_created_evidence(lease: Lease, observed: Sequence[Seen], is_bound: IsBound) -> tuple[int, ...]:
    """The positions of five inventories that prove that nothing was made, or none where they do not.

    Each is complete, of the owning account, begun after the replay window closed, five minutes from the one before,
    and shows nothing that could be the lease's; nor does any other inventory since the first of them. A lease that
    has a box, or whose key a box has accepted, has had one made.
    """
    if lease.instance_id is not None or any(tried.verdict == "accepted" for tried in lease.tries):
        return ()
    clear = _clear_looks(lease, observed, is_bound)[-NEVER_CREATED_INVENTORIES:]
    return tuple(seen.position for seen in clear) if len(clear) == NEVER_CREATED_INVENTORIES else ()


def _clear_looks(lease: Lease, observed: Sequence[Seen], is_bound: IsBound) -> list[Seen]:
    """The spaced inventories after the window that show nothing that could be the lease's, without a break until now.

    A box that was shown, has settled nothing and is not gone breaks them.
    """
    closed_at = _window_closed_at(lease)
    if closed_at is None:
        return []
    own = of_owner(lease, observed)
    shown = {box.id: box for seen in still_looked_at(own) for box in seen.fact.instances}
    suspects = {box.id for box in unsettled(lease, shown.values(), own, is_bound)}
    clear: list[Seen] = []
    for seen in own:
        if any(box.id in suspects for box in seen.fact.instances):
            clear = []
        elif _looked_at(seen) >= closed_at and (not clear or _is_another_look(clear[-1], seen)):
            clear.append(seen)
    return clear


def still_looked_at(own: Sequence[Seen]) -> Sequence[Seen]:
    """The inventories of which a box has to be missing to be gone: the newest, back to one that is another look.

    One look without it may be a glitch of a listing. What was recorded while that other look was under way saw no less
    than it did, and is of them.
    """
    for place in range(len(own) - 1, -1, -1):
        if _is_another_look(own[place], own[-1]):
            first = place
            while first > 0 and own[first - 1].recorded_at > own[place].fact.begun_at:
                first -= 1
            return own[first:]
    return own


def _is_another_look(earlier: Seen, later: Seen) -> bool:
    """By both its times: what was read together, and recorded later by a process that slept meanwhile, is one look."""
    recorded_ms = milliseconds_between(earlier.recorded_at, later.recorded_at)
    begun_ms = milliseconds_between(earlier.fact.begun_at, later.fact.begun_at)
    return min(recorded_ms, begun_ms) >= INVENTORY_SPACING_MS


def _looked_at(seen: Seen) -> datetime:
    """When an inventory was begun at the latest: a clock may have been set back while it was read."""
    return min(seen.fact.begun_at, seen.recorded_at)


def _window_closed_at(lease: Lease) -> datetime | None:
    first = lease.first_sent_at
    return None if first is None else after_ms(first, WINDOW_MS)


def next_look_at(lease: Lease, observed: Sequence[Seen], is_bound: IsBound) -> datetime | None:
    """When another inventory brings a create in doubt nearer to its end: not before its window has closed.

    None where it is not in doubt.
    """
    closed_at = _window_closed_at(lease)
    if closed_at is None or lease.instance_id is not None:
        return None
    since_closed = [seen for seen in of_owner(lease, observed) if _looked_at(seen) >= closed_at]
    # While a box is unsettled its next try is what helps, and that is as far away.
    last = (_clear_looks(lease, observed, is_bound) or since_closed)[-1:]
    looked = [max(seen.recorded_at, seen.fact.begun_at) for seen in last]
    return max([closed_at, *(after_ms(moment, INVENTORY_SPACING_MS) for moment in looked)])
