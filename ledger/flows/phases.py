"""How long each part of a run took: lease, boot, ssh, sync, command, download, release."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Phases:
    """The parts of one run by name, in the order in which they began. `monotonic_s` is the clock."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._lengths_s: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds the length of the block to a part, however it ends."""
        began_s = self._monotonic_s()
        self._lengths_s.setdefault(name, 0.0)
        try:
            yield
        finally:
            self.add(name, self._monotonic_s() - began_s)

    def add(self, name: str, seconds: float) -> None:
        self._lengths_s[name] = self._lengths_s.get(name, 0.0) + seconds

    def in_ms(self) -> dict[str, int]:
        """Whole milliseconds, for the ledger."""
        return {name: round(length_s * 1000) for name, length_s in self._lengths_s.items()}

    def in_seconds(self) -> dict[str, float]:
        """Seconds to the millisecond by `<name>_seconds`, for JSON."""
        return {f"{name}_seconds": round(length_s, 3) for name, length_s in self._lengths_s.items()}
