"""The rate of durable appends against bare inserts, and how many fsyncs each of them takes."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

from tests.bench.report import Result, at_least, at_most
from tests.bench.timing import Ratios

SCRIPT = Path(__file__).parent / "append.py"
TRACED = 50


def results(app: Path, folder: Path, environment: Mapping[str, str], rounds: int) -> Iterator[Result]:
    """The rate, then the fsyncs an append takes, counted by strace."""
    python = str(app / "bin" / "python")
    with tempfile.TemporaryDirectory(dir=folder) as here:
        rates = _output([python, SCRIPT, here, str(rounds)], environment)
    figures = tuple(json.loads(rates))
    name = "durable append, rate of a bare insert's"
    yield Result(name, at_least(0.75), Ratios(figures, median(figures)))
    name = "fsyncs of an append, of a bare insert's"
    if shutil.which("strace") is None:
        yield Result(name, at_most(1.0), None, "strace is not installed")
        return
    ours, bare = (_fsyncs(python, folder, environment, which) for which in ("ours", "bare"))
    yield Result(f"{name} ({ours:g} and {bare:g})", at_most(1.0), Ratios((ours / bare,), ours))


def _fsyncs(python: str, folder: Path, environment: Mapping[str, str], which: str) -> float:
    """How many more fsyncs there are with an append more: what making the files takes is in both counts."""
    counts = []
    for appends in (0, TRACED):
        with tempfile.TemporaryDirectory(dir=folder) as here:
            trace = Path(here, "trace")
            tracing: list[str | Path] = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", trace]
            _output([*tracing, python, SCRIPT, here, "trace", which, str(appends)], environment)
            counts.append(len(trace.read_text(encoding="ascii").splitlines()))
    return (counts[1] - counts[0]) / TRACED


def _output(command: list[str | Path], environment: Mapping[str, str]) -> str:
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
