"""The ledger as the flows see it: append facts, read them back, look claims up. One contract for every database.

`ledger/store/` implements it; `tests/contract/` is the one suite that every implementation passes.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import NamedTuple, Protocol

from ledger.domain.claim import Claim
from ledger.domain.events import AccountEvent, LeaseEvent
from ledger.domain.state import Lease


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


class Transaction(Protocol):
    """One short write transaction, alone on the ledger. Nothing in it may touch the network."""

    def load(self, lease_id: str) -> Lease:
        """The lease as its stream says; sequence 0 where there is none."""
        ...

    def head(self) -> Head: ...

    def append(self, lease: Lease, facts: Sequence[LeaseEvent], *, at: datetime, actor: str) -> Lease:
        """Appends facts behind the state they were decided on, with the claim; gives the new state.

        Raises `Conflict` where the stream has moved on since `lease` was read.
        """
        ...

    def append_account(self, fact: AccountEvent, *, at: datetime, actor: str) -> int:
        """Appends one fact to the account's stream; gives its position."""
        ...

    def slug_holder(self, slug: str) -> str | None:
        """The open lease that holds this slug."""
        ...

    def instance_holder(self, instance_id: str) -> str | None:
        """The lease, open or released, that this instance id is bound to."""
        ...


class Register(Protocol):
    """One open ledger."""

    def transaction(self) -> AbstractContextManager[Transaction]: ...
    def load(self, lease_id: str) -> Lease: ...
    def head(self) -> Head: ...
    def salt(self) -> bytes:
        """The ledger's own random salt for credential bindings; made with the ledger and never changed."""
        ...

    def claim(self, lease_id: str) -> Claim | None: ...
    def claims(self, *, include_released: bool = False) -> list[Claim]:
        """Open claims, or all; newest first."""
        ...

    def find(self, name: str) -> list[Claim]:
        """What a LEASE argument names: an exact lease id; else the open lease of that slug; else by bound instance."""
        ...

    def rows(self, stream: str | None = None, *, after: int = 0, types: Iterable[str] = ()) -> Iterator[Row]:
        """Events in order of position, optionally of one stream or of some types, lazily."""
        ...

    def verify(self) -> Verification: ...
    def close(self) -> None: ...
