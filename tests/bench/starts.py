"""Whole processes of the installed `rentroll` against `python -c pass` of the same environment."""

import subprocess
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from tests.bench.report import Result, at_most
from tests.bench.timing import process_s, ratios

HERE = Path(__file__).parent
LEDGERS = {"mixed": (20, 980), "open": (1000, 0)}
"""Open and released leases of each ledger that is listed."""


def results(app: Path, folder: Path, environment: Mapping[str, str], rounds: int) -> Iterator[Result]:
    """Each start with its goal. `folder` takes the ledgers that are listed, made through the real store."""
    rentroll, python = str(app / "bin" / "rentroll"), str(app / "bin" / "python")
    newest = {name: _make_ledger(python, folder / name, environment, *LEDGERS[name]) for name in LEDGERS}
    lease = newest["mixed"]
    cases = (
        (2.5, "mixed", ["--version"]),
        (4.5, "mixed", ["--help"]),
        (4.5, "mixed", ["completion", "bash"]),
        (5.0, "mixed", ["list"]),
        (5.0, "mixed", ["status", lease]),
        (5.0, "mixed", ["events", lease]),
        (9.0, "open", ["list", "--json"]),
        (7.0, "mixed", ["touch", lease]),
    )
    for goal, ledger, words in cases:
        state = {**environment, "RENTROLL_STATE_DIR": str(folder / ledger)}
        measured = ratios(
            partial(process_s, [rentroll, *words], state),
            partial(process_s, [python, "-c", "pass"], environment),
            rounds=rounds,
        )
        size = "" if words[0].startswith("--") or words[0] == "completion" else f", {_size(*LEDGERS[ledger])}"
        yield Result(f"{' '.join(words).replace(lease, 'LEASE')}{size}", at_most(goal), measured)


def _size(still_open: int, released: int) -> str:
    return f"{still_open + released:,} claims, {still_open:,} open"


def _make_ledger(python: str, state: Path, environment: Mapping[str, str], still_open: int, released: int) -> str:
    state.mkdir(mode=0o700)
    made = subprocess.run(
        [python, HERE / "make_ledger.py", state / "ledger.db", str(still_open), str(released)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return made.stdout.strip()
