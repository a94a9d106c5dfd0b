"""Waiting during an acquisition: short sleeps, and a look at the ledger for a stop that somebody asked for."""

from ledger.domain.errors import Conflict
from ledger.flows.services import Services

LOOK_EVERY_S = 1.0
CALL_TIMEOUT_S = 30.0
"""What a call to the provider may take at most; less where the time that is left is shorter."""
_LEAST_S = 0.001


class StopAsked(Conflict):
    """Somebody asked for this lease to be stopped while it was being acquired (W-42)."""


def time_left_s(services: Services, stop_at_s: float) -> float:
    """What is left until `stop_at_s` (monotonic), never so little that a call could not say why it failed."""
    return max(stop_at_s - services.clock.monotonic_s(), _LEAST_S)


def pause(services: Services, lease_id: str, seconds: float) -> None:
    """Sleeps so long, looking at the ledger every second. Raises `StopAsked`."""
    end_s = services.clock.monotonic_s() + seconds
    while True:
        require_wanted(services, lease_id)
        left_s = end_s - services.clock.monotonic_s()
        if left_s <= 0:
            return
        services.clock.sleep(min(left_s, LOOK_EVERY_S))


def require_wanted(services: Services, lease_id: str) -> None:
    """Raises `StopAsked` where a stop was recorded."""
    lease = services.book.load(lease_id)
    if lease.stop_reason is not None:
        raise StopAsked(f"lease {lease.slug} was stopped while it was being acquired: {lease.stop_reason}")
