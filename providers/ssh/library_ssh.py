"""Channels over paramiko, each with a connection of its own: where there is no `ssh`, or where it is not wanted."""

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TypeVar

from ledger.domain.errors import SshFailure
from ledger.domain.ports import Endpoint
from ledger.noticing import NOTICE_S
from providers.ssh.channel import ChannelLost
from providers.ssh.connection import Connection, connect
from providers.ssh.faults import BROKEN, NO_STATUS
from providers.ssh.handshake import Limits

_WORDS_BYTES = 65_536
_T = TypeVar("_T")


class LibraryChannel:
    """The port `providers.ssh.channel.Channel`: one command on `connection`, which ends with it."""

    def __init__(self, connection: Connection, line: str) -> None:
        self.where = connection.where
        self._connection = connection
        self._channel = connection.open(line)
        self._channel.settimeout(NOTICE_S)

    def read_into(self, buffer: memoryview, timeout_s: float | None = None) -> int:
        """Reads what is there; 0 is the end. Raises TimeoutError."""
        try:
            chunk: bytes = self._patiently(lambda: self._channel.recv(len(buffer)), timeout_s)
        except TimeoutError:
            raise
        except BROKEN:
            return 0
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def write(self, data: bytes | bytearray | memoryview, timeout_s: float) -> None:
        """Writes all of it. Raises ChannelLost, and TimeoutError where nothing is taken for so many seconds."""
        left = memoryview(data)
        while left:
            try:
                count = self._patiently(partial(self._send, left), timeout_s)
            except TimeoutError:
                raise
            except BROKEN:
                raise ChannelLost from None
            if not count:
                raise ChannelLost
            left = left[count:]

    def exit_code(self, timeout_s: float) -> int | None:
        """How the command ended; None where the connection tore first."""
        self._channel.status_event.wait(timeout_s)
        status: int = self._channel.exit_status
        return None if status == NO_STATUS else status

    def words(self) -> str:
        """What came on stderr."""
        said: bytes = self._channel.recv_stderr(_WORDS_BYTES) if self._channel.recv_stderr_ready() else b""
        return said.decode(errors="replace")

    def failure(self) -> SshFailure:
        """Why it ended before what ran on it did."""
        return self._connection.lost()

    def is_alive(self) -> bool:
        """Whether the connection is there: it asks the box itself, and ends where it does not answer."""
        return not self._channel.closed

    def close(self) -> None:
        """Ends the channel and its connection."""
        with contextlib.suppress(*BROKEN):
            self._channel.close()
        self._connection.close()

    def _send(self, data: memoryview) -> int:
        sent: int = self._channel.send(data)
        return sent

    def _patiently(self, call: Callable[[], _T], timeout_s: float | None) -> _T:
        """In short pieces, so that a signal is noticed."""
        end_s = None if timeout_s is None else monotonic() + timeout_s
        while True:
            try:
                return call()
            except TimeoutError:
                if end_s is not None and monotonic() >= end_s:
                    raise


def open_channel(endpoint: Endpoint, keys_root: Path, line: str, *, limits: Limits | None = None) -> LibraryChannel:
    """Has the box's login shell run `line` over a connection of its own. Raises SshFailure naming the stage."""
    connection = connect(endpoint, keys_root, limits=limits)
    try:
        return LibraryChannel(connection, line)
    except BaseException:
        connection.close()
        raise
