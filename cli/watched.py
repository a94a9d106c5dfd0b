"""Whether somebody enforces the ends of this ledger's leases, as people are told it (PEER-25)."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from cli.render import clock, span
from ledger.store.watch_file import LastPass, holder, read_last_pass, watching

if TYPE_CHECKING:
    from cli.app import App
    from ledger.domain.claim import Claim

GRACE_S = 120.0
"""A pass takes its time, and a timer comes a little late."""
PUT_IT_UP = "no lease ends by itself: put `rentroll watch` under systemd or cron"
START_ANEW = "end that process and start the watch anew"
TRIES_AGAIN = "its next pass tries again; what it writes to stderr says more"
OTHER_SIDE = "start the watch with their endpoint and key; `rentroll rotate` takes leases of another key over"


class Watched(NamedTuple):
    """What is known of a ledger's watch: whether what it says can be relied on, in a sentence without its point.

    Where it cannot, `hint` is what to do.
    """

    is_so: bool
    sentence: str
    hint: str | None = None


def watched(app: "App", now: datetime, *, claims: "Sequence[Claim]" = ()) -> Watched:
    """Whether somebody watches now, with all of `claims` in that watch's reach. From two files, without waiting."""
    return judged(watching(app.ledger_path), read_last_pass(app.ledger_path), now, claims=claims)


def judged(who: str | None, last: LastPass | None, now: datetime, *, claims: "Sequence[Claim]" = ()) -> Watched:
    """The same from what the files say: who holds the lock, and the last pass."""
    if last is None:
        return Watched(True, _started(who)) if who else Watched(False, "nobody watches this ledger", PUT_IT_UP)
    age_s = max(0.0, (now - last.finished_at).total_seconds())
    ago = f"last pass {span(age_s)} ago"
    is_late = age_s > 2 * last.interval_seconds + GRACE_S
    if who is None and (is_late or not last.once):
        return Watched(False, f"nobody watches this ledger ({ago})", PUT_IT_UP)
    if who is not None and not last.once and who != holder(last.pid, last.host):
        return Watched(True, _started(who))
    if is_late:
        return Watched(False, f"the watch of this ledger hangs ({who}; {ago})", START_ANEW)
    if last.failure is not None:
        return Watched(False, f"the watch of this ledger fails ({ago}): {last.failure}", TRIES_AGAIN)
    others = _out_of_reach(last, claims)
    if others:
        whose = f" than {others} of {len(claims)} open leases" if len(claims) > 1 else ""
        return Watched(False, f"the watch of this ledger uses another endpoint or key{whose} ({ago})", OTHER_SIDE)
    trouble = f"; {last.trouble}" if last.trouble else ""
    return Watched(True, f"watched: {ago}, by {who or f'a timer every {span(last.interval_seconds)}'}{trouble}")


def _out_of_reach(last: LastPass, claims: "Sequence[Claim]") -> int:
    """How many of the claims that watch cannot act on."""
    if last.scope is None:
        return 0
    side = (last.scope, last.credential_binding)
    return sum((claim.scope, claim.credential_binding) != side for claim in claims)


def _started(who: str | None) -> str:
    return f"watched by {who}, which has not finished a pass yet"


def who_stops(app: "App", claim: "Claim", now: datetime) -> str:
    """Who stops the box of a lease when its time ends; where nobody does, until when that is certain."""
    found = watched(app, now, claims=[claim])
    if found.is_so:
        return f"its time ends at {clock(claim.expires_at)}; {found.sentence}"
    return (
        f"{found.sentence}: until {clock(claim.expires_at)} nobody will stop this box by itself, and then only whoever "
        "types `rentroll cleanup`"
    )
