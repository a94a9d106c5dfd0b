"""Which of the boxes that could be a lease's is its own: each is offered the lease's key, and each offer is a fact."""

from collections.abc import Sequence

from ledger.domain import events as e
from ledger.domain.ports import Endpoint, Instance, Inventory, Probe
from ledger.domain.state import Lease
from ledger.domain.suspects import may_be_tried
from ledger.flows.book import HeldElsewhere
from ledger.flows.services import Services, Stage

COMMON_LOGIN = ("ubuntu", 22)
"""fal's documented login (its Compute documentation, 2026-08-21), tried beside the one that was recorded."""


def prove(services: Services, lease_id: str, boxes: Sequence[Instance], seen: Inventory) -> list[Lease]:
    """Offers the lease's key to each box that may be tried now, and binds those that accept it, to be deleted.

    `seen` is the inventory that the boxes are from: it and one read after an acceptance must give the box, and no other
    one, its address.
    Every try is appended as `candidate-tried`, an acceptance together with its binding: to the lease itself while it
    has no box, else to a twin, a lease of its own that only holds a second box. Gives the leases that were bound.
    Raises `CallFailed` where the inventory after an acceptance cannot be read: without it nothing is proven.
    """
    bound = []
    for box in boxes:
        lease = services.book.load(lease_id)
        if not may_be_tried(lease, box, services.clock.now()) or not _is_alone_at(seen, box):
            continue
        tried = _try(services, lease, box)
        detail = f"{box.id}: {tried.verdict}"
        services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name="tried", detail=detail))
        if tried.verdict != "accepted":
            services.book.record(lease_id, tried)
            continue
        try:
            holder = _bind(services, lease, box, tried)
        except HeldElsewhere:
            continue  # somebody was faster
        services.tell(Stage(lease_id=holder.lease_id, slug=holder.slug, name="bound", detail=f"{box.id} by its key"))
        bound.append(holder)
    return bound


def _try(services: Services, lease: Lease, box: Instance) -> e.CandidateTried:
    probe = _offer(services, lease, box)
    if probe.verdict == "accepted" and not _is_alone_at(services.provider.inventory(), box):
        probe = Probe(verdict="no-answer", host_key=probe.host_key, detail=f"{box.ip} is not {box.id} any more")
    return e.CandidateTried(
        instance_id=box.id, host=box.ip or "", verdict=probe.verdict, host_key=probe.host_key, detail=probe.detail
    )


def _offer(services: Services, lease: Lease, box: Instance) -> Probe:
    """What the box says over every login: it is ours where one accepts the key and none lets others in."""
    request = lease.request
    if request is None:
        raise ValueError("a lease with a create was requested")
    logins = dict.fromkeys(((request.ssh_user, request.ssh_port), COMMON_LOGIN))
    probes = [
        services.box.probe(
            Endpoint(lease_id=request.twin_of or lease.lease_id, host=box.ip or "", port=port, user=user),
            request.public_key,
        )
        for user, port in logins
    ]
    return _together(probes)


def _together(probes: Sequence[Probe]) -> Probe:
    for verdict in ("unproven", "accepted"):
        for probe in probes:
            if probe.verdict == verdict:
                return probe
    keys = {probe.host_key for probe in probes}
    if len(keys) == 1 and all(probe.verdict == "refused" for probe in probes):
        return probes[0]
    told = "; ".join(dict.fromkeys(probe.detail for probe in probes))
    return Probe(verdict="no-answer", host_key=None, detail=told)


def _is_alone_at(inventory: Inventory, box: Instance) -> bool:
    """Whether the inventory gives the box this address, and no other box."""
    return [instance.id for instance in inventory.instances if instance.ip == box.ip] == [box.id]


def _bind(services: Services, lease: Lease, box: Instance, tried: e.CandidateTried) -> Lease:
    fact = e.InstanceIdBound(
        instance_id=box.id, evidence="key-proof", acquirer=lease.acquirer, attempt=None, instance=box
    )
    request = lease.request
    if lease.instance_id is None or request is None:
        return services.book.bind(lease.lease_id, fact, because=tried).lease
    return services.book.twin(lease.lease_id, fact, because=tried)
