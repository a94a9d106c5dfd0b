"""The claims as they stood at a past moment or position: a replay of the log up to there."""

from typing import NamedTuple

from ledger.domain.claim import Claim, newest_first
from ledger.domain.errors import IntegrityFailure
from ledger.domain.register import Reader
from ledger.store import sqlite_text as sql
from ledger.store.rebuild import ClaimRebuild
from ledger.store.verify import new_claims_table


class Past(NamedTuple):
    """What stood then. `recorded_at` is the time of the last event that counted, None before the first."""

    position: int
    recorded_at: str | None
    claims: list[Claim]


def claims_as_of(reader: Reader, *, last_position: int | None, before: str | None, include_released: bool) -> Past:
    """Replays events up to `last_position`, or up to the stored time text `before`, whichever is given.

    An event that cannot be read takes only its own lease out (W-04); `verify` names it.
    """
    scratch = new_claims_table()
    position, recorded_at = 0, None
    try:
        rebuild = ClaimRebuild(scratch, reader.rows)
        for row in reader.rows():
            if (last_position is not None and row.position > last_position) or (
                before is not None and row.recorded_at > before
            ):
                break
            position, recorded_at = row.position, row.recorded_at
            try:
                rebuild.feed(row)
            except IntegrityFailure:
                continue
        rebuild.finish()
        found = [Claim._make(values) for values in scratch.execute(sql.CLAIMS_BY_LEASE)]
    finally:
        scratch.close()
    return Past(position, recorded_at, newest_first([c for c in found if include_released or c.is_open]))
