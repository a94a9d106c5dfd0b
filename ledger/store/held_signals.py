"""Holds back the signals that end a terminal program while a transaction is open."""

import signal
import threading

# What `signal.pthread_sigmask` wraps: the wrapper makes enumerations of each mask, for a twentieth of an append.
from _signal import pthread_sigmask  # type: ignore[import-not-found]

_MAIN_THREAD = threading.main_thread().ident
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def hold_back_stops() -> set[int] | None:
    """Makes SIGINT, SIGTERM and SIGHUP wait, and gives the signals that waited before, for `let_stops_through`.

    Only the main thread runs handlers, so only it holds them back; None elsewhere.
    """
    if threading.get_ident() != _MAIN_THREAD:
        return None
    before: set[int] = pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    return before


def let_stops_through(before: set[int] | None) -> None:
    """Ends a `hold_back_stops`; what has come meanwhile arrives now."""
    if before is not None:
        pthread_sigmask(signal.SIG_SETMASK, before)
