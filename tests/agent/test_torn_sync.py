"""A job that runs after a sync was torn: what it changes is told from what the sync has left."""

import os
from pathlib import Path
from typing import Any

from ledger.flows.sync import Wish, copy
from tests.agent.workspaces import FolderWorkspace, contents, entries, no_progress, whole
from tests.flows.clock import VirtualClock
from tests.flows.world import STARTED_AT


def torn(folder: Path) -> Path:
    """A folder here of which a sync has sent one file, when it was torn."""
    here = folder / "here"
    here.mkdir()
    for name in ("arrived", "half", "missing", "theirs"):
        (here / name).write_text(f"{name} as it is here")
    with FolderWorkspace(folder) as box:
        box.root.mkdir(parents=True)
        (box.root / "theirs").write_text("of an earlier job")
        box.begin(entries(here), [])
        box.put(os.fsencode(here), [entry for entry in entries(here) if entry.path == b"arrived"], no_progress)
        (box.root / "half").write_text("half")
    return here


def run(box: FolderWorkspace, line: str) -> int:
    """Runs a line on the box and gives its code."""
    job: dict[str, Any] = {
        "run_id": "r1",
        "argv": None,
        "shell": line,
        "script": None,
        "env": {},
        "tty": None,
        "stdin": False,
    }
    box.pipes.send({"op": "run"} | job)
    assert box.pipes.hear()["is"] == "started"
    code: int = box.pipes.hear()["exit_code"]
    return code


def test_what_a_job_changes_after_a_torn_sync_is_named_and_what_that_left_half_is_not(tmp_path: Path) -> None:
    here, told = torn(tmp_path), list[str]()
    with FolderWorkspace(tmp_path) as box:
        assert run(box, "echo changed > arrived; echo made > missing") == 0

    with FolderWorkspace(tmp_path) as box:
        wish = Wish(lease_id="rl_1", scan=lambda: whole(here), may_rsync=False, progress=no_progress)
        done = copy(VirtualClock(STARTED_AT), wish, box, told.append)

    assert done.overwritten == (b"arrived", b"missing", b"theirs")
    assert told == ["replacing 3 changed on the box by what is here: arrived, missing, theirs"]
    assert contents(box.root) == contents(here)


def test_what_a_job_makes_at_a_path_that_a_torn_sync_never_reached_is_its_own(tmp_path: Path) -> None:
    here = torn(tmp_path)
    with FolderWorkspace(tmp_path) as box:
        assert run(box, "echo made > missing") == 0
    for name in ("missing", "arrived"):
        (here / name).unlink()

    with FolderWorkspace(tmp_path) as box:
        wish = Wish(lease_id="rl_1", scan=lambda: whole(here), may_rsync=False, progress=no_progress)
        copy(VirtualClock(STARTED_AT), wish, box, lambda _words: None)

    assert contents(box.root) == {**contents(here), "missing": b"made\n"}


def test_a_disk_that_takes_no_word_of_a_torn_sync_keeps_no_job_from_its_start(tmp_path: Path) -> None:
    torn(tmp_path)
    with FolderWorkspace(tmp_path) as box:
        (box.state / "manifest.new").mkdir()  # written first, and cannot be
        assert run(box, "exit 3") == 3

    with FolderWorkspace(tmp_path) as box:
        assert box.survey().pending
