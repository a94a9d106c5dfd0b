"""A command on a box with its stdin and stdout: what each way of reaching a box gives to what speaks with the agent."""

from collections.abc import Callable
from typing import Protocol

from ledger.domain.errors import SshFailure


class ChannelLost(Exception):
    """The channel has ended: nobody reads any more what is written to it."""


class Channel(Protocol):
    """One command. Reading and writing may be done from two threads; `close` may be called from a third."""

    where: str
    """`host:port`, for messages."""

    def read_into(self, buffer: memoryview, timeout_s: float | None = None) -> int:
        """Reads what is there, waiting for some; 0 is the end. Raises TimeoutError."""
        ...

    def write(self, data: bytes | bytearray | memoryview, timeout_s: float) -> None:
        """Writes all of it. Raises ChannelLost, and TimeoutError where nothing is taken for so many seconds."""
        ...

    def exit_code(self, timeout_s: float) -> int | None:
        """After the end of the output: how the command ended, None where the connection tore or nothing is said."""
        ...

    def words(self) -> str:
        """What came on stderr: ssh's own words and the login shell's, in one line."""
        ...

    def failure(self) -> SshFailure:
        """Why the channel ended before what ran on it did, with the stage that was reached."""
        ...

    def is_alive(self) -> bool:
        """Whether what carries the channel on this machine still answers. Says nothing of the box."""
        ...

    def close(self) -> None:
        """Ends it; whoever reads or writes is woken. May be called again."""
        ...


Opener = Callable[[str], Channel]
"""Has a box's login shell run a line. Raises SshFailure naming the stage it failed at."""
