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


def converse(
    transport: Any, where: str, line: str | None, *, term: str | None, exit_signal: Callable[[int], str | None]
) -> int:
    """Runs a line on the box, or a login shell, with our stdin, stdout and stderr, and gives its code (128+N).

    `transport` is an authenticated connection of paramiko's; `term` the name of our terminal where the session is to
    have one; `exit_signal` gives the name of the signal that ended what ran on a channel. Our terminal is raw
    meanwhile, and as it was afterwards. Raises SshFailure (stage `session`) where the connection ends first.
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
                    _pump(channel)
            finally:
                feeder.stop()
        status: int = channel.recv_exit_status()
    except BROKEN as error:
        raise SshFailure(f"{where}: the session was lost: {reason(error)}.", stage="session") from error
    name = exit_signal(channel.get_id()) if status == NO_STATUS else None
    if name is not None:
        return _SIGNAL_BASE + int(getattr(signal, f"SIG{name}", signal.SIGTERM))
    if status == NO_STATUS:
        raise SshFailure(f"{where}: the session ended before what ran in it did.", stage="session")
    return status


def _pump(channel: Any) -> None:
    """Both outputs as they come, until their end."""
    while True:
        ended = channel.eof_received or channel.closed
        moved = False
        for ready, receive, descriptor in (
            (channel.recv_ready, channel.recv, 1),
            (channel.recv_stderr_ready, channel.recv_stderr, 2),
        ):
            while ready():
                _write(descriptor, receive(_CHUNK_BYTES))
                moved = True
        if ended and not moved:
            return
        if not moved:
            select.select([channel], [], [], _NOTICE_S)


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


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
