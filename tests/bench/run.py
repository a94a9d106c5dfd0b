"""What rentroll costs, as ratios measured side by side: `python tests/bench/run.py --venv .venv/app`.

The environment must hold rentroll as a user has it, installed and not editable. Exit code 1 where a goal is missed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import appends, crowds, leases, plans, simulations, starts, working
from tests.bench.report import Figure, Result, verdict

PARTS = {
    "starts": (starts, 31),
    "appends": (appends, 11),
    "leases": (leases, 11),
    "plans": (plans, 21),
    "crowds": (crowds, 7),
    "working": (working, 7),
}
"""What is measured, and how many rounds of it."""
SIMULATIONS = "simulations"
FACTS = """
import os, platform, sqlite3, sysconfig
import cli
assert cli.__file__.startswith(sysconfig.get_path("purelib")), "rentroll is not installed, or editable"
print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores; ", end="")
print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}")
"""
LEGEND = "ratio within a round: median (lowest - highest), against `python -c pass` where nothing else is said"
COMPILE = (
    "import compileall, sys, sysconfig; sys.exit(not compileall.compile_dir(sysconfig.get_path('purelib'), quiet=1))"
)


def plain_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Without what would change how Python starts (PYTHONDONTWRITEBYTECODE above all) and without settings of ours."""
    return {name: value for name, value in inherited.items() if not name.startswith(("PYTHON", "RENTROLL_", "FAL_"))}


def measured(app: Path, folder: Path, environment: Mapping[str, str], only: str | None) -> Iterator[Result | Figure]:
    """Every figure as it comes."""
    for name, (part, rounds) in PARTS.items():
        if only in (None, name):
            yield from part.results(app, folder, environment, rounds)
    if only in (None, SIMULATIONS):
        yield simulations.figure(app, environment)


def main() -> int:
    """Measures, prints, and says whether every goal is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, required=True, help="the environment with rentroll installed")
    parser.add_argument("--only", choices=[*PARTS, SIMULATIONS], help="one part of it")
    arguments = parser.parse_args()
    app = arguments.venv.absolute()
    environment = plain_environment(os.environ)
    with tempfile.TemporaryDirectory(prefix="rentroll-bench-") as folder:
        os.chdir(folder)  # no repository's settings, and no git to ask
        python = str(app / "bin" / "python")
        # pip compiles what it installs, uv only where it is told to: both sides are to start from bytecode.
        subprocess.run([python, "-c", COMPILE], env=environment, check=True)
        facts = subprocess.run([python, "-c", FACTS], env=environment, check=True, text=True, capture_output=True)
        sys.stdout.write(f"{facts.stdout}{LEGEND}\n\n")
        results = []
        for found in measured(app, Path(folder), environment, arguments.only):
            sys.stdout.write(f"{found}\n")
            sys.stdout.flush()
            if isinstance(found, Result):
                results.append(found)
        os.chdir("/")
    sys.stdout.write(f"\n{verdict(results)}\n")
    return 0 if all(result.is_met for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
