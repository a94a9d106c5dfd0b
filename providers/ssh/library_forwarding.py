"""Ports of a box on this machine's loopback where there is no `ssh`: a listener each, a channel a connection."""

import contextlib
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

from ledger.domain.errors import SshFailure, UsageFailure
from ledger.domain.ports import Endpoint
from ledger.noticing import SafeEvent
from providers.ssh.connection import connect
from providers.ssh.faults import BROKEN
from providers.ssh.forwarding import LOOPBACK, Forward

_CHUNK_BYTES = 65_536
_LOOK_S = 0.2


class LibraryForwarding:
    """As `providers.ssh.forwarding.Forwarding`. Raises SshFailure naming the stage where the box cannot be reached."""

    def __init__(self, endpoint: Endpoint, keys_root: Path, forwards: Sequence[Forward]) -> None:
        self._connection = connect(endpoint, keys_root)
        self._ended = SafeEvent()
        self._listeners: list[socket.socket] = []
        try:
            for forward in forwards:
                listener = _listening(forward.local_port)
                self._listeners.append(listener)
                threading.Thread(target=self._serve, args=(listener, forward.remote_port), daemon=True).start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def wait(self, timeout_s: float) -> bool:
        """Whether the connection has ended within so many seconds."""
        end_s = monotonic() + timeout_s
        while self._connection.is_alive and (left_s := end_s - monotonic()) > 0:
            self._ended.wait(min(left_s, _LOOK_S))
        return not self._connection.is_alive

    def close(self) -> None:
        """Ends it; may be called again."""
        self._ended.set()
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._connection.close()

    def _serve(self, listener: socket.socket, port: int) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near, port), daemon=True).start()

    def _carry(self, near: socket.socket, port: int) -> None:
        with near:
            try:
                far = self._connection.open_port(port)
            except SshFailure:
                return  # nothing listens there: the near end is closed, which says as much
            with contextlib.closing(far):
                back = threading.Thread(target=_pump, args=(far, near), daemon=True)
                back.start()
                _pump(near, far)
                back.join()


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((LOOPBACK, port))
    except OSError as error:  # somebody has taken it since it was looked at
        why = (error.strerror or str(error)).lower()
        raise UsageFailure(f"port {port} of this machine cannot be listened on: {why}") from None


def _pump(source: Any, sink: Any) -> None:
    """Carries bytes one way until their end, and the end too."""
    with contextlib.suppress(*BROKEN):
        while chunk := source.recv(_CHUNK_BYTES):
            sink.sendall(chunk)
    with contextlib.suppress(*BROKEN):
        sink.shutdown(socket.SHUT_WR)
