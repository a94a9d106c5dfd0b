"""`cp`: files and folders to a box and from it, through the emulator's SSH server."""

import os
import shutil
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from providers.emulator.serve import Emulator
from tests.cli.running import Number, Rentroll, finish, run_process, spawn, until
from tests.cli.test_terminal import on_a_terminal

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh on this machine")
pytestmark = needs_ssh
BIG = os.urandom(2_000_000)


def copied(lease: Any, direction: str, **counts: int) -> dict[str, Any]:
    """The object of a copy."""
    zero = dict.fromkeys(("files", "folders", "links", "bytes", "kept_bytes"), 0)
    lease_fields = {"lease_id": lease["lease_id"], "slug": "box", "direction": direction}
    return {"schema": "rentroll.cp/1", **lease_fields, **zero, **counts, "duration_seconds": Number()}


def test_a_folder_goes_there_and_comes_back_as_it_was(rentroll: Rentroll, box: Any) -> None:
    source = Path("a folder")
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "two\nlines").write_bytes(BIG)
    (source / "run").write_text("#!/bin/sh\n")
    (source / "run").chmod(0o750)
    (source / "link").symlink_to("nowhere")
    os.utime(source / "run", ns=(0, 1_600_000_000_123_456_789))
    size = len(BIG) + len("#!/bin/sh\n")
    there = rentroll("cp", "a folder", "box:", "--json").json
    assert there == copied(box, "to-box", files=2, folders=2, links=1, bytes=size)
    back = rentroll("cp", "box:a folder", "back", "--json").json
    assert back == copied(box, "from-box", files=2, folders=2, links=1, bytes=size)
    assert (Path("back/sub/two\nlines").read_bytes(), Path("back/link").readlink()) == (BIG, Path("nowhere"))
    status = Path("back/run").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o750, 1_600_000_000_123_456_789)


def test_the_workspace_is_where_commands_run_and_a_tilde_is_the_home(rentroll: Rentroll, box: Any) -> None:
    Path("f").write_text("here\n")
    assert rentroll("cp", "f", "box:sub.txt").code == 0
    assert rentroll("run", "--id", "box", "--no-sync", "--", "cat", "sub.txt").out == "here\n"
    assert rentroll("cp", "f", "box:~/at-home").code == 0
    assert rentroll("ssh", "box", "--", "cat", "at-home").out == "here\n"


def test_a_person_is_told_in_one_line_and_nothing_is_sent_twice(rentroll: Rentroll, box: Any) -> None:
    Path("f").write_bytes(BIG)
    assert rentroll("cp", "f", "box:f") == (0, "", "rentroll: 1 file to box, 2.0 MB sent\n")
    assert rentroll("cp", "f", "box:f") == (0, "", "rentroll: 1 file to box, 0 B sent; 2.0 MB were there already\n")


def test_without_a_name_it_is_the_repositorys_only_open_lease(rentroll: Rentroll, repository: Path, box: Any) -> None:
    Path("f").write_text("x")
    assert rentroll("cp", "f", ":f").code == 0
    assert rentroll("cp", ":f", "back").code == 0
    assert Path("back").read_text() == "x"


@pytest.mark.parametrize(
    "words",
    [
        ("a", "b"),
        ("box:a", "box:b"),
        ("a", "box:b", "box:c"),
        ("box:a", "other:b", "c"),
        ("box:a", ""),
        ("", "box:a"),
        ("a/x", "b/x", "box:c"),
    ],
)
def test_one_side_is_the_box_and_the_other_is_here_and_no_source_hides_another(
    rentroll: Rentroll, words: tuple[str, ...]
) -> None:
    assert rentroll("cp", *words, "--json").error["code"] == "usage"


def test_a_name_here_that_has_a_colon_is_written_with_a_slash(rentroll: Rentroll, box: Any) -> None:
    Path("a:b").write_text("x")
    assert rentroll("cp", "./a:b", "box:there").code == 0
    assert rentroll("cp", "box:there", f"{Path.cwd()}/c:d").code == 0
    assert Path("c:d").read_text() == "x"


def test_what_is_missing_on_the_box_is_6_and_named(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll("cp", "box:none", ".", "--json")
    assert (ran.code, ran.error["code"]) == (6, "sync")
    assert ran.error["message"].endswith(f"/{box['lease_id']}/none on the box: no such file or directory")


def test_what_is_missing_here_is_6_and_the_rest_is_copied(rentroll: Rentroll, box: Any) -> None:
    Path("f").write_text("x")
    ran = rentroll("cp", "none", "f", "box:new")
    assert (ran.code, ran.err.splitlines()[-2]) == (
        6,
        f"rentroll: sync: not copied: {Path.cwd()}/none: no such file or directory",
    )
    assert rentroll("cp", "box:new/f", "back").code == 0


def test_a_box_that_cannot_be_reached_is_7(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    Path("f").write_text("x")
    emulator.rekey(box["instance_id"])
    assert rentroll("cp", "f", "box:f").code == 7


@pytest.mark.holds("PEER-27")
def test_a_copy_is_a_sign_of_life_before_the_box_is_touched(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    emulator.rekey(box["instance_id"])
    rentroll("cp", "box:f", ".")
    assert rentroll("status", "box", "--json").json["last_touched_at"] > box["last_touched_at"]


def test_a_released_lease_is_copied_neither_to_nor_from(rentroll: Rentroll, box: Any) -> None:
    Path("f").write_text("x")
    rentroll("stop", "box")
    assert rentroll("cp", "f", f"{box['lease_id']}:f").code == 4
    assert rentroll("cp", f"{box['lease_id']}:f", "f").code == 4


def test_a_terminal_sees_a_bar_and_then_one_line(box: Any) -> None:
    Path("f").write_bytes(BIG)
    code, seen = on_a_terminal("--no-color", "cp", "f", "box:f")
    assert (code, "1 file" in seen, seen.endswith("rentroll: 1 file to box, 2.0 MB sent\r\n")) == (0, True, True)


def test_an_interrupt_leaves_what_was_copied_for_the_next_time(rentroll: Rentroll, box: Any) -> None:
    rentroll("run", "--id", "box", "--no-sync", "--", "truncate", "-s", "500M", "huge")
    with spawn(["cp", "box:huge", "."]) as process:
        until(lambda: any(path.stat().st_size for path in Path().glob(".rentroll-*.part")))
        process.send_signal(signal.SIGINT)
        ran = finish(process)
    (partial,) = Path().glob(".rentroll-*.part")
    assert (ran.code, "the same command goes on from there" in ran.err, Path("huge").exists()) == (130, True, False)
    there = partial.stat().st_size
    rest = rentroll("cp", "box:huge", ".", "--json").json
    assert (rest["bytes"], rest["kept_bytes"]) == (500 * 1024 * 1024 - there, there)


def test_it_loads_nothing_that_is_slow_to_import(box: Any) -> None:
    Path("f").write_text("x")
    slow = ("paramiko", "cryptography", "httpx", "asyncio", "asyncssh", "rich", "sqlalchemy", "structlog")
    told = f"import sys; from cli.main import main; main(); print(*(n for n in {slow} if n in sys.modules))"
    assert run_process("cp", "f", "box:f", program=(sys.executable, "-P", "-c", told)).out == "\n"


def test_whole_processes_copy_and_leave_nothing_that_holds_their_output(box: Any) -> None:
    Path("f").write_bytes(BIG)
    there = run_process("cp", "f", "box:f")
    back = run_process("cp", "box:f", "back")
    assert (there.code, back.code, Path("back").read_bytes() == BIG) == (0, 0, True)
