"""One request on its way: how far it came, and how it is ended from outside.

An `Attempt` watches the events of httpx's `trace` extension, which arrive in the thread that does the I/O, while
the caller may give it up from its own thread. The lock makes "no byte has left" and "given up" exclude each other.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Mapping
from typing import Any

_LINGER_RESET = struct.pack("ii", 1, 0)
_LINGER_OFF = struct.pack("ii", 0, 0)


class GivenUpError(Exception):
    """The caller stopped waiting before the first byte: nothing may leave any more."""


class Attempt:
    """How far one call came. `sent`: a byte of the request may have left. `status`: of the newest answer, if any.

    With `reset_unless_answered` the connection is reset, not closed, until the whole answer has been read, so that
    a server which is still working on the request learns that nobody waits for it.
    """

    def __init__(self, *, reset_unless_answered: bool) -> None:
        self.sent = False
        self.status: int | None = None
        self._reset_unless_answered = reset_unless_answered
        self._given_up = False
        self._tunnelling = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def observe(self, event: str, info: Mapping[str, Any]) -> None:
        """httpx's `trace` extension (documented event names). Raises `GivenUpError` where the call was given up."""
        step = event.partition(".")[2]
        if step in {"connect_tcp.complete", "start_tls.complete"}:
            self._adopt(info["return_value"].get_extra_info("socket"))
        elif step == "send_request_headers.started":
            # A proxy's CONNECT carries neither our request nor our key.
            self._tunnelling = info["request"].method == b"CONNECT"
            if not self._tunnelling:
                self._start_sending()
        elif step == "receive_response_headers.complete" and not self._tunnelling:
            self.status = info["return_value"][1]
        elif step == "receive_response_body.complete":
            self._linger(_LINGER_OFF)

    def give_up(self) -> None:
        """Lets nothing more leave and wakes the reader, whose failure then closes the connection.

        Only the receiving half is shut: shutting both would send an orderly end before the reset.
        """
        with self._lock:
            self._given_up = True
            adopted = self._socket
        if adopted is not None:
            # Not SSLSocket.shutdown: it unwraps the object under the reader, who might then write in the clear.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(adopted, socket.SHUT_RD)

    def _adopt(self, connected: socket.socket) -> None:
        with self._lock:
            self._socket = connected
        self._linger(_LINGER_RESET)

    def _start_sending(self) -> None:
        with self._lock:
            if self._given_up:
                raise GivenUpError
            self.sent = True
            self.status = None

    def _linger(self, option: bytes) -> None:
        if self._reset_unless_answered and self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
