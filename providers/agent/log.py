"""A job's output on the box: both streams as the very frames that clients are sent, in segments, the oldest dropped.

What is appended is written once; a client is sent it straight from the file (sendfile), so a following client costs
no memory, however far behind it is. A position counts all bytes of all frames ever appended. The file of a segment that
is dropped is written over for a new one, which costs half of what a new file does; but only far behind every client,
since pages of what was sent may still be on their way.

A segment that the disk has no room for is kept in memory for those who are attached; the log then has a gap.
"""

from __future__ import annotations

import os

from providers.agent.frames import HEADER_BYTES, OFFSET_BYTES, STDERR, STDOUT, header

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KEEP_BYTES = 64 * 1_048_576
"""How much of the log stays where nobody attached needs more."""
_SEGMENT_BYTES = 8 * 1_048_576
_MEMORY_BYTES = 4 * 1_048_576
_MEMORY_SEGMENT_BYTES = 1_048_576
_PASSED_BYTES = 16 * 1_048_576
_NAME = "log."
_START_BYTES = 2 * OFFSET_BYTES  # a segment begins with where in stdout and in stderr it starts
_FRAME_BYTES = HEADER_BYTES + OFFSET_BYTES
STREAMS = STDOUT + STDERR


class Segment:
    """One file of the log. `start` and `end` are the offsets in stdout and stderr; `base` its first byte's position."""

    def __init__(self, descriptor: int, base: int, start: Sequence[int], path: str | None) -> None:
        self.descriptor = descriptor
        self.path = path
        self.base = base
        self.size = 0
        self.start = list(start)
        self.end = list(start)

    @property
    def last(self) -> int:
        """The position after its last byte."""
        return self.base + self.size

    def place(self, position: int) -> int:
        """Where in the file a position is."""
        return position - self.base + _START_BYTES

    def frames(self) -> Iterator[tuple[int, int, int]]:
        """For each frame its position, its stream (0 stdout, 1 stderr) and the offset in that stream after it.

        They end where no whole frame goes on from the one before.
        """
        at, whole, ends = _START_BYTES, self.size + _START_BYTES, list(self.start)
        while at + _FRAME_BYTES <= whole:
            head = os.pread(self.descriptor, _FRAME_BYTES, at)
            size = int.from_bytes(head[1:HEADER_BYTES], "big") - OFFSET_BYTES
            stream = STREAMS.find(head[:1])
            if stream < 0 or int.from_bytes(head[HEADER_BYTES:], "big") != ends[stream]:
                return
            if size <= 0 or at + _FRAME_BYTES + size > whole:
                return
            ends[stream] += size
            yield at - _START_BYTES + self.base, stream, ends[stream]
            at += _FRAME_BYTES + size

    def remove(self) -> None:
        """Closes it and takes its file away, if nobody else has."""
        os.close(self.descriptor)
        try:
            if self.path is not None:
                os.unlink(self.path)
        except OSError:
            pass


