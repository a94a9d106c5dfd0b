"""The ledger as the flows see it: append facts, read them back, look claims up. One contract for every database.

`ledger/store/` implements it; `tests/contract/` is the one suite that every implementation passes.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol, Self

from ledger.domain.claim import Claim
from ledger.domain.events import AccountEvent, LeaseEvent
from ledger.domain.rows import Head as Head
from ledger.domain.rows import Problem as Problem
from ledger.domain.rows import Row as Row
from ledger.domain.rows import Verification as Verification
from ledger.domain.state import Lease
from ledger.domain.suspects import Seen


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


class Reader(Protocol):
    """The ledger for listings and reports: rows and claims, without understanding an event."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *failure: object) -> None: ...
    def head(self) -> Head: ...
    def claims(self, *, include_released: bool = False) -> list[Claim]:
        """Open claims, or all; newest first."""
        ...

    def find(self, name: str) -> list[Claim]:
        """What a LEASE argument names: an exact lease id; else the open lease of that slug; else by bound instance."""
        ...

    def released_since(self, moment: str) -> list[Claim]:
        """The claims released after a stored time, at a cost that follows how many those are; newest first."""
        ...

    def suspects(self, since: str) -> list[Claim]:
        """The claims of which a box may exist that no lease is bound to: open, or released after a stored time.

        One that has a box of its own is among them until it is settled whether there is a second one.
        """
        ...

    def rows(self, stream: str | None = None, *, after: int = 0, types: Iterable[str] = ()) -> Iterator[Row]:
        """Events in order of position, optionally of one stream or of some types, lazily."""
        ...


class Register(Reader, Protocol):
    """One open ledger."""

    def transaction(self) -> AbstractContextManager[Transaction]: ...
    def load(self, lease_id: str) -> Lease:
        """The lease as its stream says; sequence 0 where there is none."""
        ...

    def salt(self) -> bytes:
        """The ledger's own random salt for credential bindings; made with the ledger and never changed."""
        ...

    def claim(self, lease_id: str) -> Claim | None: ...
    def first_position(self, stream: str) -> int:
        """Where a stream begins in the ledger; 0 where there is none."""
        ...

    def inventories(self, *, after: int) -> list[Seen]:
        """The inventories that were recorded behind a position, in order; behind the last one that cannot be read."""
        ...

    def verify(self) -> Verification: ...
    def close(self) -> None: ...
