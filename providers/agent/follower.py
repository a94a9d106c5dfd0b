"""A client that a supervisor serves: its frames in, and the log to it, as fast as it takes it.

Its descriptors do not block. What is sent to it comes from the log, from the position where it stands; answers go out
between two frames of the log.
"""

from __future__ import annotations

import errno
import os
from time import monotonic

from providers.agent import jsontext
from providers.agent.frames import JSON, Reader, pack
from providers.agent.spawn import enlarge

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

    from providers.agent.log import Log, Segment

_READ_BYTES = 65_536


class Lost(Exception):
    """The client has gone away, or does not speak the protocol."""


class Follower:
    """One client. `link` is the socket of the process whose channel it is, None for the supervisor's own.

    `at` is the position in the log up to which it was sent, `moved_s` when it last took something, `blocked` whether it
    takes nothing now.
    """

    def __init__(self, fd_in: int, fd_out: int, *, reader: Reader | None = None, link: socket | None = None) -> None:
        self.fd_in = fd_in
        self.fd_out = fd_out
        self.link = link
        self.reader = reader or Reader()
        self.at = 0
        self.blocked = False
        self.moved_s = monotonic()
        self._goal = 0
        self._answers = bytearray()
        self._last: bytes | None = None
        self._copies = False
        os.set_blocking(fd_in, False)
        os.set_blocking(fd_out, False)
        enlarge(fd_out)

    def begin_at(self, position: int) -> None:
        """The log is sent from this position on, where a frame begins."""
        self.at = self._goal = position

    def answer(self, message: dict[str, Any]) -> None:
        """Sends a JSON object between two frames of the log, soon."""
        self._answers += pack(JSON, jsontext.encode(message))

    def finish(self, message: dict[str, Any]) -> None:
        """Sends a JSON object after the whole log, as the last there is."""
        self._last = pack(JSON, jsontext.encode(message))

    @property
    def finished(self) -> bool:
        """Whether the last was sent."""
        return self._last == b"" and not self._answers

    def read(self) -> list[tuple[bytes, bytes]]:
        """The frames that have come. Raises Lost at the channel's end."""
        try:
            chunk = os.read(self.fd_in, _READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            raise Lost from None
        if not chunk:
            raise Lost
        try:
            return list(self.reader.feed(chunk))
        except ValueError:
            raise Lost from None

    def read_left(self) -> list[tuple[bytes, bytes]]:
        """The frames that are still to be had from a client that is gone; empty when there are no more."""
        try:
            return self.read()
        except Lost:
            return []

    def flush(self, log: Log) -> None:
        """Sends what it takes without waiting. Raises Lost where nobody reads any more."""
        self.blocked = False
        try:
            while self._step(log):
                self.moved_s = monotonic()
        except BlockingIOError:
            self.blocked = True
        except OSError:
            raise Lost from None

    def _step(self, log: Log) -> bool:
        """Sends one thing; False where there is nothing more."""
        if self.at < self._goal:
            segment = log.segment_at(self.at)
            assert segment is not None  # noqa: S101 - what a client still needs is not dropped
            self.at += self._send(segment, self._goal - self.at)
        elif self._answers:
            del self._answers[: os.write(self.fd_out, self._answers)]
        elif self.at < log.end:
            following = log.segment_at(self.at)
            assert following is not None  # noqa: S101 - as above
            self._goal = following.last
        elif self._last:
            self._answers, self._last = bytearray(self._last), b""
        else:
            return False
        return True

    def _send(self, segment: Segment, count: int) -> int:
        if not self._copies:
            try:
                return os.sendfile(self.fd_out, segment.descriptor, segment.place(self.at), count)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOSYS):
                    raise
                self._copies = True  # a file system, or a channel, that cannot
        return os.write(self.fd_out, os.pread(segment.descriptor, min(count, _READ_BYTES), segment.place(self.at)))