class Log:
    """The log of one run, written by its supervisor in `folder`."""

    def __init__(
        self,
        folder: str,
        *,
        keep_bytes: int = KEEP_BYTES,
        segment_bytes: int = _SEGMENT_BYTES,
        passed_bytes: int = _PASSED_BYTES,
    ) -> None:
        self.offsets = [0, 0]
        self.complete = True
        self._folder = folder
        self._keep_bytes = keep_bytes
        self._segment_bytes = segment_bytes
        self._passed_bytes = passed_bytes
        self._segments: list[Segment] = []
        self._spare: Segment | None = None
        self._count = 0

    @property
    def end(self) -> int:
        """The position after the newest byte."""
        return self._segments[-1].last if self._segments else 0

    def append(self, stream: int, chunk: memoryview) -> None:
        """Adds what came from a stream (0 stdout, 1 stderr), at most 1 MiB of it."""
        head = header(STREAMS[stream : stream + 1], OFFSET_BYTES + len(chunk)) + self.offsets[stream].to_bytes(8, "big")
        segment = self._segments[-1] if self._segments else None
        if segment is None or segment.size >= (self._segment_bytes if segment.path else _MEMORY_SEGMENT_BYTES):
            segment = self._open()
        if not _added(segment, head, chunk):
            self.complete = False
            segment = self._in_memory()
            if not _added(segment, head, chunk):
                raise MemoryError
        segment.size += len(head) + len(chunk)
        self.offsets[stream] += len(chunk)
        segment.end[stream] = self.offsets[stream]

    def segment_at(self, position: int) -> Segment | None:
        """The segment that holds a position; None at the log's end."""
        for segment in reversed(self._segments):
            if segment.base <= position:
                return segment if position < segment.last else None
        return None

    def trim(self, needed: int) -> None:
        """Drops the oldest beyond the bound, but nothing from the position `needed` on."""
        self._drop(self._segments[:-1], self._keep_bytes, needed)
        self._drop([each for each in self._segments[:-1] if each.path is None], _MEMORY_BYTES, needed)

    def find(self, offsets: Sequence[int | None]) -> int:
        """The position from which a client goes on that has so much of stdout and stderr; None: all there is."""
        return find(self._segments, [mine if given is None else given for given, mine in zip(offsets, self.offsets)])

    def dropped(self, offsets: Sequence[int | None]) -> list[int]:
        """How many bytes from these offsets on are no longer there."""
        return dropped(self._segments, offsets, self.offsets)

    def close(self) -> None:
        """Closes the files and leaves them."""
        if self._spare is not None:
            self._spare.remove()
        for segment in self._segments:
            os.ftruncate(segment.descriptor, segment.place(segment.last))
            os.close(segment.descriptor)
        self._segments, self._spare = [], None

    def _drop(self, segments: list[Segment], keep_bytes: int, needed: int) -> None:
        held = sum(segment.size for segment in segments)
        for segment in segments:
            if held <= keep_bytes or segment.last > needed:
                return
            held -= segment.size
            self._segments.remove(segment)
            if self._spare is None and segment.path is not None and segment.last + self._passed_bytes <= needed:
                self._spare = segment
            else:
                segment.remove()

    def _open(self) -> Segment:
        self._count += 1
        path = os.path.join(self._folder, f"{_NAME}{self._count:08d}")
        spare, self._spare = self._spare, None
        try:
            if spare is not None and spare.path is not None:
                os.rename(spare.path, path)
                descriptor = spare.descriptor
            else:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            self.complete = False
            return self._in_memory()
        return self._begin(Segment(descriptor, self.end, self.offsets, path))

    def _in_memory(self) -> Segment:
        return self._begin(Segment(_memory_file(), self.end, self.offsets, None))

    def _begin(self, segment: Segment) -> Segment:
        if self._segments and not self._segments[-1].size:
            self._segments.pop().remove()
        self._segments.append(segment)
        return segment


def find(segments: Sequence[Segment], offsets: Sequence[int]) -> int:
    """The position after the last frame before which a client with these offsets has everything."""
    for segment in segments:
        if segment.end[0] > offsets[0] or segment.end[1] > offsets[1]:
            for position, stream, after in segment.frames():
                if after > offsets[stream]:
                    return position
    return segments[-1].last if segments else 0


def dropped(segments: Sequence[Segment], offsets: Sequence[int | None], totals: Sequence[int]) -> list[int]:
    """How many bytes of each stream, from these offsets on, no segment holds."""
    missing = []
    for stream, total in enumerate(totals):
        start = offsets[stream]
        wanted = 0 if start is None else max(0, total - start)
        held = sum(max(0, each.end[stream] - max(each.start[stream], start or 0)) for each in segments)
        missing.append(max(0, wanted - held) if wanted else 0)
    return missing


def stored(folder: str) -> list[Segment]:
    """The segments that a supervisor which is gone has left in `folder`, up to the last whole frame."""
    segments: list[Segment] = []
    for name in sorted(name for name in os.listdir(folder) if name.startswith(_NAME)):
        path = os.path.join(folder, name)
        descriptor = os.open(path, os.O_RDONLY)
        head = os.pread(descriptor, _START_BYTES, 0)
        start = [int.from_bytes(head[:OFFSET_BYTES], "big"), int.from_bytes(head[OFFSET_BYTES:], "big")]
        segment = Segment(descriptor, segments[-1].last if segments else 0, start, path)
        if segments and (start[0] < segments[-1].end[0] or start[1] < segments[-1].end[1]):
            os.close(descriptor)  # a file whose writing over had not begun
            continue
        whole, segment.size = 0, max(0, os.fstat(descriptor).st_size - _START_BYTES)
        for position, stream, after in segment.frames():
            whole = position - segment.base + _FRAME_BYTES + after - segment.end[stream]
            segment.end[stream] = after
        segment.size = whole
        segments.append(segment)
    return segments


def _added(segment: Segment, head: bytes, chunk: memoryview) -> bool:
    """Writes a frame at the segment's end, or nothing where it does not fit."""
    descriptor, at = segment.descriptor, segment.place(segment.last)
    try:
        if not segment.size:
            os.pwrite(descriptor, segment.start[0].to_bytes(8, "big") + segment.start[1].to_bytes(8, "big"), 0)
        written = os.pwritev(descriptor, [head, chunk], at)
        while written < len(head) + len(chunk):
            written += os.pwrite(descriptor, (head + bytes(chunk))[written:], at + written)
    except OSError:
        os.ftruncate(descriptor, at if segment.size else 0)
        return False
    return True


def _memory_file() -> int:
    try:
        return os.memfd_create("log")
    except AttributeError:  # a C library without it
        return os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR, 0o600)  # noqa: S108 - no name, so nobody's to guess
