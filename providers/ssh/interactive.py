"""A session on a box where this machine has no `ssh`: a login shell on a terminal, or one command."""

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ledger.domain.errors import SshFailure
from providers.ssh.faults import BROKEN, NO_STATUS, reason
from providers.ssh.stdin import StdinFeeder

_CHUNK_BYTES = 65_536
_CHANNEL_S = 30.0
_NOTICE_S = 0.5
_SIGNAL_BASE = 128
_SSH_FAILED = 255
_NO_MORE = "eow@openssh.com"
_REQUEST = 98
"""OpenSSH's own request (PROTOCOL, section 2.1): nothing is read any more; the command's next write fails. RFC 4254's
number of a request on a channel."""
_WASTE_BYTES = 16 * 1_048_576
"""A server that knows the request sends a few windows (of 2 MiB) at most after it."""


def converse(
    transport: Any, where: str, line: str | None, *, term: str | None, exit_signal: Callable[[int], str | None]
) -> int:
    """Runs a line on the box, or a login shell, with our stdin, stdout and stderr, and gives its code (128+N).

    `transport` is an authenticated connection of paramiko's; `term` the name of our terminal where the session is to
    have one; `exit_signal` gives the name of the signal that ended what ran on a channel. Our terminal is raw
    meanwhile, and as it was afterwards. Raises SshFailure (stage `session`) where the connection ends first.

    Where nobody reads our stdout any more the command's next write fails, as in a pipe; the code is its own then, or
    255 where a signal ended it, and nothing is said: all as with the system's `ssh`.
    """
    try:
        channel = transport.open_session(timeout=_CHANNEL_S)
        with _raw(term is not None):
            if term is not None:
                columns, rows = _size()
                channel.get_pty(term, width=columns, height=rows)
            channel.invoke_shell() if line is None else channel.exec_command(line)
            feeder = StdinFeeder(channel, sys.stdin.fileno())
            feeder.start()
            try:
                with _resizing(channel, term is not None):
                    is_read = _pump(channel)
            finally:
                feeder.stop()
        status: int = channel.recv_exit_status()
    except BROKEN as error:
        raise SshFailure(f"{where}: the session was lost: {reason(error)}.", stage="session") from error
    name = exit_signal(channel.get_id()) if status == NO_STATUS else None
    if not is_read and status == NO_STATUS and (name is not None or transport.is_active()):
        return _SSH_FAILED
    if name is not None:
        return _SIGNAL_BASE + int(getattr(signal, f"SIG{name}", signal.SIGTERM))
    if status == NO_STATUS:
        raise SshFailure(f"{where}: the session ended before what ran in it did.", stage="session")
    return status


def _pump(channel: Any) -> bool:
    """Both outputs as they come, until their end. Whether our stdout was read to the end."""
    stdout, stderr = _Output(1), _Output(2)
    while True:
        ended = channel.eof_received or channel.closed
        moved = False
        while channel.recv_ready() and stdout.wasted_bytes <= _WASTE_BYTES:
            was_read = stdout.is_read
            stdout.write(channel.recv(_CHUNK_BYTES))
            if was_read and not stdout.is_read:
                _want_no_more(channel)
            moved = True
        while channel.recv_stderr_ready():
            stderr.write(channel.recv_stderr(_CHUNK_BYTES))
            moved = True
        if stdout.wasted_bytes > _WASTE_BYTES:
            channel.close()  # the server does not know the request: the command is hung up
            return False
        if ended and not moved:
            return stdout.is_read
        if not moved:
            select.select([channel], [], [], _NOTICE_S)


class _Output:
    """One of our own outputs. What comes after its reader has gone is thrown away, and counted."""

    def __init__(self, descriptor: int) -> None:
        self.is_read = True
        self.wasted_bytes = 0
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left and self.is_read:
                left = left[os.write(self._descriptor, left) :]
        except BrokenPipeError:
            self.is_read = False
        self.wasted_bytes += len(left)


def _want_no_more(channel: Any) -> None:
    from providers.ssh.library import paramiko

    message = paramiko.Message()
    message.add_byte(bytes([_REQUEST]))
    message.add_int(channel.remote_chanid)
    message.add_string(_NO_MORE)
    message.add_boolean(False)
    channel.get_transport()._send_user_message(message)  # noqa: SLF001 - as the channel sends its own requests


@contextmanager
def _raw(is_wanted: bool) -> Iterator[None]:
    """Every key goes to the box as it is."""
    if not is_wanted or not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin.fileno())
    tty.setraw(sys.stdin.fileno(), termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)


@contextmanager
def _resizing(channel: Any, is_wanted: bool) -> Iterator[None]:
    """The session's terminal follows the size of ours."""
    if not is_wanted:
        yield
        return

    def resize(*_: object) -> None:
        columns, rows = _size()
        with suppress(*BROKEN):
            channel.resize_pty(width=columns, height=rows)

    before = signal.signal(signal.SIGWINCH, resize)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def _size() -> tuple[int, int]:
    try:
        size = os.get_terminal_size(sys.stdin.fileno())
    except OSError:
        return 80, 24
    return size.columns or 80, size.lines or 24
