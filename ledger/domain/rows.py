"""What is read from a ledger without its events being understood: rows, its head, and what a walk over it found.

Named tuples only, and no other import: `rentroll list` and `rentroll events` load nothing else of the domain.
"""

from typing import NamedTuple

GENESIS = "0" * 64
"""The hash before the first event."""


class Row(NamedTuple):
    """One event as it is stored. `payload` is the exact canonical JSON text that the hash covers."""

    position: int
    stream: str
    sequence: int
    type: str
    version: int
    recorded_at: str
    actor: str
    payload: str
    prev_hash: str
    hash: str


class Head(NamedTuple):
    """The newest event: its position (0 for an empty ledger), hash and time (None for an empty ledger)."""

    position: int
    hash: str
    recorded_at: str | None


class Problem(NamedTuple):
    """One thing that does not verify. `kind` is chain, payload, sequence, projection or schema."""

    position: int
    kind: str
    message: str


class Verification(NamedTuple):
    """What a walk over the whole ledger found."""

    events: int
    head_hash: str
    problems: tuple[Problem, ...]
