"""Between events and payloads."""

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.domain import events as e
from ledger.domain.errors import IntegrityFailure
from ledger.domain.units import format_time
from ledger.store import codec
from ledger.store.codec import UPCASTS, decode
from tests.contract.facts import ACCOUNT_FACTS, LATER, LEASE_FACTS, NOW, released

OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
GOLDEN = Path(__file__).with_name("golden")
ALL_FACTS: tuple[e.Event, ...] = (*LEASE_FACTS, *ACCOUNT_FACTS)


def encode(fact: e.Event) -> str:
    """The stored text alone."""
    return codec.encode(fact)[0]


def golden_path(fact: e.Event) -> Path:
    return GOLDEN / f"{fact.TYPE}.{fact.VERSION}.json"


def test_the_examples_hold_every_event_type_once() -> None:
    assert sorted(fact.TYPE for fact in ALL_FACTS) == sorted(e.EVENT_TYPES)


@pytest.mark.parametrize("fact", ALL_FACTS, ids=lambda fact: fact.TYPE)
def test_each_event_is_stored_exactly_as_its_golden_file_says(fact: e.Event) -> None:
    """A change of fields needs a new version, an upcast and a new golden file; the old files stay as they are."""
    assert encode(fact) == golden_path(fact).read_text(encoding="utf-8").removesuffix("\n")


@pytest.mark.holds("CLN-20")
@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_every_golden_file_of_any_version_is_still_read(path: Path) -> None:
    kind, version = path.stem.rsplit(".", 1)
    event = decode(kind, int(version), path.read_text(encoding="utf-8").removesuffix("\n"))
    assert (event.TYPE, event) == (kind, next(fact for fact in ALL_FACTS if kind == fact.TYPE))


def test_there_is_a_golden_file_for_each_version_up_to_the_newest() -> None:
    expected = {f"{kind.TYPE}.{n}.json" for kind in e.EVENT_TYPES.values() for n in range(1, kind.VERSION + 1)}
    assert {path.name for path in GOLDEN.iterdir()} == expected


def test_every_version_before_the_newest_has_an_upcast() -> None:
    expected = {(kind.TYPE, n) for kind in e.EVENT_TYPES.values() for n in range(1, kind.VERSION)}
    assert set(UPCASTS) == expected


def test_a_time_in_another_zone_is_stored_in_utc_with_six_decimals() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=2)))
    payload = encode(e.KeepGranted(keep=e.Keep(until=elsewhere, reason="r"), cause="user"))
    assert json.loads(payload)["keep"]["until"] == "2026-09-20T02:00:00.000000Z"


def test_money_is_stored_as_plain_decimal_text() -> None:
    rate = e.Rate(per_hour=Decimal("1E+2"), currency="USD", source="s")
    assert json.loads(encode(e.RateRecorded(instance_type="t", rate=rate)))["rate"]["per_hour"] == "100"


def test_text_that_is_no_unicode_is_stored_readably_and_not_refused() -> None:
    payload, event = codec.encode(e.StopRequested(reason="file \udcff gone"))
    assert (payload, event) == ('{"reason":"file \\\\udcff gone"}', e.StopRequested(reason="file \\udcff gone"))


def test_keys_are_sorted_without_spaces() -> None:
    assert encode(released()) == '{"inventories":[],"outcome":"completed","reason":null}'


@pytest.mark.parametrize(
    ("fact", "message"),
    [
        (e.Touched(cause="touch", ttl_ms=1.5), "a float cannot be recorded: 1.5"),  # type: ignore[arg-type]
        (e.Touched(cause=7), "not a valid touched: Expected `str`, got `int` - at `$.cause`"),  # type: ignore[arg-type]
        (
            e.KeepGranted(keep=e.Keep(until=datetime(2026, 9, 20), reason="r"), cause="user"),  # noqa: DTZ001
            "a time without a zone cannot be recorded: 2026-09-20 00:00:00",
        ),
        (
            e.BalanceObserved(scope="s", username="u", balance=Decimal("NaN"), currency="USD"),
            "a Decimal cannot be recorded: Decimal('NaN')",
        ),
    ],
)
def test_what_could_not_be_read_back_is_not_written(fact: e.Event, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        encode(fact)
    assert str(caught.value) == message


@pytest.mark.parametrize(("kind", "version"), [("box-painted", 1), ("touched", 2)])
def test_an_event_of_a_newer_program_is_refused_with_the_way_out(kind: str, version: int) -> None:
    with pytest.raises(IntegrityFailure) as caught:
        decode(kind, version, "{}")
    assert (caught.value.message, caught.value.hint) == (
        f"written by a newer rentroll: event {kind} version {version}",
        "upgrade this program; it does not guess at what it cannot read",
    )


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "{",
        "[]",
        '{"outcome":"completed","reason":7}',
        '{"reason":null}',
        '{"outcome":"completed","paint":"red"}',
        '{"outcome":"completed","inventories":[1.5]}',
    ],
)
def test_a_payload_that_is_not_what_its_type_says_is_refused(payload: str) -> None:
    with pytest.raises(IntegrityFailure, match=r"^the payload of released version 1 cannot be read: "):
        decode("released", 1, payload)


