"""Signs of life: one fact a minute while somebody works on a box, so that it does not look idle.

They hold off nothing else: the box goes when its own time ends, whatever runs on it, and people are told before.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cli.render import note, span
from ledger.domain.errors import RentrollError
from ledger.domain.events import Touched
from ledger.flows.work import SIGN_OF_LIFE_S

if TYPE_CHECKING:
    from cli.app import App
    from ledger.domain.state import Lease

LAST_WARNING = timedelta(minutes=10)
"""So long before the end of a box that works people are told once more."""
FIRST_WARNING = timedelta(hours=1)
"""An end that is nearer than this when the work begins is told then."""


class EndWarning:
    """When to tell of the end of a box's own time: as the work begins where it is near, and ten minutes before it."""

    def __init__(self, end: datetime | None, *, first: timedelta = FIRST_WARNING) -> None:
        self.end = end
        self._first: timedelta | None = first
        self._told_of: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        """Whether it is to be told now; then it counts as told. An end that has been moved is told anew."""
        if self.end is None:
            return False
        limit, self._first = max(self._first or LAST_WARNING, LAST_WARNING), None
        left = self.end - now
        if left > limit or self._told_of == self.end:
            return False
        if left <= LAST_WARNING:
            self._told_of = self.end
        return True

    def pause_s(self, now: datetime, at_most_s: float) -> float:
        """How long may be waited before it is asked again: not past ten minutes before the end."""
        if self.end is None or self._told_of == self.end:
            return at_most_s
        return max(0.0, min(at_most_s, (self.end - LAST_WARNING - now).total_seconds()))


def own_end(lease: "Lease") -> datetime | None:
    """When the box goes whatever is done on it: the end of keep while it is kept, else of its TTL."""
    if lease.keep is not None:
        return lease.keep.until
    return None if lease.created_at is None else lease.created_at + timedelta(milliseconds=lease.ttl_ms)


@contextmanager
def signs_of_life(
    app: "App", lease_id: str, cause: str, *, warns: bool = False, first: timedelta = FIRST_WARNING
) -> "Iterator[None]":
    """Appends `touched` every minute until the block ends. A failure is a warning: the work goes on.

    With `warns` the end of the box's own time is told: at once where it is nearer than `first`, and ten minutes before.
    """
    ended = threading.Event()
    lease = app.register.load(lease_id) if warns else None
    warning = EndWarning(own_end(lease) if lease is not None else None, first=first)

    def warn() -> None:
        now = app.now()
        if warning.end is not None and warning.is_due(now):
            slug = lease.slug if lease is not None else lease_id
            ends = f"in {span((warning.end - now).total_seconds())}, at {warning.end:%H:%M} UTC"
            moves = app.command_line("touch", slug, "--ttl", "TIME")
            note(f"the box of {slug} ends {ends}, whatever runs there{_by_whom(app, lease_id)}; `{moves}` moves that")

    def beat() -> None:
        since_s = 0.0
        while not ended.wait(pause_s := warning.pause_s(app.now(), SIGN_OF_LIFE_S - since_s)):
            since_s += pause_s
            if since_s >= SIGN_OF_LIFE_S:
                since_s = 0.0
                try:
                    seen = app.book.record(lease_id, Touched(cause=cause)).lease
                except RentrollError as failure:
                    note(f"no sign of life could be recorded: {failure.message}")
                else:
                    warning.end = own_end(seen) if warns else None
            warn()

    warn()
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _by_whom(app: "App", lease_id: str) -> str:
    """Where nobody watches the ledger: that it then takes a person, or another program, to end the box."""
    from cli.watched import watched

    try:
        found = watched(app, app.now(), claims=[app.book.claim(lease_id)])
    except RentrollError:
        return ""  # it is a word in a warning, and nothing may fail of it
    return "" if found.is_so else f", by the first `{app.command_line('cleanup')}` after that, as {found.sentence}"
