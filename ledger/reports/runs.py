"""The history of runs: what was run on which lease, how it ended, and what its time cost."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ledger.domain.claim import Claim, moment, short_time
from ledger.domain.money import cost_of
from ledger.domain.register import Reader

STARTED, FINISHED = "run-started", "run-finished"
ALIVE_ELSEWHERE = timedelta(minutes=3)
"""Another host's processes cannot be seen: a sign of life of the lease, one a minute, younger than this counts."""


class Run(NamedTuple):
    """One run. `started` and `finished` are the payloads of its facts; of several ends the last one counts."""

    run_id: str
    lease_id: str
    started_at: str
    started: dict[str, Any]
    finished_at: str | None = None
    finished: dict[str, Any] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it may still run, as far as the ledger knows."""
        return self.finished is None or bool(self.finished["detached"])

    @property
    def has_known_end(self) -> bool:
        return self.finished is not None and (self.finished["exit_code"], self.finished["signal"]) != (None, None)


def runs(reader: Reader, lease_id: str | None = None) -> list[Run]:
    """All runs of a lease, or of the ledger; the newest first."""
    found: dict[str, Run] = {}
    for row in reader.rows(lease_id, types=(STARTED, FINISHED)):
        payload = json.loads(row.payload)
        run_id = payload["run_id"]
        if row.type == STARTED:
            found[run_id] = Run(run_id, row.stream, row.recorded_at, payload)
        elif run_id in found:
            found[run_id] = found[run_id]._replace(finished_at=row.recorded_at, finished=payload)
    return list(reversed(found.values()))


def state_of(run: Run, claim: Claim | None, now: datetime, *, host: str, is_followed: Callable[[str], bool]) -> str:
    """running, detached, finished or unknown.

    `detached` is one that somebody left to itself and that nobody has looked after since; `unknown` one of which
    nobody can tell from here: its client died, or how it ended was lost.
    """
    if not run.is_open:
        return "finished" if run.has_known_end else "unknown"
    if is_followed(run.run_id):
        return "running"
    if claim is None or claim.phase != "ready":
        return "unknown"  # its box is gone or going
    if run.finished is not None:
        return "detached"
    is_elsewhere = run.started["host"] != host
    if is_elsewhere and claim.touched_at is not None and now - moment(claim.touched_at) < ALIVE_ELSEWHERE:
        return "running"
    return "unknown"


def duration_ms(run: Run, state: str, now: datetime) -> int | None:
    """How long it took, or has taken until now; None where that is not known."""
    if run.finished is not None and not run.is_open:
        return int(run.finished["duration_ms"])
    if state in ("running", "detached"):
        return max(0, (now - moment(run.started_at)) // timedelta(milliseconds=1))
    return None


def cost(claim: Claim | None, lasted_ms: int | None) -> str | None:
    """What the box cost in that time; None where there is no rate, or no time is known."""
    if claim is None or claim.rate_per_hour is None or lasted_ms is None:
        return None
    from decimal import Decimal

    return str(cost_of(Decimal(claim.rate_per_hour), lasted_ms))


def run_object(
    run: Run, claim: Claim | None, now: datetime, state: str, code: Callable[[int | None, str | None], int]
) -> dict[str, Any]:
    """One run in JSON. `code` gives the exit code that `run` had for a command that ended so."""
    started, finished = run.started, run.finished or {}
    lasted_ms = duration_ms(run, state, now)
    return {
        "run_id": run.run_id,
        "lease_id": run.lease_id,
        "slug": claim.slug if claim is not None else None,
        "command": started["command"],
        "kind": started["kind"],
        "state": state,
        "started_at": short_time(run.started_at),
        "finished_at": short_time(run.finished_at) if run.finished_at and not run.is_open else None,
        "duration_seconds": None if lasted_ms is None else lasted_ms / 1000,
        "exit_code": code(finished["exit_code"], finished["signal"]) if run.has_known_end else None,
        "signal": finished.get("signal"),
        "failure": finished.get("failure"),
        "stdout_bytes": finished.get("stdout_bytes"),
        "stderr_bytes": finished.get("stderr_bytes"),
        "phases": {f"{name}_seconds": length / 1000 for name, length in finished.get("phases", {}).items()},
        "code": {
            "repository": started["repository"],
            "commit": started["commit"],
            "dirty": started["dirty"],
            "manifest_digest": started["manifest_digest"],
        },
        "fence": started["fence"],
        "host": started["host"],
        "pid": started["pid"],
        "cost": {"amount": cost(claim, lasted_ms), "currency": claim.currency if claim is not None else None},
    }
