"""JSON for the control frames, by the C half of Python's json: importing the whole costs more than all of the agent.

ASCII text, so that a name that was no UTF-8 (a str with surrogate escapes) arrives as it was. Where this Python's C
half is missing or differs, the whole json does the same.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from typing import Any


def _refused(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


class _Settings:
    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = _refused
    memo: dict[str, str] = {}  # noqa: RUF012 - read by the scanner


try:
    import _json

    _quoted = _json.encode_basestring_ascii
    _scan = _json.make_scanner(_Settings)  # type: ignore[arg-type]  # it only reads what json.JSONDecoder has
except (ImportError, AttributeError, TypeError):
    import json

    _quoted = json.dumps
    _scan = json.JSONDecoder(parse_constant=_refused).scan_once  # type: ignore[attr-defined]


def encode(value: Any) -> bytes:
    """JSON text of str, int, float, bool, None, and lists and dicts of these. Raises TypeError for anything else."""
    return _text(value).encode("ascii")


def decode(text: bytes) -> dict[str, Any]:
    """The object that `text` holds. Raises ValueError where it holds none, or holds more."""
    read = text.decode("ascii").strip()
    try:
        value, end = _scan(read, 0)
    except StopIteration:
        raise ValueError("not JSON") from None
    if end != len(read) or not isinstance(value, dict):
        raise ValueError("not one JSON object")
    return value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([_text(each) for each in value]) + "]"
    if isinstance(value, dict):
        return "{" + ",".join([_quoted(name) + ":" + _text(each) for name, each in value.items()]) + "}"
    raise TypeError(f"no JSON for {type(value).__name__}")
