"""Taking a lease over whose acquirer is gone: itself an append, so that only one process goes on (W-37)."""

from ledger.domain import events as e
from ledger.domain.state import Lease
from ledger.domain.units import after_ms
from ledger.flows.services import Services

TAKEOVER_MS = 300_000
"""So long has whoever took a lease over before it counts as hung itself."""


def take_over(services: Services, lease: Lease, *, token: str, holds_lock: bool) -> Lease:
    """Fences the acquirer: dead where we hold the lease's lock, hung where its deadline has passed.

    From then on its late decisions are refused, while an id that it learns is still appended. Raises `Refused` where
    it is neither.
    """
    fact = e.AcquireFenced(
        acquirer=token,
        deadline=after_ms(services.clock.now(), TAKEOVER_MS),
        evidence="lock-free" if holds_lock else "deadline-passed",
        host=services.host,
        pid=services.pid,
    )
    return services.book.record(lease.lease_id, fact).lease
