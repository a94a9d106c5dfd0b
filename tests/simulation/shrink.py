"""The shortest run that still breaks the same rule: whole decisions are dropped, as long as there is time."""

import time
from collections.abc import Callable

from tests.simulation.chooser import Recorded
from tests.simulation.play import Played, Run
from tests.simulation.steps import Decision, Setup

LIMIT_S = 20.0


def shortest(setup: Setup, played: Played, *, limit_s: float = LIMIT_S) -> Played:
    """Drops parts of the recorded decisions, large ones first, while what is left breaks the same rule."""
    violation = played.violation
    if violation is None:
        return played
    ends_s = time.monotonic() + limit_s

    def breaks(decisions: list[Decision]) -> Played | None:
        again = Run(Recorded(setup, decisions)).play()
        return again if again.violation is not None and again.violation.rule == violation.rule else None

    best = breaks(played.decisions) or played
    size = max(1, len(best.decisions) // 2)
    while size and time.monotonic() < ends_s:
        shorter = _without_some(best, size, breaks, ends_s)
        if shorter is None:
            size //= 2
        else:
            best = shorter
    return best


def _without_some(
    best: Played, size: int, breaks: Callable[[list[Decision]], Played | None], ends_s: float
) -> Played | None:
    for start in range(0, len(best.decisions), size):
        if time.monotonic() >= ends_s:
            return None
        left = best.decisions[:start] + best.decisions[start + size :]
        shorter = breaks(left) if len(left) < len(best.decisions) else None
        if shorter is not None and len(shorter.decisions) < len(best.decisions):
            return shorter
    return None
