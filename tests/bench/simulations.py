"""How many simulated runs one core plays in a second: what `make simulate` and a part of `make test` take."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.bench.report import Figure

ROOT = Path(__file__).resolve().parents[2]
RUNS = 90
SCRIPT = f"""
import sys, time
sys.path.append({str(ROOT)!r})  # last, so that what runs is the installed program and not the checkout
from tests.simulation.chooser import Seeded
from tests.simulation.play import Run
Run(Seeded(0)).play()  # imports what there is, and makes the ledger that the others copy
began_s = time.process_time()
for seed in range({RUNS}):
    Run(Seeded(seed)).play()
print({RUNS} / (time.process_time() - began_s))
"""


def figure(app: Path, environment: Mapping[str, str]) -> Figure:
    """The rate by the processor's time, so that what else runs on the machine does not count."""
    python = str(app / "bin" / "python")
    ended = subprocess.run([python, "-c", SCRIPT], env=environment, check=True, capture_output=True, text=True)
    return Figure("simulated runs a second, on one core", f"{float(ended.stdout):.1f}")
