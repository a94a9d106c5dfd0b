"""Where every failure becomes an exit code and words: one line of what happened, why it may be, what to type next."""

import os
import sys
from typing import Any

from ledger.domain.errors import Interrupted, RentrollError

SECRET_VARIABLES = ("RENTROLL_FAL_KEY", "RENTROLL_FAL_KEY_OLD", "FAL_KEY")
SHORTEST_HALF = 8
"""A shorter half of a key is no secret, and masking it would damage what it happens to stand in."""
RUN_FAILED = 125
"""`run` gives the remote command's own code; all of our own failures in it are 125."""


def error_object(failure: RentrollError) -> dict[str, Any]:
    """The error object of the command-line contract; optional fields are left out, not null."""
    return _error_object(
        code=failure.code,
        exit_code=failure.exit_code,
        message=failure.message,
        hint=failure.hint,
        next=failure.next_step,
        lease_id=failure.lease_id,
        retry_after_seconds=failure.retry_after_s,
    )


def _error_object(**fields: Any) -> dict[str, Any]:
    error = {name: value for name, value in fields.items() if value is not None}
    # Before JSON escapes it: an escaped key would not be found any more.
    safe = {name: without_keys(value) if isinstance(value, str) else value for name, value in error.items()}
    return {"schema": "rentroll.error/1", "error": safe}


def report(failure: RentrollError, *, command: str | None, as_json: bool) -> int:
    """Tells a failure on stderr, and on stdout under `--json`; gives the exit code."""
    if as_json:
        _print(error_object(failure))
    lines = [f"rentroll: {failure.code}: {failure.message}"]
    if failure.hint:
        lines.append(f"  hint: {failure.hint}")
    if failure.next_step:
        lines.append(f"  next: {failure.next_step}")
    if not failure.hint and not failure.next_step:
        lines.append(f"  hint: {failure.remedy}")
    if command == "run":
        lines = [*lines[1:], lines[0]]  # its class is in the last line on stderr
    sys.stderr.write(without_keys("\n".join(lines)) + "\n")
    return RUN_FAILED if command == "run" else failure.exit_code


def tell_failure(name: str, failure: RentrollError) -> None:
    """One failure of several, in up to three lines of stderr: that of `name`, and what the command goes on after."""
    from cli.render import note

    note(without_keys(f"{name}: {failure.code}: {failure.message}"))
    for word, text in (("hint", failure.hint), ("next", failure.next_step)):
        if text:
            note(without_keys(f"  {word}: {text}"))


def without_keys(text: str) -> str:
    """The text without any API key of the environment, whole or the half that is its secret (SMK-03)."""
    for name in SECRET_VARIABLES:
        key = os.environ.get(name, "").strip()
        half = key.rpartition(":")[2]
        for secret in (key, half if len(half) >= SHORTEST_HALF else ""):
            text = text.replace(secret, "[redacted]") if secret else text
    return text


def report_interrupt(interrupted: Interrupted, *, as_json: bool) -> int:
    """Tells what an interrupt left; gives 128 plus the signal."""
    if as_json:
        told = _error_object(
            code=interrupted.code,
            exit_code=interrupted.exit_code,
            message="interrupted",
            hint=interrupted.left,
            lease_id=interrupted.lease_id,
        )
        _print(told)
    if interrupted.left:
        from cli.render import note

        note(f"interrupted: {without_keys(interrupted.left)}")
    return interrupted.exit_code


def _print(told: dict[str, Any]) -> None:
    import json

    sys.stdout.write(json.dumps(told) + "\n")
