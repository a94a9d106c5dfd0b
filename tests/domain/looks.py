"""Inventories and tries for the tests of what could be a lease's own box: builders with sensible values.

The lease's first POST is announced a second after START, so that its window closes at 541 s (`CLOSED_S`).
"""

from collections.abc import Iterable

from msgspec.structs import replace

from ledger.domain import events as e
from ledger.domain.instance import Instance
from ledger.domain.state import Lease
from ledger.domain.suspects import Seen
from tests.domain import histories as h
from tests.domain.histories import Past

CLOSED_S = 541.0
ADDRESS, OTHER_ADDRESS = "203.0.113.20", "203.0.113.21"
OTHER_KEY = "ssh-ed25519 LLLL"
MS_S = 0.001
BOX = h.instance(h.OTHER_BOX, status="ready", ip=ADDRESS)
PENDING = h.instance(h.OTHER_BOX)
MOVED = h.instance(h.OTHER_BOX, status="ready", ip=OTHER_ADDRESS)
OLD = h.instance(h.OLD_BOX, status="ready", ip="203.0.113.9")
NEIGHBOUR = h.instance("i-3", status="ready", ip=ADDRESS)


def nobody(_instance_id: str) -> bool:
    return False


def look(
    seconds: float, *boxes: Instance, recorded_s: float | None = None, key: str = "c1", scope: str | None = None
) -> Seen:
    """An inventory that was begun and recorded at that second; its place in the ledger is given by `placed`."""
    fact = e.InventoryObserved(
        scope=scope or h.requested().scope, credential_binding=key, begun_at=h.at(seconds), instances=boxes
    )
    return Seen(position=0, recorded_at=h.at(seconds if recorded_s is None else recorded_s), fact=fact)


def placed(looks: Iterable[Seen]) -> list[Seen]:
    """The inventories at the positions 11, 12, 13 and so on."""
    return [replace(seen, position=position) for position, seen in enumerate(looks, start=11)]


def minutes(*numbers: float, boxes: tuple[Instance, ...] = (BOX,)) -> list[Seen]:
    """An inventory at each of those minutes."""
    return [look(number * 60, *boxes) for number in numbers]


def tried(*steps: tuple[float, e.CandidateTried], past: Past = h.UNANSWERED) -> Lease:
    """The lease after tries at those minutes."""
    return h.tell((*past, *((minute * 60, fact) for minute, fact in steps)))


def refused(*numbers: float) -> list[tuple[float, e.CandidateTried]]:
    return [(number, h.tried()) for number in numbers]


READY = minutes(10, 15, 20, 25, 30, 35)
THRICE = refused(20, 25, 30)
"""Refusals that `READY` makes count: the box was ready for ten minutes, and the last look confirms the last one."""
