"""`rentroll demo`: the whole story in one command: the real client and real SSH against the built-in emulator."""

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType

import click

import cli
from cli.render import note, say
from ledger.domain.errors import Interrupted, ProviderFailure

BOOT = "3s"
POLL = "0.5s"
RATE = "360.00"
RATE_VARIABLE = "RENTROLL_RATES_GPU_1X_H100_SXM5"
JOB = 'echo "on $(hostname), in $PWD"; for n in 1 2 3; do echo "step $n"; sleep 0.3; done; echo "done" >&2'
STORY: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Lease a box and wait until it answers SSH.", ("warmup", "--slug", "demo", "--ttl", "20m")),
    ("What we hold, from the ledger alone.", ("list",)),
    (
        "Run a command on it; both its streams come as they are.",
        ("run", "--id", "demo", "--no-sync", "--", "sh", "-c", JOB),
    ),
    ("Give it back, and prove that it is gone.", ("stop", "demo")),
    ("The claim and its price.", ("status", "LEASE")),
    ("Every step, each in the ledger before its effect.", ("events", "LEASE")),
    ("The log is one hash chain, and the claims are its replay.", ("verify",)),
)


@click.command(name="demo")
def command() -> int:
    """Lease a box from the emulator, work on it, give it back, and look at what the ledger says."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _end)
    with tempfile.TemporaryDirectory(prefix="rentroll-demo-") as folder, _start_emulator() as server:
        own = {"RENTROLL_STATE_DIR": folder, "XDG_CONFIG_HOME": folder, RATE_VARIABLE: RATE}
        say(f"# The rate of ${RATE} an hour is made up, so that seconds have a price.")
        return _tell({**_clean_environment(), **_environment_of(server), **own}, folder)


def _end(number: int, _frame: FrameType | None) -> None:
    """Ends the demo in order, so that neither its emulator nor a private key stays; once is enough."""
    for other in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)


def _ourselves() -> list[str]:
    """This program again, as a process of its own."""
    return [sys.executable, "-P", "-c", "import sys; from cli.main import main; sys.exit(main())"]


def _clean_environment() -> dict[str, str]:
    """Ours without any setting of rentroll: the demo touches no real account and no real ledger.

    It runs in a folder of its own, where no settings file is; so the program is found by its full path.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RENTROLL_", "FAL_"))}
    return {**kept, "PYTHONPATH": str(Path(cli.__file__).parent.parent)}


def _start_emulator() -> "subprocess.Popen[str]":
    """An emulator that ends with us, however we end: we hold its stdin. The terminal's signals come to us alone."""
    return subprocess.Popen(
        [*_ourselves(), "emulator", "serve", "--boot", BOOT, "--until-eof"],
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=_clean_environment(),
    )


def _environment_of(server: "subprocess.Popen[str]") -> dict[str, str]:
    """The settings that the emulator prints, up to the last of them."""
    found = {"RENTROLL_FAL_POLL_INTERVAL": POLL}
    if server.stdout is None:
        raise ProviderFailure("the emulator has no output")
    for line in server.stdout:
        (assignment,) = shlex.split(line.removeprefix("export "))
        name, _, value = assignment.partition("=")
        found[name] = value
        if name.startswith("RENTROLL_RATES_GPU_8X"):
            return found
    raise ProviderFailure("the emulator did not start", hint="`rentroll emulator serve` says why")


def _tell(environment: dict[str, str], folder: str) -> int:
    lease = "demo"
    for words, arguments in STORY:
        shown = [lease if argument == "LEASE" else argument for argument in arguments]
        say(f"\n# {words}\n$ rentroll {shlex.join(shown)}")
        sys.stdout.flush()
        done = subprocess.run([*_ourselves(), *shown], env=environment, cwd=folder, check=False)
        if done.returncode:
            note(f"the demo ended at this step with code {done.returncode}")
            return done.returncode
        if arguments[0] == "warmup":
            lease = _lease_id(environment)
    return 0


def _lease_id(environment: dict[str, str]) -> str:
    """The id of the demo's lease: once it is released its slug is free, and names it no more."""
    listed = subprocess.run([*_ourselves(), "list", "-q"], env=environment, check=True, capture_output=True, text=True)
    found = re.match(r"rl_\w+", listed.stdout)
    return found.group() if found else "demo"
