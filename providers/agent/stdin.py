"""A job's stdin: what clients gave and the job has not taken yet.

It ends only where a client says so, never with a connection. A client may be a window ahead of what was taken, so that
what it says besides (a signal) never waits behind input that the job does not read.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from typing import Any

_TELL_BYTES = 131_072
_END_OF_INPUT = b"\x04"  # what a terminal's line discipline takes for it


class Stdin:
    """The writing end of a job's stdin (`descriptor`, not blocking), None where it has none."""

    def __init__(self, descriptor: int | None, *, terminal: bool) -> None:
        self.descriptor = descriptor
        self.received = 0
        self.taken = 0
        self.ended = descriptor is None
        self._terminal = terminal
        self._held = bytearray()
        self._told = 0
        self._told_closed = descriptor is None

    @property
    def waits(self) -> bool:
        """Whether something waits for the job to take it."""
        return bool(self._held)

    def give(self, chunk: bytes) -> None:
        """Adds input. What comes after the end, or where nobody reads, is taken and forgotten."""
        self.received += len(chunk)
        if self.ended or self.descriptor is None:
            self.taken = self.received
        else:
            self._held += chunk
            self.flush()

    def end(self) -> None:
        """The input ends here. For a terminal that is the character that says so."""
        if not self.ended:
            self.ended = True
            if self._terminal:
                self._held += _END_OF_INPUT
            self.flush()

    def flush(self) -> None:
        """Gives the job what it takes without waiting."""
        if self.descriptor is None:
            return
        try:
            while self._held:
                count = os.write(self.descriptor, self._held)
                del self._held[:count]
                self.taken = min(self.received, self.taken + count)
        except BlockingIOError:
            return
        except OSError:  # nobody reads it any more
            self.close()
            return
        if self.ended and not self._terminal:
            self.close()

    def close(self) -> None:
        """The job reads no more, or is to read no more."""
        if self.descriptor is not None and not self._terminal:
            os.close(self.descriptor)
        self.descriptor = None
        self.ended = True
        self._held.clear()
        self.taken = self.received

    def news(self) -> dict[str, Any] | None:
        """What the client that gives input should know by now: how much was taken, and whether more makes sense."""
        closed = self.descriptor is None
        if closed == self._told_closed and (closed or self.taken - self._told < _TELL_BYTES):
            return None
        self._told, self._told_closed = self.taken, closed
        return {"is": "input", "taken": self.taken, "closed": closed}

    def told(self) -> None:
        """The client that gives input from now on knows all that `news` would say."""
        self._told, self._told_closed = self.taken, self.descriptor is None
