"""The logs of runs on this machine: bounded, written while the run goes on, read while they are replaced."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cli.run_logs import RunLog, is_followed, read_from
from tests.cli.running import until

ROOT = Path(__file__).parents[2]


def ignore(_chunk: bytes) -> None:
    """Whoever else wants it."""


def refuse(sentence: str) -> None:
    raise AssertionError(sentence)


def log(folder: Path, keep_bytes: int = 100) -> RunLog:
    return RunLog(str(folder / "run"), keep_bytes=keep_bytes, told=refuse)


def kept(folder: Path, name: str = "stdout", position: int = 0) -> tuple[int, bytes]:
    return read_from(str(folder / "run"), name, position)


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / "run").iterdir()}


@pytest.mark.parametrize("size", [1, 7, 99, 100, 101, 250, 1_000])
@pytest.mark.parametrize("chunk", [1, 10, 64, 300])
def test_the_last_bytes_are_kept_whatever_the_pieces(tmp_path: Path, size: int, chunk: int) -> None:
    data = bytes(i % 251 for i in range(size))
    with log(tmp_path) as one:
        sink = one.sink("stdout", ignore)
        for at in range(0, size, chunk):
            sink(data[at : at + chunk])
    assert kept(tmp_path) == (max(0, size - 100), data[-100:])
    assert files(tmp_path) == {"client": b"", f"stdout.{max(0, size - 100)}.log": data[-100:]}


def test_what_is_passed_on_is_whole_and_comes_first(tmp_path: Path) -> None:
    heard: list[bytes] = []
    with log(tmp_path, 1) as one:
        sink = one.sink("stdout", heard.append)
        sink(b"one")
        sink(b"two")
    assert heard == [b"one", b"two"]


def test_the_file_has_what_came_a_moment_ago_while_the_run_goes_on(tmp_path: Path) -> None:
    with log(tmp_path) as one:
        sink = one.sink("stderr", ignore)
        sink(b"first ")
        sink(b"second")
        until(lambda: kept(tmp_path, "stderr") == (0, b"first second"))


def test_a_reader_goes_on_behind_what_it_has_seen_and_learns_what_it_missed(tmp_path: Path) -> None:
    with log(tmp_path) as one:
        one.sink("stdout", ignore)(b"x" * 60)
        assert kept(tmp_path, position=50) == (50, b"x" * 10)
        one.sink("stdout", ignore)(b"y" * 300)
    assert kept(tmp_path, position=60) == (260, b"y" * 100)
    assert kept(tmp_path, position=350) == (350, b"y" * 10)


def test_a_reader_beside_the_writer_never_sees_a_byte_at_another_place(tmp_path: Path) -> None:
    """Each byte says where it stands: the stream repeats the residues of its offsets."""
    stop = threading.Event()
    wrong: list[tuple[int, bytes]] = []

    def read() -> None:
        while not stop.is_set():
            begin, data = kept(tmp_path)
            if data != bytes((begin + i) % 251 for i in range(len(data))):
                wrong.append((begin, data[:20]))

    with log(tmp_path) as one, pytest.MonkeyPatch.context() as patch:
        patch.setattr("cli.run_logs.WRITE_EVERY_S", 0.0)
        reader = threading.Thread(target=read)
        reader.start()
        sink = one.sink("stdout", ignore)
        for at in range(0, 30_000, 30):
            sink(bytes((at + i) % 251 for i in range(30)))
        stop.set()
        reader.join()
    assert wrong == []


def test_another_process_goes_on_where_the_first_one_stopped_and_past_what_was_lost(tmp_path: Path) -> None:
    with log(tmp_path) as first:
        first.sink("stdout", ignore)(b"a" * 150)
    with log(tmp_path) as second:
        assert second.resume() == (150, 0)
        second.sink("stdout", ignore)(b"b" * 10)
    assert kept(tmp_path) == (60, b"a" * 90 + b"b" * 10)
    with log(tmp_path) as third:
        third.resume()
        third.skip((40, 0))
        third.sink("stdout", ignore)(b"c" * 5)
    assert kept(tmp_path) == (200, b"c" * 5)


WRITER = """
import os, signal, sys
import cli.run_logs
cli.run_logs.WRITE_EVERY_S = 0.0
folder, left = sys.argv[1], int(sys.argv[2])
def audit(event, _arguments):
    global left
    if event in ("open", "os.rename", "os.remove", "os.listdir"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
with cli.run_logs.RunLog(folder, keep_bytes=100, told=print) as log:
    sink = log.sink("stdout", lambda chunk: None)
    sys.addaudithook(audit)
    for piece in sys.argv[3:]:
        sink(piece.encode())
"""
"""Writes pieces, and dies before so many calls of the system."""


def test_a_writer_that_is_killed_at_any_call_leaves_a_log_that_is_read_and_gone_on_with(tmp_path: Path) -> None:
    pieces = [letter * 70 for letter in "ABCDEF"]
    whole = "".join(pieces).encode()
    ends: list[int] = []
    while ends[-1:] != [0]:
        folder = tmp_path / str(len(ends))
        command = [sys.executable, "-P", "-c", WRITER, str(folder / "run"), str(len(ends) + 1), *pieces]
        ends.append(subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, check=False).returncode)
        begin, data = kept(folder)
        assert data == whole[begin : begin + len(data)]
        with log(folder) as second:
            stands, _ = second.resume()
            assert stands == begin + len(data)
            second.sink("stdout", ignore)(whole[stands:] + b"end")
        written = {name: data for name, data in files(folder).items() if name.endswith(".log")}
        assert written == {"stdout.323.log": (whole + b"end")[-100:]}
    assert (set(ends[:-1]), len(ends) > 12) == ({-signal.SIGKILL}, True)


def test_whether_somebody_follows_a_run_is_seen_by_its_lock(tmp_path: Path) -> None:
    folder = str(tmp_path / "run")
    before = is_followed(folder)
    with log(tmp_path):
        during = is_followed(folder)
    assert (before, during, is_followed(folder)) == (False, True, False)


def test_logs_that_cannot_be_written_are_told_once_and_stop_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "file").touch()
    heard: list[bytes] = []
    with RunLog(str(tmp_path / "file" / "run"), keep_bytes=10, told=told.append) as one:
        sink = one.sink("stdout", heard.append)
        for _ in range(3):
            sink(b"x")
    assert (heard, told) == (
        [b"x"] * 3,
        [f"what the command writes is not kept in {tmp_path}/file/run: {os.strerror(20)}"],
    )


def test_a_gigabyte_is_kept_in_the_memory_of_its_end(tmp_path: Path) -> None:
    """Counted by what is held, and by how often the file is written."""
    with log(tmp_path, 1 << 20) as one:
        sink = one.sink("stdout", ignore)
        chunk = bytes(1 << 20)
        for _ in range(200):
            sink(chunk)
        held = sum(map(len, one._tails["stdout"]._chunks))
    assert held <= 2 << 20
    assert files(tmp_path) == {"client": b"", f"stdout.{199 << 20}.log": chunk}
