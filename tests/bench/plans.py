"""What it takes to plan a recovery after a long past, against a short one."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from tests.bench.report import Figure, Result, at_most
from tests.bench.timing import Ratios

HERE = Path(__file__).parent
SHORT, LONG = 1_000, 1_000_000
"""Events of each ledger."""


def results(app: Path, folder: Path, environment: Mapping[str, str], rounds: int) -> Iterator[Result | Figure]:
    """The ratio; and how long the long past took to make, which is most of this part's time."""
    python = str(app / "bin" / "python")

    def output(script: str, *words: str | Path) -> str:
        command = [python, HERE / script, *words]
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout

    with TemporaryDirectory(dir=folder) as here:
        short, long = Path(here, "short.db"), Path(here, "long.db")
        output("history.py", short, str(SHORT))
        began = perf_counter()
        output("history.py", long, str(LONG))
        size = f"{perf_counter() - began:.0f} s, {long.stat().st_size / 1e6:.0f} MB"
        yield Figure(f"a ledger of {LONG:,} events made in", size)
        figures = tuple(json.loads(output("planning.py", short, long, str(rounds))))
    yield Result(f"recovery planned, {LONG:,} events, 10 open", at_most(1.1), Ratios(figures, median(figures)))
