"""The hash chain: each event's hash covers its exact stored text and the hash of the event before it. Pure.

The text that is hashed has one field a line, the payload last, so that no two events have the same: a field before
the payload that holds a line break, or any other control character, is refused.
"""

import re
from hashlib import sha256

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_EMPTY = sha256()


Covered = tuple[int, str, int, str, int, str, str, str]
"""Position, stream, sequence, type, version, recorded_at, actor, payload: the first fields of a stored row."""


def event_hash(prev_hash: str, covered: Covered) -> str:
    """SHA-256 as 64 hexadecimal digits. Raises ValueError for a control character before the payload."""
    position, stream, sequence, kind, version, recorded_at, actor, payload = covered
    texts = f"{prev_hash}{stream}{kind}{recorded_at}{actor}"
    if not texts.isprintable() and _CONTROL.search(texts):
        raise ValueError(f"a field of event {position} holds a control character")
    lines = f"{prev_hash}\n{position}\n{stream}\n{sequence}\n{kind}\n{version}\n{recorded_at}\n{actor}\n{payload}"
    digest = _EMPTY.copy()  # `sha256(text)` looks the algorithm up each time, for longer than it hashes
    digest.update(lines.encode())
    return digest.hexdigest()
