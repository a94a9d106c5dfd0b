"""Channels over the system's `ssh`: as a session of the connection that stays open, or over one of their own."""

import contextlib
import fcntl
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Self

from ledger.domain.errors import SshFailure
from ledger.domain.ports import Endpoint
from ledger.noticing import NOTICE_S
from providers.ssh.channel import ChannelLost
from providers.ssh.control import Master, answers, socket_path

_WORDS_BYTES = 65_536
_PIPE_BYTES = 1_048_576
_END_S = 2.0
_LOOK_S = 0.005


class SystemChannel:
    """The port `providers.ssh.channel.Channel` over two pipes, the one to read from and the one to write to.

    `words` is the file that stderr goes to, with that of `ssh` itself where `is_alone`. `code` waits so many seconds
    for the command's exit code, `alive` says whether what carries the channel answers, and `end` ends it.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        pipes: tuple[int, int],
        words: int,
        *,
        is_alone: bool,
        code: Callable[[float], int | None],
        alive: Callable[[], bool],
        end: Callable[[], None],
    ) -> None:
        self.where = f"{endpoint.host}:{endpoint.port}"
        self._endpoint = endpoint
        self._reading, self._writing = pipes
        self._words = words
        self._is_alone = is_alone
        self._code = code
        self._alive = alive
        self._end = end
        self._closed = False
        os.set_blocking(self._writing, False)
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(self._reading, select.POLLIN)
        self._writable.register(self._writing, select.POLLOUT)

    def __del__(self) -> None:
        # Not in `close`: another thread may be about to read, and the number would be another file's by then.
        for descriptor in (self._reading, self._writing, self._words):
            os.close(descriptor)

    def read_into(self, buffer: memoryview, timeout_s: float | None = None) -> int:
        """Reads what is there; 0 is the end. Raises TimeoutError."""
        if not self._wait(self._readable, timeout_s):
            raise TimeoutError
        return 0 if self._closed else os.readv(self._reading, [buffer])

    def write(self, data: bytes | bytearray | memoryview, timeout_s: float) -> None:
        """Writes all of it. Raises ChannelLost, and TimeoutError where nothing is taken for so many seconds."""
        left = memoryview(data)
        while left:
            if self._closed:
                raise ChannelLost
            try:
                left = left[os.write(self._writing, left) :]
            except BlockingIOError:
                if not self._wait(self._writable, timeout_s):
                    raise TimeoutError from None
            except OSError:
                raise ChannelLost from None

    def exit_code(self, timeout_s: float) -> int | None:
        """How the command ended; None where the connection tore first."""
        return self._code(timeout_s)

    def words(self) -> str:
        """What came on stderr."""
        size = os.fstat(self._words).st_size
        return os.pread(self._words, _WORDS_BYTES, max(0, size - _WORDS_BYTES)).decode(errors="replace")

    def failure(self) -> SshFailure:
        """Why it ended before what ran on it did."""
        if not self._is_alone:
            return SshFailure(f"{self.where}: the connection was lost.", stage="session")
        from providers.ssh.words import failure_of

        return failure_of(self._endpoint, self.words())

    def is_alive(self) -> bool:
        """Whether the ssh that carries the channel still answers."""
        return self._alive()

    def close(self) -> None:
        """Ends the channel; whoever reads or writes notices within a moment."""
        if not self._closed:
            self._closed = True
            self._end()

    def _wait(self, poll: select.poll, timeout_s: float | None) -> bool:
        """In short pieces, so that a signal and the end of the channel are noticed. False: the time is over."""
        end_s = None if timeout_s is None else monotonic() + timeout_s
        while not self._closed:
            left_s = NOTICE_S if end_s is None else max(0.0, end_s - monotonic())
            if poll.poll(min(NOTICE_S, left_s) * 1000):
                return True
            if left_s <= 0:
                return False
        return True


def open_channel(endpoint: Endpoint, keys_root: Path, line: str) -> SystemChannel:
    """Has the box's login shell run `line`: over the open connection, which is opened if need be, else over another.

    Raises SshFailure naming the stage it failed at, FileNotFoundError where there is no `ssh`.
    """
    path = socket_path(endpoint, keys_root)
    if path is not None:
        try:
            return _session(endpoint, path, line)
        except TimeoutError:
            return _alone(endpoint, keys_root, line)  # it hangs, or the box does
        except OSError:
            from providers.ssh.multiplex import started

            path = started(endpoint, keys_root)
    if path is not None:
        with contextlib.suppress(OSError):
            return _session(endpoint, path, line)
    return _alone(endpoint, keys_root, line)


def _session(endpoint: Endpoint, path: str, line: str) -> SystemChannel:
    """Raises OSError where there is no master, or it does not answer, or it wants no more sessions."""
    master = Master(path)
    try:
        with _Ends() as ends:
            master.open_session(line.encode(errors="surrogateescape"), ends.theirs)
            return SystemChannel(
                endpoint,
                *ends.take(),
                is_alone=False,
                code=master.exit_code,
                alive=lambda: answers(path),
                end=master.close,
            )
    except BaseException:
        master.close()
        raise


def _alone(endpoint: Endpoint, keys_root: Path, line: str) -> SystemChannel:
    """Raises FileNotFoundError where there is no `ssh`; the rest shows in the channel."""
    from providers.ssh.multiplex import alone, spawn

    with _Ends() as ends:
        process = _Process(
            spawn(
                alone(endpoint, keys_root, line),
                [(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in enumerate(ends.theirs)],
            )
        )
        return SystemChannel(
            endpoint,
            *ends.take(),
            is_alone=True,
            code=process.exit_code,
            alive=lambda: True,
            end=process.end,
        )


def _widen(*pipes: int) -> None:
    """Fewer turns between us and ssh, which is a third of the time for much data. Linux lets each user widen a few."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        for pipe in pipes:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


class _Ends:
    """A pair of pipes and a file for stderr: what the other side gets, and what we keep once it is taken."""

    def __init__(self) -> None:
        words = _nameless_file()
        their_stdin, writing = os.pipe()
        reading, their_stdout = os.pipe()
        self._ours = [reading, writing, words]
        _widen(reading, writing)
        self.theirs = (their_stdin, their_stdout, words)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in (*self.theirs[:2], *self._ours):
            os.close(descriptor)

    def take(self) -> tuple[tuple[int, int], int]:
        """Our ends of the pipes, and the file; the caller's to close from now on."""
        reading, writing, words = self._ours
        self._ours = []
        return (reading, writing), words


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("ssh-words")
    import tempfile  # costs as much as a command

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class _Process:
    """An `ssh` of our own, which is to be gone before us."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._code: int | None = None
        self._looking = threading.Lock()

    def exit_code(self, timeout_s: float) -> int | None:
        """Its exit code; None where it has none in time, or 255, which is how ssh says that it failed itself."""
        end_s = monotonic() + timeout_s
        while not self._has_ended() and monotonic() < end_s:
            sleep(_LOOK_S)
        return None if self._code in (None, 255) else self._code

    def end(self) -> None:
        if not self._has_ended():
            os.kill(self._number, signal.SIGTERM)
            self.exit_code(_END_S)

    def _has_ended(self) -> bool:
        with self._looking:
            if self._code is None:
                ended, status = os.waitpid(self._number, os.WNOHANG)
                if ended:
                    self._code = os.waitstatus_to_exitcode(status)
        return self._code is not None
