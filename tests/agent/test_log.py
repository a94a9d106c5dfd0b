"""The log of a run: bounded, exact, and on its way to a client while it grows."""

import os
from pathlib import Path

import pytest

from providers.agent import frames
from providers.agent.log import Log, dropped, find, stored

SMALL = {"keep_bytes": 40_000, "segment_bytes": 10_000, "passed_bytes": 5_000}
NOW = 1 << 60


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path)


def fill(log: Log, *sizes: int, needed: int = NOW) -> None:
    """Appends chunks to stdout and stderr in turn, each filled with its own number."""
    for number, size in enumerate(sizes):
        log.append(number % 2, memoryview(bytes([number % 251]) * size))
        log.trim(min(needed, log.end))


def content(folder: str) -> list[tuple[bytes, int, bytes]]:
    """Every frame that a replay would send: its kind, its offset, its bytes."""
    reader, got = frames.Reader(), []
    for segment in stored(folder):
        data = os.pread(segment.descriptor, segment.size, segment.place(segment.base))
        got += [(kind, *frames.output(payload)) for kind, payload in reader.feed(data)]
        os.close(segment.descriptor)
    assert reader.rest() == b""
    return got


def test_what_is_stored_is_the_frames_as_they_were_appended(folder: str) -> None:
    log = Log(folder, **SMALL)
    fill(log, 6_000, 5_000, 4_000, 3)
    log.close()
    assert content(folder) == [
        (frames.STDOUT, 0, bytes([0]) * 6_000),
        (frames.STDERR, 0, bytes([1]) * 5_000),
        (frames.STDOUT, 6_000, bytes([2]) * 4_000),
        (frames.STDERR, 5_000, bytes([3]) * 3),
    ]


def test_beyond_the_bound_the_oldest_goes_and_is_counted(folder: str) -> None:
    log = Log(folder, **SMALL)
    fill(log, *[1_000] * 200)
    missing = log.dropped([0, 0])
    assert log.dropped([100_000, 100_000]) == log.dropped([None, None]) == [0, 0]
    log.close()
    got = content(folder)
    assert missing == [got[0][1], got[1][1]]
    assert got[-1] == (frames.STDERR, 99_000, bytes([199]) * 1_000)
    assert [(kind, offset) for kind, offset, _ in got] == [
        (kind, offset) for offset in range(missing[0], 100_000, 1_000) for kind in (frames.STDOUT, frames.STDERR)
    ]
    sizes = [path.stat().st_size for path in Path(folder).iterdir()]
    assert 40_000 <= sum(sizes) < 60_000
    assert sum(sizes) == 16 * len(sizes) + (13 + 1_000) * len(got)  # nothing old after what was written over it


def test_what_an_attached_client_still_needs_stays_beyond_the_bound(folder: str) -> None:
    log = Log(folder, **SMALL)
    fill(log, *[1_000] * 200, needed=0)
    assert log.dropped([0, 0]) == [0, 0]
    assert log.segment_at(0) is not None
    fill(log, 1_000)
    assert log.dropped([0, 0]) != [0, 0]
    log.close()


@pytest.mark.parametrize("offsets", [(0, 0), (1_000, 0), (1_000, 1_000), (1_500, 1_000), (20_000, 19_000), (5, 3_000)])
def test_a_client_goes_on_at_the_last_frame_before_which_it_has_everything(
    folder: str, offsets: tuple[int, int]
) -> None:
    log = Log(folder, **SMALL)
    fill(log, *[1_000] * 40)
    position = log.find(offsets)
    log.close()
    segments = stored(folder)
    later = [(stream, after) for segment in segments for at, stream, after in segment.frames() if at >= position]
    earlier = [(stream, after) for segment in segments for at, stream, after in segment.frames() if at < position]
    assert find(segments, offsets) == position
    assert all(after <= offsets[stream] for stream, after in earlier)
    assert not later or later[0][1] > offsets[later[0][0]]
    assert len(later) + len(earlier) == 40
    for segment in segments:
        os.close(segment.descriptor)


def test_a_log_that_was_cut_in_a_frame_ends_with_the_frame_before(folder: str) -> None:
    log = Log(folder, **SMALL)
    fill(log, 3_000, 3_000, 3_000)
    log.close()
    [path] = Path(folder).iterdir()
    os.truncate(path, path.stat().st_size - 1)
    assert [(kind, offset) for kind, offset, _ in content(folder)] == [(frames.STDOUT, 0), (frames.STDERR, 0)]


def test_a_file_that_was_being_written_over_when_the_supervisor_died_gives_nothing_old(folder: str) -> None:
    log = Log(folder, **SMALL)
    fill(log, *[1_000] * 55)  # never closed: the last file still holds an old segment's end
    got = content(folder)
    assert len({(kind, offset) for kind, offset, _ in got}) == len(got)
    assert got[-1] == (frames.STDOUT, 27_000, bytes([54]) * 1_000)
    assert max(path.stat().st_size for path in Path(folder).iterdir()) > 10_000
    oldest = min(Path(folder).iterdir())
    oldest.rename(oldest.with_name("log.99999999"))  # renamed to be the next, and not begun
    assert content(folder)[-1] == got[-1]
    log.close()


def test_what_was_dropped_between_two_segments_is_counted_too(folder: str) -> None:
    log = Log(folder, **SMALL)
    fill(log, *[1_000] * 30)
    log.close()
    first, _, last = sorted(Path(folder).iterdir())[:3]
    sorted(Path(folder).iterdir())[1].unlink()
    segments = stored(folder)
    gap = [segments[1].start[stream] - segments[0].end[stream] for stream in (0, 1)]
    assert dropped(segments, [0, 0], [15_000, 15_000]) == gap
    assert min(gap) > 0
    assert first.exists()
    assert last.exists()
    for segment in segments:
        os.close(segment.descriptor)