class Painted(e.Event, frozen=True, kw_only=True):
    """A made-up fact in its third version: `color` became `colour`, then got a time and a price."""

    TYPE = "painted"
    VERSION = 3
    colour: str
    until: datetime
    price: Decimal


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    return {"colour": values["color"]}


def _dated(values: dict[str, Any]) -> dict[str, Any]:
    return values | {"until": "2026-09-20T03:00:00.000000Z", "price": "2.50"}


@pytest.mark.holds("CRE-28", "CLN-20")
def test_an_old_event_is_brought_up_to_date_one_version_at_a_time() -> None:
    upcasts = {("painted", 1): _renamed, ("painted", 2): _dated}
    expected = Painted(colour="red", until=LATER, price=Decimal("2.50"))
    types: dict[str, type[e.Event]] = {"painted": Painted}
    assert [
        decode("painted", 1, '{"color":"red"}', types=types, upcasts=upcasts),
        decode("painted", 2, '{"colour":"red"}', types=types, upcasts=upcasts),
    ] == [expected, expected]


def test_an_old_event_that_its_upcast_cannot_read_is_a_damaged_one() -> None:
    with pytest.raises(IntegrityFailure, match="the payload of painted version 1 cannot be read"):
        decode("painted", 1, "{}", types={"painted": Painted}, upcasts={("painted", 1): _renamed})


@pytest.mark.parametrize("fact", ALL_FACTS, ids=lambda fact: fact.TYPE)
def test_what_is_folded_now_is_what_a_replay_will_read(fact: e.Event) -> None:
    """Twice: the second event of a shape takes the short way."""
    for _ in range(2):
        payload, event = codec.encode(fact)
        assert (payload, event, decode(fact.TYPE, 1, payload)) == (encode(fact), fact, fact)


TEXTS = st.text(st.characters())
NUMBERS = st.integers()
PLAIN_FACTS = (
    st.builds(e.SyncFinished, **dict.fromkeys(e.SyncFinished.__struct_fields__[:-1], NUMBERS), manifest_digest=TEXTS),
    st.builds(e.Touched, cause=TEXTS, ttl_ms=NUMBERS | st.none(), idle_timeout_ms=NUMBERS | st.none()),
    st.builds(e.StopRequested, reason=TEXTS),
    st.builds(e.Rollback, stage=TEXTS, cause=TEXTS, shown=st.booleans()),
)


@given(st.one_of(PLAIN_FACTS))
def test_an_event_of_plain_fields_is_read_back_as_it_was_folded_whatever_they_hold(fact: e.Event) -> None:
    payload, event = codec.encode(fact)
    assert decode(fact.TYPE, 1, payload) == event
    assert payload == json.dumps(json.loads(payload), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@pytest.mark.parametrize("kind", e.EVENT_TYPES.values(), ids=lambda kind: kind.TYPE)
def test_whether_a_plain_field_is_valid_depends_on_its_type_alone(kind: type[e.Event]) -> None:
    """So that `encode` need not read back an event of a shape it knows: no literals, enumerations or bounds."""
    info: Any = msgspec.inspect.type_info(kind)
    kinds = [each for field in info.fields for each in getattr(field.type, "types", (field.type,))]
    bounds = [each for each in kinds if isinstance(each, (msgspec.inspect.IntType, msgspec.inspect.StrType))]
    assert not [each for each in kinds if isinstance(each, VALUE_DEPENDENT)]
    assert [each for each in bounds if each not in (msgspec.inspect.IntType(), msgspec.inspect.StrType())] == []


VALUE_DEPENDENT = (msgspec.inspect.LiteralType, msgspec.inspect.EnumType, msgspec.inspect.CustomType)


@given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 30), timezones=OFFSETS))  # noqa: DTZ001
@example(NOW)
def test_a_time_is_written_as_everywhere_else(moment: datetime) -> None:
    assert codec.time_text(moment) == format_time(moment)
