"""The spans that decide: replay, flight, settling, absence. Each with where it comes from; pure arithmetic."""

from datetime import datetime

from ledger.domain.state import Attempt, Lease
from ledger.domain.units import milliseconds_between

WINDOW_MS = 540_000
"""A create is replayed only so long after its first POST: fal caches the answer to a key for 10 minutes (its OpenAPI
document of 2026-08-21), and one minute of those is margin."""
IN_FLIGHT_MS = 90_000
"""A POST without an answer may still be running: its own limit of 30 s and a minute."""
HELD_UP_MAX_MS = 20_000
"""A POST that was held up for longer since it was announced is not sent: its flight is counted from then."""
DELETE_SETTLE_MS = 60_000
"""An accepted DELETE whose box stays is sent again, not before this."""
UNSHOWN_ABSENCE_MS = 30 * 60_000
"""An id that no read has ever shown counts as absent only so long after it was bound."""
KEEP_MAX_MS = 7 * 86_400_000
"""A keep, however often renewed, ends at most so far ahead."""
NEVER_CREATED_INVENTORIES = 5
"""So many complete inventories, begun after the window closed, show that nothing was made."""
INVENTORY_SPACING_MS = 5 * 60_000
"""Two inventories nearer than this count as one look."""

REFUSALS_NEEDED = 3
"""So many authentication failures, spaced, show that a box is not the lease's."""
TRY_SPACING_MS = 5 * 60_000
"""A box is offered a lease's key no more often than this."""
FREQUENT_TRIES = 6
"""After so many tries of a box at one address each wait is twice the one before: it is probably somebody else's."""
TRY_SPACING_MAX_MS = 60 * 60_000
"""The longest wait between two tries."""
READY_BEFORE_REFUSED_MS = 10 * 60_000
"""A box that has been ready for a shorter time may not have its key installed yet: its refusal counts for nothing."""
RETRY_MAX_MS = 3_600_000
"""A provider may ask to be left alone so long, not longer: a box bills meanwhile."""
SUSPECT_MS = 7 * 86_400_000
"""So long after a release its box is still looked for: an id that shows up again, or a new box with its key."""


def window_open(lease: Lease, *, now: datetime, boot_id: str, uptime_ms: int, provider_date: datetime | None) -> bool:
    """Whether the create may be replayed: the wall clock, the clock through sleep and fal's `Date` all say so."""
    if not lease.attempts:
        return True
    first, newest = lease.attempts[0], lease.recorded_at
    if boot_id != first.boot_id or (newest is not None and now < newest):
        return False
    ages = [milliseconds_between(first.sent_at, now), uptime_ms - first.uptime_ms]
    if first.provider_date is not None and provider_date is not None:
        ages.append(milliseconds_between(first.provider_date, provider_date))
    return all(0 <= age < WINDOW_MS for age in ages)


def in_flight_left_ms(attempt: Attempt, *, now: datetime, boot_id: str, uptime_ms: int) -> int:
    """How long an attempt without an answer may still be running, by whichever of our clocks has gone less far.

    A wall clock that was set forward ends no request.
    """
    ages = [milliseconds_between(attempt.sent_at, now)]
    if boot_id == attempt.boot_id and uptime_ms >= attempt.uptime_ms:
        ages.append(uptime_ms - attempt.uptime_ms)
    return IN_FLIGHT_MS - min(ages)


def is_held_up(attempt: Attempt, *, now: datetime, uptime_ms: int) -> bool:
    """Whether an attempt was announced too long ago to be sent; asked by the process that announced it."""
    return max(milliseconds_between(attempt.sent_at, now), uptime_ms - attempt.uptime_ms) > HELD_UP_MAX_MS


def is_expired(lease: Lease, now: datetime) -> bool:
    """Whether its own time is over: TTL, idle time or the end of keep. A clock behind the newest fact cannot tell."""
    return lease.expires_at is not None and now >= lease.expires_at and not is_behind(lease, now)


def is_behind(lease: Lease, now: datetime) -> bool:
    return lease.recorded_at is not None and now < lease.recorded_at


def since_first_sent_ms(lease: Lease, now: datetime) -> int | None:
    first = lease.first_sent_at
    return None if first is None else milliseconds_between(first, now)
