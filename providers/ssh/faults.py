"""What paramiko raises for a connection or a peer that does not work, how that is said, and a limit that it lacks."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from providers.ssh.library import paramiko

BROKEN: tuple[type[Exception], ...] = (paramiko.SSHException, EOFError, OSError)
"""Every error that a connection may fail with; TimeoutError is an OSError."""
NO_STATUS = -1
"""What paramiko gives as the exit status of a command whose channel was closed before the command said how it ended."""


@contextlib.contextmanager
def within(timeout_s: float, channel: Any) -> Iterator[None]:
    """Closes a channel on which a request is not done in time, and raises `TimeoutError` where that ended it.

    paramiko waits for the answer to a channel's request without any limit of its own.
    """
    over = threading.Event()

    def give_up() -> None:
        over.set()
        with contextlib.suppress(*BROKEN):  # whoever waited is woken first, and may end the connection under us
            channel.close()

    alarm = threading.Timer(timeout_s, give_up)
    alarm.daemon = True
    alarm.start()
    try:
        yield
    except BROKEN:
        if over.is_set():
            raise TimeoutError from None
        raise
    finally:
        alarm.cancel()


def reason(error: BaseException | None) -> str:
    """Why a connection failed, in one line; None and an end of file both mean that the other side closed it."""
    if error is None or isinstance(error, EOFError):
        return "the box closed the connection"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
