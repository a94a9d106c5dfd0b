"""Between an event and its stored payload: one canonical JSON text, read strictly, for ever.

Canonical: keys sorted, no spaces, UTF-8, times in UTC with six decimals and `Z`, money as decimal text, no floats.
A payload of an older version is brought up to date step by step by `UPCASTS`; nothing stored is ever rewritten.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import to_builtins
from msgspec.structs import astuple

from ledger.domain.errors import IntegrityFailure
from ledger.domain.events import EVENT_TYPES, Event
from ledger.domain.rows import Row
from ledger.domain.state import Recorded

Upcasts = Mapping[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]]

UPCASTS: Upcasts = {}
"""By stored type and version: what makes the next version's payload of one of that version."""

_encoder = msgspec.json.Encoder(order="sorted")
_decoders = {name: msgspec.json.Decoder(kind) for name, kind in EVENT_TYPES.items()}


def encode(event: Event) -> tuple[str, Any]:
    """The canonical payload, and the event as it will be read back: what is folded now is what a replay will fold.

    Raises TypeError for a value that could not be read back: a float, a time without a zone.
    """
    shape = (type(event), *map(type, astuple(event)))
    try:
        if shape in _known_shapes:
            return _encoder.encode(event).decode(), event
        payload = _encoder.encode(_plain(event))
    except UnicodeEncodeError:
        # A path or message may carry bytes that are no text; a fact is not lost over them.
        payload = _encoder.encode(_printable(_plain(event)))
    try:
        read_back = _decoders[event.TYPE].decode(payload)
    except msgspec.ValidationError as error:
        raise TypeError(f"not a valid {event.TYPE}: {error}") from error
    if _PLAIN.issuperset(shape[1:]):
        _known_shapes.add(shape)
    return payload.decode(), read_back


def decode(
    kind: str,
    version: int,
    payload: str,
    *,
    types: Mapping[str, type[Event]] = EVENT_TYPES,
    upcasts: Upcasts = UPCASTS,
) -> Event:
    """The event that a stored payload stands for.

    Raises `IntegrityFailure` for a type or version that this program does not know, and for a payload that is not
    what its type and version say.
    """
    known = types.get(kind)
    if known is None or version > known.VERSION:
        raise IntegrityFailure(
            f"written by a newer rentroll: event {kind} version {version}",
            hint="upgrade this program; it does not guess at what it cannot read",
        )
    try:
        if version == known.VERSION and types is EVENT_TYPES:
            return _decoders[kind].decode(payload)
        values = msgspec.json.decode(payload, type=dict[str, Any])
        for step in range(version, known.VERSION):
            values = upcasts[kind, step](values)
        return msgspec.convert(values, known)
    except (msgspec.MsgspecError, UnicodeError, LookupError, TypeError, ValueError) as error:
        raise IntegrityFailure(f"the payload of {kind} version {version} cannot be read: {error}") from error


def recorded(row: Row) -> Recorded:
    """A row with its event understood. Raises `IntegrityFailure` naming the position."""
    try:
        event: Any = decode(row.type, row.version, row.payload)
        return Recorded(
            stream=row.stream,
            sequence=row.sequence,
            recorded_at=datetime.fromisoformat(row.recorded_at),
            actor=row.actor,
            event=event,
        )
    except (IntegrityFailure, ValueError) as error:
        raise IntegrityFailure(
            f"event {row.position} of {row.stream}: {error}",
            hint=getattr(error, "hint", None) or "only this lease is affected; keep a copy of the ledger",
            next_step="rentroll verify",
        ) from error


def recorded_stream(rows: Iterable[Row]) -> Iterator[Recorded]:
    """One stream's events understood, from its first on. Raises `IntegrityFailure` also where one is missing."""
    for sequence, row in enumerate(rows, start=1):
        if row.sequence != sequence:
            raise IntegrityFailure(
                f"event {sequence} of {row.stream} is missing before position {row.position}",
                hint="only this lease is affected; keep a copy of the ledger",
                next_step="rentroll verify",
            )
        yield recorded(row)


def time_text(moment: datetime) -> str:
    """What `format_time` gives, by msgspec: a fifth of its time, which an append spends twice."""
    text = str(to_builtins(moment.astimezone(UTC)))
    # msgspec leaves out microseconds that are zero.
    return text if len(text) == _TIME_LENGTH else f"{text[:-1]}.000000Z"


_known_shapes: set[tuple[type, ...]] = set()
"""An event's type and those of its fields, all of them plain, where such an event was written and read back before.

The next one is then written as it stands and is what will be read: whether a plain value is valid depends on its type
alone, in every field of every event (`tests/contract/test_codec.py`).
"""
_TIME_LENGTH = len("2026-09-20T02:00:00.000000Z")
_PLAIN = frozenset((str, int, bool, type(None)))


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        values = zip(value.__struct_fields__, astuple(value), strict=True)
        return {name: field if type(field) in _PLAIN else _plain(field) for name, field in values}
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise TypeError(f"a time without a zone cannot be recorded: {value}")
        return time_text(value)
    if isinstance(value, Decimal) and value.is_finite():
        return format(value, "f")
    raise TypeError(f"a {type(value).__name__} cannot be recorded: {value!r}")


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return value
