"""`list --as-of`: a time or a position becomes the claims that stood then."""

from datetime import datetime
from typing import TYPE_CHECKING

from ledger.domain.claim import Claim, moment
from ledger.domain.errors import UsageFailure
from ledger.domain.units import format_time, parse_time
from ledger.reports import as_of

if TYPE_CHECKING:
    from cli.app import App


def claims_as_of(app: "App", text: str, *, include_released: bool) -> tuple[datetime, int, list[Claim]]:
    """The moment that is meant, the last position that counts, and the claims of then."""
    wanted = text.strip()
    now = app.now()
    with app.reader() as reader:
        if wanted.isdecimal():
            past = as_of.claims_as_of(reader, last_position=int(wanted), before=None, include_released=include_released)
            return (moment(past.recorded_at) if past.recorded_at else now), past.position, past.claims
        then = parse_time(wanted)
        if then > now:
            raise UsageFailure(f"--as-of {wanted} is in the future")
        past = as_of.claims_as_of(
            reader, last_position=None, before=format_time(then), include_released=include_released
        )
    return then, past.position, past.claims
