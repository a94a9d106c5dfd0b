"""Times, durations and money as people type them, as the ledger stores them and as JSON shows them.

Times are UTC with microseconds in the ledger and RFC 3339 with `Z` everywhere. Durations are whole milliseconds in
the ledger. Money is Decimal; a float never holds any of the three.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from ledger.domain.errors import UsageFailure

_UNIT_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000}
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)
_BARE_SECONDS = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
DURATION_MAX_MS = 3_660 * 86_400_000
"""Ten years: longer is a slip of the finger, and would leave the calendar."""


@lru_cache(maxsize=64)
def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds and `Z`: fixed width, so that text order is time order."""
    # Not strftime, which takes three times as long: a claim written anew holds seven times, most of them as before.
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def parse_time(text: str) -> datetime:
    """A moment from RFC 3339; one without a zone is refused, since it would mean another time elsewhere."""
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise UsageFailure(
        f"not a time: {text.strip()!r}",
        hint="write it as 2026-09-20T02:00:00Z, with Z or an offset",
    )


def parse_duration_ms(text: str) -> int:
    """Milliseconds from `90m`, `1h30m`, `45s`, `2d` or bare seconds (`45`, `0.5`); zero and less are refused."""
    stripped = text.strip()
    milliseconds = _duration_ms(stripped)
    if milliseconds is None or not 0 < milliseconds <= DURATION_MAX_MS:
        raise UsageFailure(
            f"not a duration: {text.strip()!r}",
            hint="write a positive time such as 90m, 1h30m, 45s, 2d or a number of seconds",
        )
    return milliseconds


def _duration_ms(text: str) -> int | None:
    if _BARE_SECONDS.fullmatch(text):
        return round(Decimal(text) * 1000)
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return None
    return sum(round(Decimal(n) * _UNIT_MS[u]) for n, u in zip(match.groups(), "dhms", strict=True) if n)


def format_duration(milliseconds: int) -> str:
    """`1h30m`, `45s`, `2d`, as `parse_duration_ms` reads it: its two largest units, rounded down, at least `0s`."""
    seconds = max(0, milliseconds // 1000)
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"


def milliseconds_between(earlier: datetime, later: datetime) -> int:
    """Whole milliseconds from `earlier` to `later`, rounded down; negative when the order is reversed."""
    return (later - earlier) // timedelta(milliseconds=1)


def after_ms(moment: datetime, milliseconds: int) -> datetime:
    """The moment so many milliseconds later."""
    return moment + _span(milliseconds)


@lru_cache(maxsize=64)
def _span(milliseconds: int) -> timedelta:
    # Cached, since to make one costs more than the sum: each append asks for the same two, the TTL and the idle time.
    return timedelta(milliseconds=milliseconds)


def parse_money(text: str) -> Decimal:
    """A non-negative amount such as `3`, `2.50`; signs, exponents, currency marks and separators are refused."""
    stripped = text.strip()
    if not re.fullmatch(r"\d+(?:\.\d{1,9})?", stripped, re.ASCII):
        raise UsageFailure(f"not an amount of money: {stripped!r}", hint="write it as 2.50, without a currency sign")
    return Decimal(stripped)
