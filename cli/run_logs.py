"""What a run wrote, kept on this machine: the last of each stream below `runs/<run_id>` of the state folder.

The folder is 0700, its files 0600. A file is written while the run goes on, a few times a second at most, however
much comes; `<stream>.at` says at which byte of the whole stream it begins. Nothing of this may stop a run.
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
MOVING = b"moving\n"
"""Stands in `<stream>.at` while the file is replaced."""
TRIES = 100
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
        self._path, self._at_path = f"{folder}/{name}.log", f"{folder}/{name}.at"
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
        fresh = self._end - self._file_end
        is_small = self._file_from is not None and self._end - self._file_from <= SLACK * self._keep_bytes
        if fresh <= self._held and is_small and not (last and self._is_long()):
            self._put(self._path, os.O_APPEND, self._newest(fresh))
        else:
            kept = self._newest(min(self._held, self._keep_bytes))
            self._file_from = self._end - len(kept)
            self._put(f"{self._path}.new", os.O_TRUNC, kept)
            self._put(self._at_path, os.O_TRUNC, MOVING)
            os.replace(f"{self._path}.new", self._path)  # noqa: PTH105 - pathlib is not needed here
            self._put(self._at_path, os.O_TRUNC, b"%d\n" % self._file_from)
        self._file_end = self._end

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
            begin, data = read_from(self._folder, name, 0)
            self._tail(name).resume(begin, data)
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
        before = _beginning(f"{folder}/{name}.at")
        try:
            with open(f"{folder}/{name}.log", "rb") as file:  # noqa: PTH123
                file.seek(max(0, position - (before or 0)))
                data = file.read()
        except FileNotFoundError:
            return position, b""
        if before is not None and _beginning(f"{folder}/{name}.at") == before:
            return max(position, before), data
    return position, b""  # its writer died between the two files, or replaces them as fast as they are read


def _beginning(path: str) -> int | None:
    """The byte of the stream at which its file begins; None while that moves."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            text = file.read().strip()
    except FileNotFoundError:
        return None
    return int(text) if text.isdigit() else None
