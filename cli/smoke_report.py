"""What people and programs see of a live smoke: its steps, what is left, the cost, and one classification.

Every text goes out without any API key, and without the half of one that is the secret (SMK-03).
"""

import textwrap
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from msgspec import Struct, to_builtins

from cli.failures import without_keys
from cli.leasing import worst_case
from cli.render import WIDTH, emit, money, note, say
from ledger.domain.claim import accrued
from ledger.domain.redact import redact
from ledger.domain.smoke import Classification, Ending
from ledger.flows.acquire import Wanted
from ledger.flows.smoke import Step, Told
from ledger.flows.smoke_cleanup import in_words

if TYPE_CHECKING:
    from cli.app import App

NAME = "live-smoke"
INDENT = " " * 6
NEXT = {
    "in-doubt": "watch",
    "suspect": "watch",
    "open": "stop",
    "stop": "stop",
    "look": "stop",
    "listed": "recover",
    "candidate": "audit",
}
"""The command about each kind of thing that is left; key files are left for a look."""


class Target(Struct, frozen=True, kw_only=True):
    """Which endpoint is meant, by the name that the ledger gives it, and whether it is fal's own."""

    scope: str
    is_live: bool

    @property
    def api_url(self) -> str:
        """Its URL in canonical form."""
        return self.scope.removeprefix("endpoint:")


class Outcome(Struct, frozen=True, kw_only=True):
    """All that is shown. `target` and `want` are None where a guard ended it before they were known."""

    ending: Ending
    told: Told
    target: Target | None
    want: Wanted | None
    max_cost: Decimal


def show(app: "App", outcome: Outcome, *, as_json: bool) -> None:
    """Writes the result on stdout, as `rentroll.live-smoke/1` or for people."""
    if as_json:
        emit(NAME, _masked(_object(app, outcome)))
    else:
        _show(app, outcome)


def note_step(step: Step) -> None:
    """One step on stderr, as it ends."""
    note(safe(f"{NAME}: {'ok' if step.ok else 'FAIL'}: {step.name}: {step.detail}"))


def safe(text: str) -> str:
    """The text without any API key of the environment, nor what looks like a secret."""
    return redact(without_keys(text))


def _object(app: "App", outcome: Outcome) -> dict[str, Any]:
    """The fields of `rentroll.live-smoke/1`; what is not known is null."""
    ending, told, target = outcome.ending, outcome.told, outcome.target
    was_requested = told.lease.phase is not None
    return {
        "classification": ending.classification,
        "beside": ending.beside,
        "reason": ending.reason,
        "message": in_words(told.failure) if told.failure is not None else None,
        "hint": getattr(told.failure, "hint", None),
        "exit_code": ending.exit_code,
        "endpoint": {"api_url": target.api_url, "is_live": target.is_live} if target else None,
        "lease_id": told.lease.lease_id if was_requested else None,
        "slug": told.lease.slug if was_requested else None,
        "instance_id": told.lease.instance_id,
        "steps": to_builtins(told.steps),
        "left": to_builtins(told.left),
        "next": _next(app, told),
        "cost": _cost(app, outcome.want, told) | {"max_cost": str(outcome.max_cost)},
    }


def _cost(app: "App", want: Wanted | None, told: Told) -> dict[str, Any]:
    worst = worst_case(want, app.now()) if want else None
    return {
        "rate_per_hour": str(want.rate.per_hour) if want and want.rate else None,
        "worst_case": str(worst) if worst is not None else None,
        "accrued": accrued(app.book.claim(told.lease.lease_id), app.now()) if told.lease.phase is not None else None,
        "currency": want.rate.currency if want and want.rate else None,
    }


def _next(app: "App", told: Told) -> str | None:
    """What to type about what is left; key files that stay are left for a look."""
    words = next((NEXT[one.kind] for one in told.left if one.kind in NEXT), None)
    if words is None:
        return None
    return app.command_line(words, *([told.lease.lease_id] if words == "stop" else []))


def _show(app: "App", outcome: Outcome) -> None:
    told = outcome.told
    for step in told.steps:
        _say(f"{'ok  ' if step.ok else 'FAIL'}  {step.name:<14}{step.detail} ({step.seconds:.1f} s)")
    if told.failure is not None and all(step.ok for step in told.steps):  # else its step has told it
        _say(in_words(told.failure))
        hint = getattr(told.failure, "hint", None)
        if hint:
            _say(f"{INDENT}hint: {hint}")
    for one in told.left:
        _say(f"left: {one.told}")
    following = _next(app, told)
    if following is not None:
        say(safe(f"next: {following}"))
    cost = _cost(app, outcome.want, told)
    if told.lease.phase is not None:
        accrued_now, worst = (money(cost[name], cost["currency"]) for name in ("accrued", "worst_case"))
        say(f"cost: {accrued_now}, at most {worst}")
    say(safe(_classified(outcome)))


def _classified(outcome: Outcome) -> str:
    """The last line. What was not proven against fal itself says against what it was."""
    ending, target = outcome.ending, outcome.target
    beside = f" beside {ending.beside}" if ending.beside else ""
    reason = f" ({ending.reason})" if ending.classification is not Classification.PASSED else ""
    where = f", against {target.api_url}, which is not fal" if target is not None and not target.is_live else ""
    return f"classification: {ending.classification}{beside}{reason}{where}"


def _say(text: str) -> None:
    for row in textwrap.wrap(safe(text), WIDTH, subsequent_indent=INDENT, break_long_words=False):
        say(row)


def _masked(value: Any) -> Any:
    """The same without secrets in any of its texts."""
    if isinstance(value, str):
        return safe(str(value))
    if isinstance(value, dict):
        return {name: _masked(item) for name, item in value.items()}
    return [_masked(item) for item in value] if isinstance(value, list | tuple) else value
