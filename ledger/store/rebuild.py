"""The claims made anew from the log alone, event by event in order of position: what `verify` compares with.

Order matters: which of two leases got the slug or the box is what the log says came first.
"""

import sqlite3
from collections.abc import Callable, Iterable

from ledger.domain.errors import IntegrityFailure
from ledger.domain.events import ACCOUNT_STREAM
from ledger.domain.rows import Row
from ledger.domain.state import Lease, Recorded
from ledger.store.codec import recorded
from ledger.store.projection import fold, project


class ClaimRebuild:
    """Feeds facts into the `claims` table of `target`, which must be empty at first.

    Memory follows what is open: the state of a released lease is dropped and, should another fact of it come, folded
    again from `history`, which gives the rows of one stream from its first on.
    """

    def __init__(self, target: sqlite3.Connection, history: Callable[[str], Iterable[Row]]) -> None:
        self._target = target
        self._history = history
        self._states: dict[str, tuple[Lease, int]] = {}
        self._unwritten: set[str] = set()
        self.damaged: set[str] = set()

    def feed(self, row: Row) -> None:
        """Takes the next event; one that cannot be read is raised and takes its lease out of the rebuild (W-04)."""
        try:
            fact = recorded(row)
        except IntegrityFailure:
            self.damaged.add(row.stream)
            self._states.pop(row.stream, None)
            self._unwritten.discard(row.stream)
            raise
        if row.stream != ACCOUNT_STREAM and row.stream not in self.damaged:
            self._apply(fact, row.position)

    def finish(self) -> None:
        """Writes what was put off. Call it after the last event."""
        for lease_id in sorted(self._unwritten):
            lease, position = self._states[lease_id]
            project(self._target, lease, position, None)
        self._unwritten.clear()

    def _apply(self, fact: Recorded, position: int) -> None:
        before = self._state(fact)
        after, failure = fold(before, fact)
        self._states[fact.stream] = (after, position)
        # Other leases, and whether a claim can be made at all, depend on nothing else: the rest can wait.
        if failure is None and before.sequence and _outline(before) == _outline(after):
            self._unwritten.add(fact.stream)
        else:
            # A row that was put off is written whole: a sign of life would update only the part that it changes.
            project(self._target, after, position, failure, None if fact.stream in self._unwritten else fact)
            self._unwritten.discard(fact.stream)
        if not after.is_open and fact.stream not in self._unwritten:
            del self._states[fact.stream]

    def _state(self, fact: Recorded) -> Lease:
        known = self._states.get(fact.stream)
        if known is not None:
            return known[0]
        lease = Lease(lease_id=fact.stream)
        if fact.sequence > 1:
            for row in self._history(fact.stream):
                if row.sequence >= fact.sequence:
                    break
                lease, _ = fold(lease, recorded(row))
        return lease


def _outline(lease: Lease) -> tuple[object, ...]:
    return (lease.is_open, lease.slug, lease.instance_id, lease.ttl_ms, lease.idle_timeout_ms, lease.keep)
