"""The frames that client and agent exchange: one byte kind, four bytes length (big-endian), payload.

Client to box: `J` a JSON object, `I` bytes of stdin, `Z` the end of stdin, `M` manifest, `P` paths, `F` one entry,
`D` file data. Box to client: `J`, `M`, `P`, `F`, `D`, and `O` and `E`, a job's stdout and stderr: eight bytes absolute
offset (big-endian) in that stream, then bytes.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"\0rentroll-agent 1\n"
"""What the agent prints before its first frame. What a login shell prints comes before it and is skipped."""
VERSION = 1
"""The version that `hello` names."""

PAYLOAD_LIMIT_BYTES = 1_048_576 + 16
"""The largest payload."""
STDIN_WINDOW_BYTES = 1_048_576
"""How much of stdin a client may have sent that the agent has not yet said to be taken."""
HEADER_BYTES = 5
OFFSET_BYTES = 8

JSON = b"J"
STDIN = b"I"
STDIN_END = b"Z"
MANIFEST = b"M"
PATHS = b"P"
ENTRY = b"F"
DATA = b"D"
STDOUT = b"O"
STDERR = b"E"

_NOISE_BYTES = 4096


def header(kind: bytes, size: int) -> bytes:
    """What comes before a payload of `size` bytes. Raises ValueError where that is too large."""
    if size > PAYLOAD_LIMIT_BYTES:
        raise ValueError(f"a frame of {size} bytes is too large")
    return kind + size.to_bytes(4, "big")


def pack(kind: bytes, payload: bytes = b"") -> bytes:
    """One whole frame. Raises ValueError where the payload is too large."""
    return header(kind, len(payload)) + payload


def output(payload: bytes) -> tuple[int, bytes]:
    """The absolute offset and the bytes of an `O` or `E` frame."""
    return int.from_bytes(payload[:OFFSET_BYTES], "big"), payload[OFFSET_BYTES:]


class Reader:
    """Cuts what arrives into frames.

    With `after_magic` everything up to the agent's magic line is skipped; the last of it is `noise`, for messages.
    """

    def __init__(self, *, after_magic: bool = False) -> None:
        self.noise = b""
        self._waiting = after_magic
        self._held = bytearray()

    @property
    def started(self) -> bool:
        """Whether the magic line has come, or none was expected."""
        return not self._waiting

    def rest(self) -> bytes:
        """Takes out what has arrived of a frame that is not whole yet."""
        held = bytes(self._held)
        self._held.clear()
        return held

    def feed(self, chunk: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Gives each frame (kind, payload) that is whole now; run it to its end before the next chunk.

        Raises ValueError for a frame that is too large: whatever sent it does not speak this protocol.
        """
        self._held += chunk
        if self._waiting and not self._begin():
            return
        at, end = 0, len(self._held)
        try:
            while end - at >= HEADER_BYTES:
                size = int.from_bytes(self._held[at + 1 : at + HEADER_BYTES], "big")
                if size > PAYLOAD_LIMIT_BYTES:
                    raise ValueError(f"a frame of {size} bytes is too large")
                after = at + HEADER_BYTES + size
                if after > end:
                    break
                frame = bytes(self._held[at : at + 1]), bytes(memoryview(self._held)[at + HEADER_BYTES : after])
                at = after
                yield frame
        finally:
            del self._held[:at]

    def _begin(self) -> bool:
        found = self._held.find(MAGIC)
        skipped = found if found >= 0 else max(0, len(self._held) - len(MAGIC) + 1)
        self.noise = (self.noise + bytes(self._held[:skipped]))[-_NOISE_BYTES:]
        del self._held[: skipped + (len(MAGIC) if found >= 0 else 0)]
        self._waiting = found < 0
        return not self._waiting
