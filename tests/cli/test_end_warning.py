"""When people are told that a box ends under their run: as it begins where that is near, and ten minutes before."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli.alive import EndWarning, own_end
from ledger.domain.events import Keep
from ledger.domain.state import Lease
from tests.cli.running import Rentroll

END = datetime(2026, 9, 20, 2, tzinfo=UTC)


def before(minutes: float) -> datetime:
    return END - timedelta(minutes=minutes)


def told_at(warning: EndWarning, *minutes: float) -> list[float]:
    """At which of these moments, in minutes before the end, it is told."""
    return [each for each in minutes if warning.is_due(before(each))]


@pytest.mark.parametrize(
    ("moments", "told"),
    [
        ((90, 60, 30, 11), []),
        ((59, 58, 30), [59]),
        ((59, 30, 10, 9, 1), [59, 10]),
        ((90, 9.9, 5), [9.9]),
        ((8, 7), [8]),
    ],
)
def test_an_end_is_told_as_the_work_begins_within_the_hour_and_ten_minutes_before(
    moments: tuple[float, ...], told: list[float]
) -> None:
    assert told_at(EndWarning(END), *moments) == told


def test_the_end_of_a_box_that_was_just_leased_is_told_at_once() -> None:
    assert told_at(EndWarning(END, first=timedelta(days=1)), 90, 60, 10) == [90, 10]


def test_an_end_that_was_moved_is_told_anew() -> None:
    warning = EndWarning(END)
    first = told_at(warning, 8, 7)
    warning.end = END + timedelta(minutes=30)
    assert (first, told_at(warning, 6, -21, -22)) == ([8], [-21])


def test_it_is_asked_again_in_time_for_the_last_warning() -> None:
    warning = EndWarning(END)
    pauses = [warning.pause_s(before(minutes), 60.0) for minutes in (90, 10.5, 10, 9)]
    warning.is_due(before(9))
    assert ([*pauses, warning.pause_s(before(9), 60.0)]) == [60.0, 30.0, 0.0, 0.0, 60.0]


def test_what_ends_a_box_under_a_run_is_its_keep_or_its_ttl_and_never_idleness() -> None:
    lease = Lease(lease_id="rl_1", created_at=before(90), touched_at=before(90), ttl_ms=90 * 60_000, idle_timeout_ms=1)
    kept = Lease(lease_id="rl_1", created_at=before(90), ttl_ms=1, keep=Keep(until=END, reason="x"))
    assert (own_end(lease), own_end(kept), own_end(Lease(lease_id="rl_1"))) == (END, END, None)


def test_a_run_that_begins_near_the_end_says_so(rentroll: Rentroll) -> None:
    assert rentroll("warmup", "--slug", "box", "--ttl", "30m").code == 0
    ran = rentroll("run", "--id", "box", "--no-sync", "--", "true")
    assert ran.err.startswith("rentroll: the box of box ends in 29m, at ")
    by_whom = "by the first `rentroll cleanup` after that, as nobody watches this ledger"
    assert ran.err.endswith(f" UTC, whatever runs there, {by_whom}; `rentroll touch box --ttl TIME` moves that\n")


def test_a_run_far_from_the_end_says_nothing(rentroll: Rentroll, box: Any) -> None:
    assert rentroll("run", "--id", "box", "--no-sync", "--", "true").err == ""
