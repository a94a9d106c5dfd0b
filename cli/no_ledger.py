"""What there is to read before the first lease: nothing."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Self

from ledger.domain.rows import GENESIS, Head, Row

if TYPE_CHECKING:
    from ledger.domain.claim import Claim


class NoLedger:
    """Answers every read with nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def head(self) -> Head:
        return Head(0, GENESIS, None)

    def claims(self, *, include_released: bool = False) -> "list[Claim]":
        return []

    def find(self, name: str) -> "list[Claim]":
        return []

    def released_since(self, moment: str) -> "list[Claim]":
        return []

    def suspects(self, since: str) -> "list[Claim]":
        return []

    def rows(self, stream: str | None = None, *, after: int = 0, types: Iterable[str] = ()) -> Iterator[Row]:
        return iter(())
