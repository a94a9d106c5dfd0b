"""Runs the program for the tests of the command line, and says what its values look like."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any, NamedTuple, Protocol

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-P", "-c", "import sys; from cli.main import main; sys.exit(main())")
LIMIT_S = 30.0


class Ran(NamedTuple):
    """One finished command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def error(self) -> Any:
        """The error object's inner fields."""
        found = self.json
        assert found["schema"] == "rentroll.error/1"
        return found["error"]


class Rentroll(Protocol):
    """Runs one command line; `env` is put on top of the test's own environment, None takes a variable away."""

    def __call__(self, *words: str, env: Mapping[str, str | None] | None = None, stdin: bytes = b"") -> Ran: ...


class Like:
    """Equal to any text that a pattern matches whole: for values that differ from run to run."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and re.fullmatch(self.pattern, other, re.DOTALL) is not None

    def __hash__(self) -> int:
        return hash(self.pattern)

    def __repr__(self) -> str:
        return f"Like({self.pattern!r})"


class Number:
    """Equal to any number that is not negative."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int | float) and other >= 0

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "Number()"


TIME = Like(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z")
LEASE_ID = Like(r"rl_[0-9a-z]{26}")
RUN_ID = Like(r"run_[0-9a-z]{26}")
FINGERPRINT = Like(r"SHA256:\S{43}")
HASH = Like(r"[0-9a-f]{64}")
ACTOR = Like(r"\S+@\S+")


def spawn(words: Sequence[str], *, program: Sequence[str] = PROGRAM, **options: Any) -> "subprocess.Popen[bytes]":
    """The program as a process of its own, in the environment and folder of the test."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([*program, *words], **{"env": environment, **pipes, **options})


def finish(process: "subprocess.Popen[bytes]", stdin: bytes | None = None) -> Ran:
    """Waits for the end of a process."""
    out, err = process.communicate(stdin, timeout=LIMIT_S)
    return Ran(process.returncode, (out or b"").decode(), (err or b"").decode())


def run_process(*words: str, stdin: bytes = b"", **options: Any) -> Ran:
    """One whole command in a process of its own."""
    with spawn(words, **options) as process:
        return finish(process, stdin)


def until(holds: Callable[[], object]) -> None:
    """Asks again until it is so. Raises `AssertionError` when the time is over."""
    stop_at_s = monotonic() + LIMIT_S
    pause = Event()
    while not holds():
        pause.wait(0.01)
        assert monotonic() < stop_at_s, "it did not become so in time"


def lease_object(**fields: Any) -> dict[str, Any]:
    """The lease object of a ready box that was just leased, with other values on top."""
    return {
        "lease_id": LEASE_ID,
        "slug": "box",
        "provider": "fal",
        "phase": "ready",
        "outcome": None,
        "instance_id": Like(r"inst_[0-9a-f]{16}"),
        "instance_type": "gpu_1x_h100_sxm5",
        "sector": None,
        "region": "us-west",
        "provider_status": "ready",
        "ssh": {
            "host": Like(r"127\.0\.\d\.\d+"),
            "port": int(os.environ["RENTROLL_FAL_SSH_PORT"]),
            "user": "ubuntu",
            "key_path": Like(re.escape(os.environ["RENTROLL_STATE_DIR"]) + r"/keys/rl_[0-9a-z]{26}/id_ed25519"),
            "host_key_fingerprint": FINGERPRINT,
        },
        "keep": None,
        "created_at": TIME,
        "ready_at": TIME,
        "last_touched_at": TIME,
        "expires_at": TIME,
        "released_at": None,
        "ttl_seconds": 5400,
        "idle_timeout_seconds": 1800,
        "repo": None,
        "actor": ACTOR,
        "cost": {
            "rate_per_hour": "3.00",
            "accrued": Like(r"0\.\d\d"),
            "currency": "USD",
            "source": "settings: environment",
        },
        "attention": None,
        "sequence": 4,
        "position": 4,
    } | fields
