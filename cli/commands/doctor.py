"""`rentroll doctor`: is everything set up? It only reads; nothing is made, nothing is appended."""

import hashlib
import os
import platform
import shutil
import stat
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import click
from msgspec import Struct, to_builtins

from cli.app import App
from cli.options import as_json, endpoint
from cli.render import WIDTH, emit, say
from cli.watched import watched
from ledger.domain.claim import attention, moment, short_time
from ledger.domain.errors import IntegrityFailure, RentrollError, UsageFailure

CLOCK_SKEW_MAX_S = 60
INDENT = " " * 6
OTHERS = 0o077
"""What a file of ours grants to other users: nothing."""
NAMED = 3
"""So many leases are named; the others are counted."""


class Noted(NamedTuple):
    """What was found, and what is still to be done about it although nothing is broken."""

    detail: str
    hint: str


class Check(Struct, frozen=True, kw_only=True):
    """One thing that was looked at. `exit_code` is what the command ends with if this is the first that is not ok.

    One that is ok with a hint is a warning.
    """

    name: str
    ok: bool
    detail: str
    hint: str | None = None
    exit_code: int = 0


@click.command(name="doctor")
@endpoint
@as_json
@click.pass_obj
def command(app: App, api_url: str | None, as_json: bool) -> int:
    """Check the set-up, without changing anything."""
    app.use_flags(fal_api_url=api_url)
    steps: list[tuple[str, Callable[[], str | Noted]]] = [
        ("python", platform.python_version),
        ("settings", lambda: _settings(app)),
        ("state", lambda: _state(app)),
        ("ledger", lambda: _ledger(app)),
        ("clock", lambda: _clock(app)),
        ("spool", lambda: _spool(app)),
        ("leases", lambda: _leases(app)),
        ("watch", lambda: _watch(app)),
        ("ssh", _ssh),
        ("credentials", lambda: _credentials(app)),
        ("provider", lambda: _provider(app)),
    ]
    checks = [_check(name, step) for name, step in steps]
    code = next((check.exit_code for check in checks if not check.ok), 0)
    if as_json:
        emit("doctor", {"ok": code == 0, "checks": to_builtins(checks), "mutated": False})
        return code
    for check in checks:
        _say(f"{_mark(check)}  {check.name:<12}{check.detail}")
        if check.hint:
            _say(f"{INDENT}hint: {check.hint}")
    say("nothing was changed; whether a box boots was not tried")
    return code


def _mark(check: Check) -> str:
    if not check.ok:
        return "FAIL"
    return "warn" if check.hint else "ok  "


def _say(line: str) -> None:
    for row in textwrap.wrap(line, WIDTH, subsequent_indent=INDENT, break_long_words=False):
        say(row)


def _check(name: str, step: Callable[[], str | Noted]) -> Check:
    try:
        found = step()
        detail, hint = found if isinstance(found, Noted) else (found, None)
        return Check(name=name, ok=True, detail=detail, hint=hint)
    except RentrollError as failure:
        return Check(name=name, ok=False, detail=failure.message, hint=failure.hint, exit_code=failure.exit_code)
    except OSError as failure:  # a folder that is closed to us, say: the other checks are still worth their answer
        return Check(name=name, ok=False, detail=str(failure), exit_code=UsageFailure.exit_code)


def _settings(app: App) -> str:
    settings = app.valid_settings
    return f"{len(settings.items())} settings; the API's URL is from {settings['fal.api_url'].origin}"


def _state(app: App) -> str:
    folder = Path(app.state_dir)
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        raise UsageFailure(f"{existing} cannot be written", hint="set RENTROLL_STATE_DIR to a folder of yours")
    return f"{folder}{'' if folder.exists() else ' (made at the first lease)'}"


def _ledger(app: App) -> str | Noted:
    with app.reader() as reader:
        found = f"{app.ledger_path}: {reader.head().position} events, {len(reader.claims())} open leases"
    file = Path(app.ledger_path)
    if file.exists() and stat.S_IMODE(file.stat().st_mode) & OTHERS:
        return Noted(f"{found}; other users may read it", f"chmod 600 {file}")
    return found


def _clock(app: App) -> str:
    """A clock behind the newest event is not believed: nothing expires by it, and nothing is sent again."""
    with app.reader() as reader:
        newest = reader.head().recorded_at
    if newest is None or moment(newest) <= app.now():
        return "not behind the ledger"
    raise UsageFailure(
        f"this machine's clock is behind the newest event of the ledger ({short_time(newest)})",
        hint="set the clock; until then nothing that depends on time is done",
    )


def _leases(app: App) -> str | Noted:
    """What of the open leases needs a person, and what this key does not reach (W-38)."""
    from cli.around import elsewhere

    now = app.now()
    with app.reader() as reader:
        claims = reader.claims()
    wanting = [claim.slug for claim in claims if attention(claim, now) is not None]
    others = [claim.slug for claim in elsewhere(app, claims) or []]
    found = f"{len(claims)} open, {len(wanting)} in need of attention"
    if others:
        found += f", {len(others)} of another endpoint or key ({_named(others)})"
    if wanting:
        return Noted(found, f"`rentroll list` says what is wrong with {_named(wanting)}; `rentroll cleanup` acts")
    if others:
        return Noted(found, "`rentroll rotate` takes leases of another key over; --api-url reaches another endpoint")
    return found


def _named(slugs: Sequence[str]) -> str:
    more = f" and {len(slugs) - NAMED} more" if len(slugs) > NAMED else ""
    return f"{', '.join(slugs[:NAMED])}{more}"


def _watch(app: App) -> str | Noted:
    """Whether somebody enforces the ends of all open leases, and when it last ran."""
    found = watched(app, app.now(), claims=app.open_claims())
    return Noted(found.sentence, found.hint) if found.hint else found.sentence


def _spool(app: App) -> str:
    """Ids of boxes that the ledger has not taken. Nothing is appended here: that is left to the next command."""
    folder = Path(app.spool_folder)
    waiting = sorted(folder.iterdir()) if folder.is_dir() else []
    if waiting:
        raise IntegrityFailure(
            f"ids of boxes wait to be appended: {', '.join(map(str, waiting))}",
            hint="`rentroll recover` appends what is readable; if a file stays, give the box it names back at fal, "
            "then remove it",
        )
    return "no id waits to be appended"


def _ssh() -> str:
    found = [tool for tool in ("ssh", "rsync", "git") if shutil.which(tool)]
    return f"{', '.join(found) or 'none of ssh, rsync, git'} on this machine"


def _credentials(app: App) -> str:
    if app.api_key() is None:
        from providers.absent import missing_key

        raise missing_key()
    return "an API key is set in the environment"


def _provider(app: App) -> str:
    """The inventory's size and an order-independent fingerprint of its ids (scenario DOC-02); the clock's skew."""
    with app.provider() as provider:
        ids = [instance.id for instance in provider.inventory().instances]
        date = provider.server_date
    digest = hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
    skew_s = abs((app.now() - date).total_seconds()) if date is not None else 0
    if skew_s > CLOCK_SKEW_MAX_S:
        raise UsageFailure(f"this machine's clock and fal's differ by {skew_s:.0f} s", hint="set the clock")
    return f"auth, control plane and inventory ready: {len(ids)} instances; fingerprint {digest}"
