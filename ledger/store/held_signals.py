"""Holds back the signals that end a terminal program while a transaction is open."""

import signal
import threading

# What the functions of `signal` wrap: the wrappers make enumerations, for a twentieth of an append.
from _signal import getsignal as _getsignal  # type: ignore[import-not-found]
from _signal import raise_signal as _raise_signal
from _signal import signal as _signal
from collections.abc import Callable
from types import FrameType

_MAIN_THREAD = threading.main_thread().ident
# As plain numbers: the hash of an enumeration's member is a call of Python.
_STOPS = (int(signal.SIGINT), int(signal.SIGTERM), int(signal.SIGHUP))


class HeldStops:
    """Makes the Python handlers of SIGINT, SIGTERM and SIGHUP wait from `hold` to `let_through`.

    The handlers are exchanged, because a mask is of one thread: a signal to the process would reach another thread,
    whichever library started it, and Python would run the handler here all the same. A signal that has no handler in
    Python is left alone: it is ignored, or ends the process at once, and a transaction survives the end of a process.
    """

    __slots__ = ("_arrived", "_former", "_to_deliver")

    def __init__(self) -> None:
        self._former: dict[int, Callable[[int, FrameType | None], object]] = {}
        self._arrived: list[int] = []
        self._to_deliver = iter(self._arrived)

    def hold(self) -> None:
        """Only the main thread runs handlers, so this does nothing elsewhere."""
        if threading.get_ident() != _MAIN_THREAD:
            return
        try:
            for number in _STOPS:
                handler = _getsignal(number)
                if callable(handler):
                    self._former[number] = handler
                    _signal(number, self._remember)
        except BaseException:  # raised by the handler of one that is not held yet
            self.let_through()
            raise

    def let_through(self) -> None:
        """Ends a `hold`; each signal that has come meanwhile arrives now, once."""
        try:
            for number, handler in self._former.items():
                _signal(number, handler)
            # No step of Python between taking a number and raising it: a signal that comes then cannot lose it.
            any(map(_raise_signal, self._to_deliver))
        except BaseException:  # raised by a handler; the other signals are let through all the same
            self.let_through()
            raise
        self._former.clear()

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if number not in self._arrived:
            self._arrived.append(number)
