"""Whether somebody enforces the ends of this ledger's leases, as people are told it (PEER-25)."""

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from cli.render import clock, span
from ledger.store.watch_file import LastPass, holder, read_last_pass, watching

if TYPE_CHECKING:
    from cli.app import App
    from ledger.domain.claim import Claim

GRACE_S = 120.0
"""A pass takes its time, and a timer comes a little late."""


class Watched(NamedTuple):
    """What is known of a ledger's watch: whether what it says can be relied on, in a sentence without its point."""

    is_so: bool
    sentence: str


def watched(app: "App", now: datetime, *, claim: "Claim | None" = None) -> Watched:
    """Whether somebody watches now, with `claim` in that watch's reach. From two files, without waiting."""
    return judged(watching(app.ledger_path), read_last_pass(app.ledger_path), now, claim=claim)


def judged(who: str | None, last: LastPass | None, now: datetime, *, claim: "Claim | None" = None) -> Watched:
    """The same from what the files say: who holds the lock, and the last pass."""
    if last is None:
        return Watched(True, _started(who)) if who else Watched(False, "nobody watches this ledger")
    age_s = max(0.0, (now - last.finished_at).total_seconds())
    ago = f"last pass {span(age_s)} ago"
    is_late = age_s > 2 * last.interval_seconds + GRACE_S
    if who is None and (is_late or not last.once):
        return Watched(False, f"nobody watches this ledger ({ago})")
    if who is not None and not last.once and who != holder(last.pid, last.host):
        return Watched(True, _started(who))
    if is_late:
        return Watched(False, f"the watch of this ledger hangs ({who}; {ago})")
    if last.failure is not None:
        return Watched(False, f"the watch of this ledger fails ({ago}): {last.failure}")
    if claim is not None and last.scope is not None and _side(last) != (claim.scope, claim.credential_binding):
        return Watched(False, f"the watch of this ledger uses another endpoint or key ({ago})")
    return Watched(True, f"watched: {ago}, by {who or f'a timer every {span(last.interval_seconds)}'}")


def _side(last: LastPass) -> tuple[str | None, str | None]:
    return last.scope, last.credential_binding


def _started(who: str | None) -> str:
    return f"watched by {who}, which has not finished a pass yet"


def who_stops(app: "App", claim: "Claim", now: datetime) -> str:
    """Who stops the box of a lease when its time ends; where nobody does, until when that is certain."""
    found = watched(app, now, claim=claim)
    if found.is_so:
        return f"its time ends at {clock(claim.expires_at)}; {found.sentence}"
    return (
        f"{found.sentence}: until {clock(claim.expires_at)} nobody will stop this box by itself, and then only whoever "
        "types `rentroll cleanup`"
    )
