"""What a run wrote, kept on this machine: the last of each stream below `runs/<run_id>` of the state folder.

The folder is 0700, its files 0600. `<stream>.<begin>.log` has what is kept, and its name says at which byte of the
whole stream it begins. It is written while the run goes on, a few times a second at most, however much comes. One that
grows too long is replaced by one that begins later, whole before it has its name: of two the later one counts, so that
a writer may be killed at any moment. Nothing of this may stop a run.
"""

import contextlib
import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Self

from ledger.domain.errors import UsageFailure

STREAMS = ("stdout", "stderr")
WRITE_EVERY_S = 0.3
CLIENT = "client"
"""The file that the process which follows a run keeps locked: its death frees it."""
TRIES = 100
"""So often at most a reader looks again because the file that it found was replaced meanwhile."""
SLACK = 2
"""A file may grow to so many times what is kept before it is written anew."""
MAX_BYTES = 1 << 28
"""What is kept of a stream is held in memory while a run goes on."""


def require_bytes(text: str) -> None:
    """Refuses a setting `runs.log_bytes` that is no number of bytes."""
    if not (text.isascii() and text.isdecimal() and int(text) <= MAX_BYTES):
        raise UsageFailure(f"not a number of bytes: {text!r}", hint=f"write a number up to {MAX_BYTES}; 0 keeps none")


def kept_bytes(text: str, origin: str) -> int:
    """How much of each stream that setting keeps. Raises `UsageFailure` naming where it came from."""
    try:
        require_bytes(text)
    except UsageFailure as failure:
        raise UsageFailure(f"runs.log_bytes: {failure.message} (from {origin})", hint=failure.hint) from None
    return int(text)


class Tail:
    """The end of one stream, in memory and in its file. `keep_bytes` is how much of it is kept."""

    def __init__(self, folder: str, name: str, keep_bytes: int) -> None:
        self._folder, self._name = folder, name
        self._keep_bytes = keep_bytes
        self._chunks: deque[bytes] = deque()
        self._held = 0  # bytes in the chunks, which end where the stream does
        self._end = 0
        self._file_from: int | None = None
        self._file_end = 0

    def resume(self, begin: int, data: bytes) -> None:
        """Goes on behind what an earlier process has kept: `data`, which begins at a byte of the stream."""
        self._chunks, self._held = deque([data]), len(data)
        self._file_from, self._end = begin, begin + len(data)
        self._file_end = self._end

    def skip(self, count: int) -> None:
        """So many bytes of the stream are lost: what is kept begins anew behind them."""
        if count:
            self._chunks.clear()
            self._held, self._file_from = 0, None
            self._end += count

    @property
    def end(self) -> int:
        """Where the stream stands: how many bytes of it have come, or were lost."""
        return self._end

    def add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._held += len(chunk)
        self._end += len(chunk)
        while self._held - len(self._chunks[0]) >= self._keep_bytes:
            self._held -= len(self._chunks.popleft())

    def write(self, *, last: bool = False) -> None:
        """Brings the file up to now: what is new is put behind it, or it is written anew where it grows too long."""
        if self._file_end == self._end and not (last and self._is_long()):
            return
        if not self._held:
            return  # after a gap nothing has come yet: what is kept of before is better than nothing
        fresh = self._end - self._file_end
        begin, most = self._file_from, self._keep_bytes * (1 if last else SLACK)
        if begin is not None and fresh <= self._held and self._end - begin <= most:
            self._put(_path(self._folder, self._name, begin), os.O_APPEND, self._newest(fresh))
        else:
            self._replace(self._newest(min(self._held, self._keep_bytes)))
        self._file_end = self._end

    def _replace(self, kept: bytes) -> None:
        self._file_from = self._end - len(kept)
        fresh = f"{self._folder}/{self._name}.new"
        self._put(fresh, os.O_TRUNC, kept)
        os.replace(fresh, _path(self._folder, self._name, self._file_from))  # noqa: PTH105 - pathlib is not needed here
        for begin in _beginnings(self._folder, self._name):
            if begin != self._file_from:
                os.unlink(_path(self._folder, self._name, begin))  # noqa: PTH108

    def _is_long(self) -> bool:
        return self._file_from is not None and self._end - self._file_from > self._keep_bytes

    def _newest(self, count: int) -> bytes:
        data = b"".join(self._chunks)
        return data[len(data) - count :]

    @staticmethod
    def _put(path: str, how: int, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o600)
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)


