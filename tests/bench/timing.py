"""Whole processes against each other: their wall time, and the ratio within each round."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter


@dataclass(frozen=True)
class Ratios:
    """How many times the yardstick a case took (or reached), one figure for each round; and the case's own time."""

    figures: tuple[float, ...]
    case_s: float

    @property
    def median(self) -> float:
        return median(self.figures)

    def __str__(self) -> str:
        return f"{self.median:6.2f}x  ({min(self.figures):.2f} - {max(self.figures):.2f})"


def process_s(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """The wall time of one process from its start to its end, in seconds. Its output is discarded.

    `posix_spawn` and `waitpid`, not `subprocess`: what the harness itself costs would pull every ratio towards 1.
    Raises `RuntimeError` where it does not end with 0.
    """
    nothing = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        *((os.POSIX_SPAWN_OPEN, output, os.devnull, os.O_WRONLY, 0) for output in (1, 2)),
    ]
    started = perf_counter()
    pid = os.posix_spawnp(command[0], list(command), dict(environment), file_actions=nothing)
    _, status = os.waitpid(pid, 0)
    elapsed = perf_counter() - started
    if status != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return elapsed


def ratios(case: Callable[[], float], yardstick: Callable[[], float], *, rounds: int) -> Ratios:
    """Both in turn, `rounds` times; each gives what it measured. The first pair warms the caches and counts nothing."""
    case(), yardstick()
    measured = []
    for number in range(rounds):
        # Who goes first changes, so that neither always has the warmer processor.
        if number % 2:
            ours, floor = case(), yardstick()
        else:
            floor, ours = yardstick(), case()
        measured.append((ours, floor))
    return Ratios(tuple(ours / floor for ours, floor in measured), median(ours for ours, _ in measured))
