"""Working on a warm lease against the bare tools, which start cold: a command, a stream, the working tree.

The box is this machine behind a stock OpenSSH server; what is copied goes into memory (tmpfs) where there is some.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median

from tests.bench.corpus import CHANGED, FILES, Corpus
from tests.bench.report import Goal, Result, at_least, at_most
from tests.bench.stock import SLUG, SSHD, Stock, as_rsync_shell, leased
from tests.bench.timing import Ratios, process_s, ratios

TOOLS = ("ssh", "ssh-keygen", "rsync", "git")
MEMORY = Path("/dev/shm")
STREAM_BYTES = 1_000_000_000
STREAM_ROUNDS = 3
COMMAND = "run --id LEASE --no-sync -- true, of cold ssh", at_most(0.7)
STREAM = "rate of 1 GB of stdout, of plain ssh's", at_least(0.8)
CASES = ("first", f"{CHANGED} changed", "nothing changed")
TRANSFERS: dict[str, tuple[dict[str, str], tuple[str, ...], tuple[float, float, float]]] = {
    "sync": ({}, (), (1.0, 0.9, 0.75)),
    "sync without rsync": ({}, ("--no-rsync",), (1.4, 0.9, 0.8)),
    "sync without ssh": ({"RENTROLL_SSH": "library"}, ("--no-rsync",), (2.2, 1.6, 1.6)),
}
"""How the tree is copied: the environment, the flags, and the goals of the three cases."""


def results(app: Path, folder: Path, environment: Mapping[str, str], rounds: int) -> Iterator[Result]:
    """Each against the same by hand."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None] + ([] if SSHD else ["sshd"])
    if missing:
        for name, aim in _names():
            yield Result(name, aim, None, f"{', '.join(missing)} missing")
        return
    rentroll = str(app / "bin" / "rentroll")
    memory = MEMORY if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) else folder
    with (
        tempfile.TemporaryDirectory(dir=memory, prefix="rentroll-bench-") as boxes,
        leased(rentroll, folder / "stock", Path(boxes) / "work", environment) as stock,
    ):
        yield _command(rentroll, stock, rounds)
        yield _stream(rentroll, stock)
        corpus = Corpus(folder / "corpus")
        for name, (more, flags, goals) in TRANSFERS.items():
            for case, goal in zip(CASES, goals, strict=True):
                taken = _sync(rentroll, stock, corpus, case, more=more, flags=flags, rounds=rounds)
                yield Result(_in_words(name, case), at_most(goal), taken)


def _names() -> Iterator[tuple[str, Goal]]:
    yield COMMAND
    yield STREAM
    for name, (_, _, goals) in TRANSFERS.items():
        for case, goal in zip(CASES, goals, strict=True):
            yield _in_words(name, case), at_most(goal)


def _in_words(name: str, case: str) -> str:
    return f"{name}, {FILES:,} files, {case}"


def _command(rentroll: str, stock: Stock, rounds: int) -> Result:
    run = [rentroll, "run", "--id", SLUG, "--no-sync", "--", "true"]
    taken = ratios(
        lambda: process_s(run, stock.environment),
        lambda: process_s([*stock.ssh, "true"], stock.environment),
        rounds=2 * rounds,
    )
    return Result(*COMMAND, taken)


def _stream(rentroll: str, stock: Stock) -> Result:
    printed = ["head", "-c", str(STREAM_BYTES), "/dev/zero"]
    run = [rentroll, "run", "--id", SLUG, "--no-sync", "--", *printed]
    taken = ratios(
        lambda: process_s(run, stock.environment),
        lambda: process_s([*stock.ssh, *printed], stock.environment),
        rounds=STREAM_ROUNDS,
    )
    rates = tuple(1 / figure for figure in taken.figures)
    return Result(*STREAM, Ratios(rates, median(rates)))


def _sync(
    rentroll: str,
    stock: Stock,
    corpus: Corpus,
    case: str,
    *,
    more: Mapping[str, str],
    flags: tuple[str, ...],
    rounds: int,
) -> Ratios:
    """Both sides copy the same tree; each has its own copy of it on the box."""
    by_hand = stock.work_root / "by-hand"
    host = f"{stock.ssh[-1]}:{by_hand}/"
    rsync = ["rsync", "-a", "--exclude=/.git", "-e", as_rsync_shell(stock.ssh), f"{corpus.root}/", host]
    ours = ["sh", "-c", 'cd "$0" && exec "$@"', str(corpus.root), rentroll, "sync", SLUG, *flags]
    environment = {**stock.environment, **more}

    def timed(command: list[str]) -> Callable[[], float]:
        def once() -> float:
            if case == CASES[0]:
                _empty(stock)
                by_hand.mkdir()
            elif case == CASES[1]:
                subprocess.run(
                    command, env=environment, check=True, capture_output=True
                )  # what the other's turn changed
                corpus.change()
            return process_s(command, environment)

        return once

    _empty(stock)
    by_hand.mkdir()
    for command in (ours, rsync):  # for the cases in which the tree is there already
        subprocess.run(command, env=environment, check=True, capture_output=True)
    return ratios(timed(ours), timed(rsync), rounds=rounds)


def _empty(stock: Stock) -> None:
    """Nothing of a tree is on the box; what working there has installed stays, as on a lease that is warm."""
    for found in stock.work_root.iterdir():
        if found.name != ".rentroll":
            shutil.rmtree(found)
    for state in (stock.work_root / ".rentroll").glob("rl_*"):
        shutil.rmtree(state)
