"""Times, durations and money: what people may type, and how they are shown."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.errors import UsageFailure
from ledger.domain.units import (
    DURATION_MAX_MS,
    after_ms,
    format_duration,
    format_time,
    milliseconds_between,
    parse_duration_ms,
    parse_money,
    parse_time,
)
from tests.domain.histories import EXAMPLES

MOMENT = datetime(2026, 9, 20, 2, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("90m", 5_400_000),
        ("1h30m", 5_400_000),
        ("45s", 45_000),
        ("2d", 172_800_000),
        ("1d2h3m4s", 93_784_000),
        ("1d4s", 86_404_000),
        ("45", 45_000),
        ("0.5", 500),
        ("1.5s", 1_500),
        ("0.001", 1),
        ("007", 7_000),
        (" 90m ", 5_400_000),
        ("3660d", DURATION_MAX_MS),
    ],
)
def test_a_duration_is_read(text: str, milliseconds: int) -> None:
    """Units from days to seconds in that order, or bare seconds; decimals on seconds only."""
    assert parse_duration_ms(text) == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "0", "0s", "0.0", "0.0004", "-5", "+5", "5x", "m", "1.5h", "30m1h", "1h 30m", "1h30", "90M", "1e3",
        "inf", "nan", ".5", "5.", "1,5", "٣", "3661d", "9" * 400, "9" * 400 + "d",
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Zero, signs, other orders, other digits and absurd lengths are usage errors that say how to write it."""
    with pytest.raises(UsageFailure, match="not a duration") as refusal:
        parse_duration_ms(text)
    assert refusal.value.hint == "write a positive time such as 90m, 1h30m, 45s, 2d or a number of seconds"


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0s"),
        (999, "0s"),
        (-5_000, "0s"),
        (1_000, "1s"),
        (45_000, "45s"),
        (5_400_000, "1h30m"),
        (5_445_000, "1h30m"),
        (172_800_000, "2d"),
        (93_784_000, "1d2h"),
        (86_404_000, "1d4s"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(milliseconds: int, text: str) -> None:
    """Rounded down, never negative."""
    assert format_duration(milliseconds) == text


@EXAMPLES
@given(st.integers(1_000, DURATION_MAX_MS))
def test_a_shown_duration_reads_back_as_no_more_than_it_was(milliseconds: int) -> None:
    """What is shown can be typed, never promises more time than there is, and is a fixed point."""
    back = parse_duration_ms(format_duration(milliseconds))
    assert (0 < back <= milliseconds, format_duration(back)) == (True, format_duration(milliseconds))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-09-20T02:00:00Z", MOMENT),
        ("2026-09-20T04:00:00+02:00", MOMENT),
        (" 2026-09-20T02:00:00.250Z ", MOMENT + timedelta(milliseconds=250)),
        ("2026-09-20 02:00Z", MOMENT),
    ],
)
def test_a_time_is_read_as_utc(text: str, moment: datetime) -> None:
    """RFC 3339 with Z or any offset becomes the same moment in UTC."""
    read = parse_time(text)
    assert (read, read.tzinfo) == (moment, UTC)


@pytest.mark.parametrize(
    "text", ["", "now", "2026-09-20T02:00:00", "2026-09-20", "2026-13-01T00:00:00Z", "9999-12-31T23:59:59-23:59"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    """A time without a zone would mean another one elsewhere; one beyond the calendar is none."""
    with pytest.raises(UsageFailure, match="not a time") as refusal:
        parse_time(text)
    assert refusal.value.hint == "write it as 2026-09-20T02:00:00Z, with Z or an offset"


def test_a_time_is_stored_in_fixed_width() -> None:
    """UTC with microseconds and Z, so that the order of texts is the order of times."""
    east = datetime(2026, 9, 20, 4, 0, 0, 5, tzinfo=timezone(timedelta(hours=2)))
    assert [format_time(MOMENT), format_time(east)] == ["2026-09-20T02:00:00.000000Z", "2026-09-20T02:00:00.000005Z"]


@EXAMPLES
@given(st.lists(st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.just(UTC)), max_size=4))  # noqa: DTZ001
def test_stored_times_sort_as_times_and_read_back(moments: list[datetime]) -> None:
    """Text order is time order, and nothing is lost."""
    texts = [format_time(moment) for moment in moments]
    assert ([parse_time(text) for text in texts], sorted(texts)) == (
        moments,
        [format_time(moment) for moment in sorted(moments)],
    )


def test_the_time_between_is_whole_milliseconds_rounded_down() -> None:
    """Also backwards, where down is away from zero."""
    later = MOMENT + timedelta(microseconds=1_999)
    assert (
        milliseconds_between(MOMENT, later),
        milliseconds_between(later, MOMENT),
        after_ms(MOMENT, 1_500),
    ) == (1, -2, MOMENT + timedelta(seconds=1.5))


@pytest.mark.parametrize(("text", "amount"), [("3", "3"), ("2.50", "2.50"), (" 0 ", "0"), ("0.000000001", "1E-9")])
def test_an_amount_is_read_exactly(text: str, amount: str) -> None:
    """Decimal, digit for digit: no float ever holds it."""
    assert str(parse_money(text)) == amount


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1e3", "$3", "3 USD", "1,000", ".5", "5.", "NaN", "٣", "0.0000000001"]
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    """Signs, exponents, currency marks and separators are usage errors."""
    with pytest.raises(UsageFailure, match="not an amount of money"):
        parse_money(text)


def test_an_amount_is_a_decimal() -> None:
    """So that sums of cents are sums of cents."""
    assert parse_money("0.10") + parse_money("0.20") == Decimal("0.30")