class RunLog:
    """The logs of one run that this process follows, as a context manager; meanwhile others see that somebody does.

    `told` is given one sentence, once, where the logs cannot be written.
    """

    def __init__(self, folder: str, *, keep_bytes: int, told: Callable[[str], None]) -> None:
        self._folder, self._told = folder, told
        self._tails: dict[str, Tail] = {}
        self._keep_bytes = keep_bytes
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._writer: threading.Thread | None = None
        self._client: int | None = None
        self._written_at_s = 0.0

    def __enter__(self) -> Self:
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)  # noqa: PTH103
            self._client = os.open(f"{self._folder}/{CLIENT}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with contextlib.suppress(OSError):
                fcntl.flock(self._client, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as failure:
            self._fail(failure)
        return self

    def __exit__(self, *failure: object) -> None:
        self._ended.set()
        if self._writer is not None:
            self._writer.join()
        with self._lock:
            self._write(last=True)
        if self._client is not None:
            os.close(self._client)

    def resume(self) -> tuple[int, int]:
        """Goes on behind what an earlier process has kept; gives where each stream stands."""
        for name in STREAMS:
            try:
                self._tail(name).resume(*read_from(self._folder, name, 0))
            except OSError as failure:
                self._fail(failure)
        return self._tails["stdout"].end, self._tails["stderr"].end

    def skip(self, counts: tuple[int, int]) -> None:
        """So many bytes of each stream are lost."""
        with self._lock:
            for name, count in zip(STREAMS, counts, strict=True):
                self._tail(name).skip(count)

    def _tail(self, name: str) -> Tail:
        if name not in self._tails:
            self._tails[name] = Tail(self._folder, name, self._keep_bytes)
        return self._tails[name]

    def sink(self, name: str, then: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """A sink that keeps what passes, and passes it on."""
        if self._keep_bytes == 0:
            return then

        def take(chunk: bytes) -> None:
            then(chunk)
            with self._lock:
                self._tail(name).add(chunk)
                if time.monotonic() - self._written_at_s >= WRITE_EVERY_S:
                    self._write()
                elif self._writer is None:
                    self._writer = threading.Thread(target=self._go_on, daemon=True)
                    self._writer.start()

        return take

    def _go_on(self) -> None:
        """What came less than a moment after the last writing is in the file a moment later."""
        while not self._ended.wait(WRITE_EVERY_S):
            with self._lock:
                self._write()

    def _write(self, *, last: bool = False) -> None:
        if self._keep_bytes == 0:
            return
        try:
            for tail in self._tails.values():
                tail.write(last=last)
        except OSError as failure:
            self._fail(failure)
        self._written_at_s = time.monotonic()

    def _fail(self, failure: OSError) -> None:
        if self._keep_bytes:
            self._told(f"what the command writes is not kept in {self._folder}: {failure.strerror}")
        self._keep_bytes = 0


def is_followed(folder: str) -> bool:
    """Whether a process of this machine follows the run."""
    try:
        descriptor = os.open(f"{folder}/{CLIENT}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def read_from(folder: str, name: str, position: int) -> tuple[int, bytes]:
    """What is kept of a stream from a byte of it on: where that begins, which may be later, and the bytes."""
    for _ in range(TRIES):
        begin = max(_beginnings(folder, name), default=None)
        if begin is None:
            break
        with contextlib.suppress(FileNotFoundError), open(_path(folder, name, begin), "rb") as file:  # noqa: PTH123
            file.seek(max(0, position - begin))
            return max(position, begin), file.read()
    return position, b""  # nothing is kept, or it is replaced as fast as it is looked for


def _path(folder: str, name: str, begin: int) -> str:
    return f"{folder}/{name}.{begin}.log"


def _beginnings(folder: str, name: str) -> list[int]:
    """Where the kept files of a stream begin: one, or two while a new one takes an older one's place."""
    try:
        files = os.listdir(folder)  # noqa: PTH208
    except FileNotFoundError:
        return []
    middles = (
        file[len(name) + 1 : -len(".log")] for file in files if file.startswith(name + ".") and file.endswith(".log")
    )
    return [int(middle) for middle in middles if middle.isdecimal()]
