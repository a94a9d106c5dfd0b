"""A stop signal hurries the first DELETE of a box that this very process leased: it leaves within two seconds."""

from ledger.domain.state import Lease
from ledger.flows.services import Services

HURRY_S = 1.5
"""So long after the signal goes on a look that the DELETE waits for; what is left of two seconds is for sending it."""
LOOK_LEAST_S = 0.2
"""What such a look has even where something else has used that time up."""
LOOKS_S = (5.0, 10.0, 20.0)
"""What the first looks have that a signal could come into, since nothing can cut them short; a slow provider gets more
with each."""
SLICE_S = 0.25
"""How soon a wait notices a signal."""


class Hurry:
    """How long one deletion may look and wait. `is_allowed` says that this process leased the box itself."""

    def __init__(self, services: Services, *, is_allowed: bool) -> None:
        self._services = services
        self._is_allowed = is_allowed

    def left_s(self, lease: Lease) -> float | None:
        """What a look may still take since a stop signal came; None where nothing hurries."""
        asked_at_s = self._services.interrupts.asked_at_s
        if asked_at_s is None or not self._may_come(lease):
            return None
        return max(asked_at_s + HURRY_S - self._services.clock.monotonic_s(), LOOK_LEAST_S)

    def look_limit_s(self, lease: Lease, tries: int) -> float | None:
        """What a look may take after so many that failed; None leaves it to the provider's own limit."""
        left_s = self.left_s(lease)
        if left_s is None and self._may_come(lease) and tries < len(LOOKS_S):
            return LOOKS_S[tries]
        return left_s

    def rest(self, lease: Lease, seconds: float) -> None:
        """Sleeps so long, or until a stop signal hurries."""
        clock = self._services.clock
        end_s = clock.monotonic_s() + seconds
        slice_s = SLICE_S if self._may_come(lease) else seconds
        while self.left_s(lease) is None and (left_s := end_s - clock.monotonic_s()) > 0:
            clock.sleep(min(left_s, slice_s))

    def _may_come(self, lease: Lease) -> bool:
        """Only before the first DELETE: where one has left, the next is due by what became of that one."""
        return self._is_allowed and not lease.deletes
