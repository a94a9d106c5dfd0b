"""A box whose disk is full: the job runs, the client sees everything, and the code is the job's."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.client import Place, place, until

SIZE = 4_194_304


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Place]:
    """A box whose disk has four megabytes."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder = tmp_path / "disk"
    folder.mkdir()
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={SIZE}".encode()):
        pytest.skip(f"no small disk can be mounted: {os.strerror(ctypes.get_errno())}")
    try:
        with place(folder) as box:
            yield box
    finally:
        libc.umount2(os.fsencode(folder), 2)


def fill(box: Place) -> None:
    """Takes all the room that is left."""
    with (box.folder / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_output_beyond_the_disks_room_goes_on_to_the_client_and_the_log_says_that_it_is_not_whole(small: Place) -> None:
    channel = small.channel()
    channel.run("sh", "-c", "head -c 30000000 /dev/zero; echo the end; exit 8")
    ended = channel.hear("ended")
    assert (ended["exit_code"], ended["stdout"], ended["log_complete"]) == (8, 30_000_008, False)
    assert bytes(channel.stdout) == bytes(30_000_000) + b"the end\n"
    told = channel.ask("runs", op="runs")["runs"]
    assert [(each["exit_code"], each["log_complete"]) for each in told] == [(8, False)]


def test_a_later_client_is_told_how_much_the_disk_did_not_take(small: Place) -> None:
    first = small.channel()
    first.run("sh", "-c", "head -c 30000000 /dev/zero; exit 8")
    first.hear("ended")
    first.over()
    second = small.channel()
    dropped = second.attach()["dropped"]["stdout"]
    assert second.end() == (8, None)
    got = sum(size for _, _, size in second.frames)
    assert (got + dropped, got > 0) == (30_000_000, True)


def test_a_job_on_a_disk_that_is_full_from_its_start_runs_and_its_code_is_told(small: Place) -> None:
    channel = small.channel()
    channel.lock()
    fill(small)
    channel.run("sh", "-c", "echo out; rm filler_of_nothing 2>/dev/null; exit 5")
    assert channel.end() == (5, None)
    assert bytes(channel.stdout) == b"out\n"


def test_a_trailer_that_no_disk_took_is_kept_until_somebody_has_come_or_there_is_room(small: Place) -> None:
    first = small.channel()
    first.lock()
    fill(small)
    first.run("sh", "-c", "cat; exit 5", stdin=True)
    first.say(op="detach")
    assert first.receive() is None
    second = small.channel()
    second.attach(gives=True)
    second.write(b"Z")
    assert second.end() == (5, None)
    first.process.wait(20)
    third = small.channel()
    third.attach()
    assert third.hear("ended", "lost") == {"is": "lost"}


def test_a_trailer_is_written_when_there_is_room_again(small: Place) -> None:
    first = small.channel()
    first.lock()
    fill(small)
    first.run("sh", "-c", "sleep 0.2; exit 5")
    first.tear()
    second = small.channel()
    second.lock()  # free once the job has ended, written or not
    (small.folder / "filler").unlink()
    assert first.process.wait(20) == 0
    until(lambda: second.ask("runs", op="runs")["runs"][0]["exit_code"] == 5)


def test_a_disk_that_fills_while_a_job_runs_does_not_cost_its_code(small: Place) -> None:
    first = small.channel()
    first.run("cat", stdin=True)
    fill(small)
    first.write(b"Z")
    first.tear()
    first.process.wait(20)
    second = small.channel()
    second.attach()
    assert second.end() == (0, None)
