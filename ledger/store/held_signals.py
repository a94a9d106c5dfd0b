"""Holds back the signals that end a terminal program while a transaction is open."""

import signal
import threading

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def hold_back_stops() -> set[int] | None:
    """Makes SIGINT, SIGTERM and SIGHUP wait, and gives the signals that waited before, for `let_stops_through`.

    Only the main thread runs handlers, so only it holds them back; None elsewhere.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS))


def let_stops_through(before: set[int] | None) -> None:
    """Ends a `hold_back_stops`; what has come meanwhile arrives now."""
    if before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
