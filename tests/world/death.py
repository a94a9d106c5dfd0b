"""Ends a program at any one of its boundaries, as a kill does."""

READS = frozenset({"load", "begin"})
"""Boundaries that change nothing: dying there is dying after the effect before. So is dying in a sleep that goes on."""


class Crash(BaseException):
    """The process has died: nothing of ours may catch it."""


class Death:
    """What a program meets at its boundaries: its end at number `at`, counted from 1; never where `at` is None.

    `crossed` are the boundaries at which a death may make a difference, `fell_at` the one where it came.
    """

    def __init__(self, at: int | None) -> None:
        self.crossed: list[str] = []
        self.fell_at: str | None = None
        self._at = at
        self._told = False

    def __call__(self, name: str) -> None:
        if self.fell_at is not None:
            # A dead process does nothing: the `finally` blocks that still run here must not reach the world.
            raise Crash
        if name in READS or (name == "sleep" and self.crossed[-1:] == ["sleep"]):
            return
        self.crossed.append(name)
        if len(self.crossed) == self._at:
            self.fell_at = name
            raise Crash

    def falls_now(self) -> bool:
        """Whether it has come since this was last asked."""
        told, self._told = self._told, self.fell_at is not None
        return self._told and not told
