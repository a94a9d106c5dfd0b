"""Our own terminal while a job has one on the box: its size, its bytes as they are, and back as it was."""

import os
import signal
import sys
import termios
import tty as raw
from collections.abc import Callable
from typing import Any

from ledger.domain.ports import Tty

ROWS, COLUMNS = 24, 80


def terminal(term: str) -> Tty:
    """The terminal that a job is given: as large as ours, under its name."""
    for stream in (sys.stdout, sys.stdin, sys.stderr):
        if is_terminal(stream):
            size = os.get_terminal_size(stream.fileno())
            return Tty(rows=size.lines or ROWS, columns=size.columns or COLUMNS, term=term)
    return Tty(rows=ROWS, columns=COLUMNS, term=term)


class PassedThrough:
    """Lets every key of our terminal, Ctrl-C among them, go to a job as it is, from `begin` to `end`."""

    def __init__(self, term: str) -> None:
        self._term = term
        self._before: list[Any] | None = None
        self._handler: Any = None

    def begin(self, resized: Callable[[Tty], None]) -> None:
        """`resized` is told each change of our terminal's size. Without a terminal of ours nothing happens."""
        if not is_terminal(sys.stdin):
            return
        self._before = termios.tcgetattr(sys.stdin.fileno())
        self._handler = signal.signal(signal.SIGWINCH, lambda *_: resized(terminal(self._term)))
        raw.setraw(sys.stdin.fileno(), termios.TCSADRAIN)

    def end(self) -> None:
        before, self._before = self._before, None
        if before is not None:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)
            signal.signal(signal.SIGWINCH, self._handler)


def is_terminal(stream: Any) -> bool:
    """Whether a standard stream is there and a terminal."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False
