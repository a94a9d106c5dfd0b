"""Many runs, spread over the cores, and what is printed of one that breaks a rule."""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from tests.simulation.chooser import Seeded
from tests.simulation.play import Run
from tests.simulation.profiles import Menu, menu_of
from tests.simulation.shrink import LIMIT_S, shortest

CHUNK = 25
"""So many seeds go to a process at a time."""


class Broken(NamedTuple):
    """A seed whose run breaks a rule, and the shortest trace of it."""

    seed: int
    menu: str
    rule: str
    text: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        head = f"seed {self.seed} ({self.menu}) breaks the rule `{self.rule}`: {self.text}"
        again = f"again: python -m tests.simulation --from {self.seed} --seeds 1"
        return "\n".join((head, "its shortest trace:", *(f"  {line}" for line in self.trace), again))


def broken_by(seed: int, menu: Menu | None = None, *, limit_s: float = LIMIT_S) -> Broken | None:
    """Plays one seed; where a rule breaks, finds the shortest trace in about so many seconds."""
    menu = menu or menu_of(seed)
    chooser = Seeded(seed, menu)
    played = Run(chooser).play()
    if played.violation is None:
        return None
    short = shortest(chooser.setup, played, limit_s=limit_s)
    rule, text = short.violation or played.violation
    return Broken(seed, menu.name, rule, text, tuple(short.trace))


def simulate(seeds: range, *, limit_s: float = LIMIT_S) -> Iterator[Broken]:
    """All that breaks a rule, in the order of the seeds."""
    parts = [seeds[first : first + CHUNK] for first in range(0, len(seeds), CHUNK)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(os.cpu_count() or 1, len(parts)), mp_context=context) as pool:
        for found in pool.map(_part, parts, [limit_s] * len(parts)):
            yield from found


def _part(seeds: range, limit_s: float) -> list[Broken]:
    found: list[Broken] = []
    for seed in seeds:
        # Whatever the first ones show, the others probably show as well: only those are shortened.
        broken = broken_by(seed, limit_s=limit_s if not found else 0.0)
        found += [] if broken is None else [broken]
    return found


def main() -> int:
    """Plays the seeds that are asked for, prints each that breaks a rule; exit code 1 where there is one."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many runs")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    arguments = parser.parse_args()
    began_s = time.monotonic()
    number = 0
    for broken in simulate(range(arguments.first, arguments.first + arguments.seeds)):
        number += 1
        sys.stdout.write(f"{broken}\n\n")
        sys.stdout.flush()
    rate = arguments.seeds / (time.monotonic() - began_s)
    sys.stdout.write(f"{arguments.seeds} runs, {number} of them broke a rule; {rate:.1f} runs a second\n")
    return 1 if number else 0
