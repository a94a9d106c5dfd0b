"""What paramiko raises for a connection or a peer that does not work, and how that is said to a person."""

from paramiko.ssh_exception import SSHException  # type: ignore[import-untyped]

BROKEN: tuple[type[Exception], ...] = (SSHException, EOFError, OSError)
"""Every error that a connection may fail with; TimeoutError is an OSError."""


def reason(error: BaseException | None) -> str:
    """Why a connection failed, in one line; None and an end of file both mean that the other side closed it."""
    if error is None or isinstance(error, EOFError):
        return "the box closed the connection"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
