"""Copying a tree to a box, end to end, with the agent as it runs there: what is sent, deleted, named, refused."""

import os
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ledger.domain.errors import SyncFailure
from ledger.domain.ports import Committed, Entry, PlaceFailure, Progress, Survey
from ledger.domain.syncing import DELTA_FROM_BYTES, LocalTree, SyncDone
from ledger.flows.sync import Meanwhile, Wish, copy, sync
from providers.agent.manifest import digest
from providers.worktree.tree import Tree
from tests.agent.workspaces import Cut, FolderWorkspace, contents, listing, no_progress, whole
from tests.flows.clock import VirtualClock
from tests.flows.world import ACQUIRED, LEASE, STARTED_AT, Program, World

CLOCK = VirtualClock(STARTED_AT)
needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")


class Box(FolderWorkspace):
    """A workspace that remembers what it was asked, and lets a test do something before one of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: list[str] = []
        self.put_paths: list[list[bytes]] = []
        self.before: dict[str, Callable[[], None]] = {}

    def next_token(self) -> None:
        (self.state / "token").write_text(f"{self.token + 1:020}\n")

    def survey(self) -> Survey:
        self._ask("survey")
        return super().survey()

    def begin(self, entries: Sequence[Entry], deletes: Sequence[bytes]) -> Any:
        self._ask("begin")
        return super().begin(entries, deletes)

    def put(self, root: bytes, entries: Sequence[Entry], progress: Progress) -> None:
        self._ask("put")
        self.put_paths.append([entry.path for entry in entries])
        super().put(root, entries, progress)

    def rsync(self, root: bytes, paths: Sequence[bytes], progress: Progress) -> None:
        self._ask("rsync")
        super().rsync(root, paths, progress)

    def commit(self, encoded: bytes) -> Committed:
        self._ask("commit")
        return super().commit(encoded)

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        self.before.get(what, lambda: None)()


class Here:
    """A local folder, and syncs of it; each is a connection of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "here"
        self.root.mkdir()
        self.box_root = folder / "work" / "rl_1"
        self.told: list[str] = []
        self.omitted: frozenset[bytes] = frozenset()
        self._folder = folder

    def write(self, **files: str) -> None:
        for name, content in files.items():
            path = self.root / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def scan(self) -> Tree:
        return replace(whole(self.root), omitted=self.omitted)

    def box(self) -> Box:
        return Box(self._folder)

    def sync(self, box: Box, *, may_rsync: bool = False, scan: Callable[[], LocalTree] | None = None) -> SyncDone:
        wish = Wish(lease_id="rl_1", scan=scan or self.scan, may_rsync=may_rsync, progress=no_progress)
        return copy(CLOCK, wish, box, self.told.append)

    def sync_once(self, *, may_rsync: bool = False) -> SyncDone:
        with self.box() as box:
            return self.sync(box, may_rsync=may_rsync)


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def counts(done: SyncDone) -> tuple[int, int, int, int]:
    return done.files, done.sent_files, done.sent_bytes, done.deleted_files


def test_the_first_sync_sends_everything_and_the_second_asks_one_question(here: Here) -> None:
    here.write(a="1", b__c="22", b__d="")
    (here.root / "link").symlink_to("a")

    with here.box() as box:
        first = here.sync(box)
        assert box.asked == ["survey", "begin", "put", "commit"]
        second = here.sync(box)
        assert box.asked[4:] == ["survey"]

    assert first == SyncDone(
        files=4,
        sent_files=4,
        sent_bytes=3,
        deleted_files=0,
        overwritten=(),
        duration_ms=0,
        manifest_digest=digest(listing(here.root)),
    )
    assert second == replace(first, sent_files=0, sent_bytes=0)
    assert second.changed_nothing
    assert listing(here.box_root) == listing(here.root)


def test_only_what_differs_travels_and_only_what_we_put_is_deleted(here: Here) -> None:
    here.write(same="1", changed="1", gone="1", old__gone="1")
    here.sync_once()
    (here.box_root / "output").write_text("a job's")
    (here.box_root / "old" / "result").write_text("a job's")
    here.write(changed="22", new="333")
    (here.root / "gone").unlink()
    shutil.rmtree(here.root / "old")

    with here.box() as box:
        done = here.sync(box)

    assert counts(done) == (3, 2, 5, 2)
    assert box.put_paths == [[b"changed", b"new"]]
    assert contents(here.box_root) == {
        "changed": b"22",
        "new": b"333",
        "old/result": b"a job's",
        "output": b"a job's",
        "same": b"1",
    }


def test_a_change_on_the_box_is_noticed_replaced_and_named(here: Here) -> None:
    here.write(a="mine", b="mine", c="mine")
    here.sync_once()
    (here.box_root / "a").write_text("theirs, longer")
    (here.box_root / "b").unlink()
    (here.box_root / "new").write_text("theirs")
    here.write(new="mine")

    done = here.sync_once()

    assert (done.overwritten, done.sent_files) == ((b"a", b"new"), 3)
    assert here.told == ["replacing 2 changed on the box by what is here: a, new"]
    assert contents(here.box_root) == contents(here.root)


def test_permissions_alone_are_set_and_nothing_is_sent(here: Here) -> None:
    here.write(a="1")
    here.sync_once()
    (here.root / "a").chmod(0o700)

    done = here.sync_once()

    assert counts(done) == (1, 0, 0, 0)
    assert listing(here.box_root) == listing(here.root)
    assert done.manifest_digest == digest(listing(here.root))


def test_what_a_sparse_checkout_leaves_out_stays_and_can_be_deleted_later(here: Here) -> None:
    here.write(kept="1", out__a="1", out__b="1")
    here.sync_once()
    shutil.rmtree(here.root / "out")
    here.omitted = frozenset({b"out/a", b"out/b"})

    sparse = here.sync_once()
    again = here.sync_once()

    assert (sparse.deleted_files, sorted(contents(here.box_root))) == (0, ["kept", "out/a", "out/b"])
    assert again.changed_nothing
    here.omitted = frozenset()
    assert here.sync_once().deleted_files == 2
    assert sorted(contents(here.box_root)) == ["kept"]


@pytest.mark.parametrize("may_rsync", [False, pytest.param(True, marks=needs_rsync)])
def test_files_folders_and_links_take_each_others_places(here: Here, may_rsync: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr("ledger.flows.sync.is_for_rsync", lambda entry, older: True)
    kinds: dict[str, Callable[[Path], object]] = {
        "f": lambda path: path.write_text("x"),
        "d": lambda path: (path / "in").mkdir(parents=True),
        "l": lambda path: path.symlink_to("elsewhere"),
    }
    pairs = [(before, after) for before in kinds for after in kinds]
    for before, after in pairs:
        kinds[before](here.root / f"{before}{after}")
    here.sync_once(may_rsync=may_rsync)
    shutil.rmtree(here.root)
    here.root.mkdir()
    for before, after in pairs:
        kinds[after](here.root / f"{before}{after}")

    here.sync_once(may_rsync=may_rsync)

    assert listing(here.box_root) == listing(here.root)
    assert here.told == []


def test_a_folder_of_a_job_in_the_place_of_a_file_is_refused_by_name(here: Here) -> None:
    here.write(a="1", z="1")
    (here.box_root / "a").mkdir(parents=True)
    (here.box_root / "a" / "result").write_text("precious")

    with pytest.raises(SyncFailure, match=r"^a is a file here and on the box a folder") as refused:
        here.sync_once()

    assert refused.value.exit_code == 6
    assert contents(here.box_root) == {"a/result": b"precious"}
    (here.box_root / "a" / "result").rename(here.box_root / "result")
    assert here.sync_once().sent_files == 2


def test_a_link_of_a_job_in_the_place_of_a_folder_is_replaced_and_nothing_behind_it_touched(
    here: Here, tmp_path: Path
) -> None:
    here.write(data__a="mine", data__b="mine")
    here.sync_once()
    shutil.move(here.box_root / "data", tmp_path / "elsewhere")
    (here.box_root / "data").symlink_to(tmp_path / "elsewhere")
    (here.root / "data" / "b").unlink()

    done = here.sync_once()

    assert (done.overwritten, done.sent_files, done.deleted_files) == ((b"data",), 1, 1)
    assert sorted(contents(tmp_path / "elsewhere")) == ["a", "b"]
    assert contents(here.box_root) == {"data/a": b"mine"}


@pytest.mark.parametrize("may_rsync", [False, pytest.param(True, marks=needs_rsync)])
@pytest.mark.parametrize("cut_after", [1, 400_000, 1_200_000, 2_900_000])
def test_after_a_cut_the_next_sync_goes_on_and_sends_nothing_twice(here: Here, cut_after: int, may_rsync: bool) -> None:
    """And names nothing as a job's that we have begun ourselves."""
    for number in range(30):
        here.write(**{f"f{number:02}": "x" * 100_000})
    with here.box() as box:
        box.before["put"] = lambda: setattr(box.pipes, "cut_after_bytes", cut_after)
        with pytest.raises(Cut):
            here.sync(box)
    arrived = len(contents(here.box_root))

    with here.box() as box:
        done = here.sync(box, may_rsync=may_rsync)

    assert arrived == max(0, (cut_after - 4_000) // 100_000)
    assert counts(done) == (30, 30 - arrived, (30 - arrived) * 100_000, 0)
    assert done.overwritten == ()
    assert listing(here.box_root) == listing(here.root)


def test_what_a_torn_sync_has_put_is_ours_and_deleted_when_it_is_gone_here(here: Here) -> None:
    here.write(a="1", b="1")
    with here.box() as box:
        box.before["commit"] = lambda: setattr(box.pipes, "cut_after_bytes", 3)
        with pytest.raises(Cut):
            here.sync(box)
    (here.root / "b").unlink()

    done = here.sync_once()

    assert (done.sent_files, done.deleted_files, contents(here.box_root)) == (0, 1, {"a": b"1"})


def test_what_a_torn_sync_has_not_come_to_replace_is_a_jobs_still(here: Here) -> None:
    """It was named, and announced; then neither replaced nor is it here any more."""
    here.write(a="1")
    here.sync_once()
    for name in ("first", "last"):
        (here.box_root / name).write_text("a job's")
    here.write(first="mine", last="m" * 100_000)
    with here.box() as box:
        box.before["put"] = lambda: setattr(box.pipes, "cut_after_bytes", 50_000)
        with pytest.raises(Cut):
            here.sync(box)
    (here.root / "first").unlink()
    (here.root / "last").unlink()

    here.sync_once()

    assert here.told == ["replacing 2 changed on the box by what is here: first, last"]
    assert contents(here.box_root) == {"a": b"1", "last": b"a job's"}


def test_a_file_that_changes_while_it_is_read_is_sent_again(here: Here) -> None:
    here.write(a="1", b="1")
    with here.box() as box:
        versions = iter(["22", "333"])

        def change() -> None:
            if (version := next(versions, None)) is not None:
                here.write(a=version)

        box.before["put"] = change
        scanned = here.scan()
        done = here.sync(box, scan=lambda: scanned)

    assert box.put_paths == [[b"a", b"b"], [b"a"], [b"a"]]
    assert counts(done) == (2, 2, 4, 0)
    assert contents(here.box_root) == {"a": b"333", "b": b"1"}
    assert done.manifest_digest == digest(listing(here.root))


def test_a_file_that_never_stops_changing_is_named(here: Here) -> None:
    here.write(a="1", log="1")
    with here.box() as box:
        box.before["put"] = lambda: here.write(log="1" * (len(box.put_paths) + 2))
        with pytest.raises(SyncFailure, match=r"^log changed here each time it was sent") as failure:
            here.sync(box)

    assert (failure.value.exit_code, len(box.put_paths)) == (6, 3)


@pytest.mark.parametrize("was_there", [False, True])
def test_a_file_that_vanishes_while_it_is_copied_vanishes_there(here: Here, was_there: bool) -> None:
    here.write(a="1", b="1")
    if was_there:
        here.sync_once()
    here.write(b="22")
    with here.box() as box:
        box.before["put"] = (here.root / "b").unlink
        done = here.sync(box)

    assert contents(here.box_root) == {"a": b"1"}
    assert counts(done) == (1, int(not was_there), int(not was_there), int(was_there))
    assert done.manifest_digest == digest(listing(here.root))


def test_what_something_on_the_box_changes_meanwhile_is_sent_once_more(here: Here) -> None:
    here.write(a="1", b__c="1")

    def meddle() -> None:
        if box.asked.count("commit") == 1:
            (box.root / "a").write_text("theirs")
            shutil.rmtree(box.root / "b")

    with here.box() as box:
        box.before["commit"] = meddle
        done = here.sync(box)

    assert box.put_paths == [[b"a", b"b/c"], [b"a", b"b/c"]]
    assert done.manifest_digest == digest(listing(here.box_root)) == digest(listing(here.root))


def test_what_something_on_the_box_always_changes_is_named(here: Here) -> None:
    here.write(a="1")
    with here.box() as box:
        box.before["commit"] = lambda: os.utime(box.root / "a")
        with pytest.raises(SyncFailure, match=r"^a is not on the box as it is here, although it was sent twice"):
            here.sync(box)


def test_a_disk_that_is_too_small_is_told_before_anything_is_sent(here: Here) -> None:
    here.write(a="1" * 1000)

    class Small(Box):
        def survey(self) -> Survey:
            return replace(super().survey(), free_bytes=999)

    with Small(here.root.parent) as box, pytest.raises(PlaceFailure, match="1,000 bytes are needed and 999") as full:
        here.sync(box)

    assert (full.value.stage, full.value.exit_code, box.asked) == ("disk-full", 6, ["survey"])


def test_a_local_file_that_may_not_be_read_is_named(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.write(a="1")
    real = os.open

    def refuse(path: Any, *rest: Any, **more: Any) -> int:
        if path == os.fsencode(here.root / "a"):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **more)

    with here.box() as box:
        monkeypatch.setattr("providers.ssh.transfer.os.open", refuse)
        with pytest.raises(SyncFailure, match=r"^a cannot be read here: permission denied"):
            here.sync(box)
        monkeypatch.undo()


@needs_rsync
def test_rsync_and_our_own_transfer_leave_the_same_tree(here: Here, tmp_path: Path, monkeypatch: Any) -> None:
    """Bit by bit: times to the nanosecond, permissions, links, folders, odd names."""
    monkeypatch.setattr("ledger.flows.sync.is_for_rsync", lambda entry, older: True)
    here.write(many__a="1", many__b="22")
    for name in (b"new\nline", b"\xff", b"-x", b" ", b"#", "é".encode(), b"[a]*?"):
        (here.root / os.fsdecode(name)).write_bytes(name)
    (here.root / "run").write_text("#!")
    (here.root / "run").chmod(0o755)
    (here.root / "sealed").write_text("x")
    (here.root / "sealed").chmod(0o400)
    (here.root / "nothing in it").mkdir(mode=0o700)
    (here.root / "link").symlink_to(os.fsdecode(b"to \xff"))
    os.utime(here.root / "run", ns=(7, 1_700_000_000_123_456_789))
    (here.root / "old").write_text("before 1970")
    os.utime(here.root / "old", ns=(7, -1_500_000_001))

    by_rsync = here.sync_once(may_rsync=True)
    first = (listing(here.box_root), contents(here.box_root))
    shutil.rmtree(tmp_path / "work")
    by_us = here.sync_once(may_rsync=False)

    assert here.told == []
    assert by_rsync == by_us
    assert first == (listing(here.box_root), contents(here.box_root)) == (listing(here.root), contents(here.root))


@needs_rsync
def test_rsync_sends_a_file_whose_size_and_whole_second_are_as_before(here: Here, monkeypatch: Any) -> None:
    """The quick check of an rsync that knows whole seconds alone takes such a file for equal, and sets but its time."""
    monkeypatch.setattr("ledger.flows.sync.is_for_rsync", lambda entry, older: True)
    here.write(a="old")
    os.utime(here.root / "a", ns=(1, 1_700_000_000_100_000_000))
    here.sync_once(may_rsync=True)
    here.write(a="new")
    os.utime(here.root / "a", ns=(1, 1_700_000_000_900_000_000))

    here.sync_once(may_rsync=True)

    assert contents(here.box_root) == {"a": b"new"}


@needs_rsync
def test_a_large_file_that_the_box_has_an_older_version_of_goes_by_rsync(here: Here) -> None:
    """Of it only what has changed travels; the rest goes over the channel that is open already."""
    here.write(large="x" * DELTA_FROM_BYTES, small="1")
    with here.box() as box:
        here.sync(box, may_rsync=True)
        here.write(large="y" + "x" * DELTA_FROM_BYTES, small="22", new="z" * DELTA_FROM_BYTES)
        here.sync(box, may_rsync=True)

    assert box.asked == ["survey", "begin", "put", "commit", "survey", "begin", "rsync", "put", "commit"]
    assert box.put_paths[1] == [b"new", b"small"]
    assert listing(here.box_root) == listing(here.root)
    assert contents(here.box_root) == contents(here.root)


@needs_rsync
@pytest.mark.parametrize("why", ["not there", "fenced"])
def test_where_rsync_fails_our_own_transfer_goes_on(here: Here, why: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("ledger.flows.sync.is_for_rsync", lambda entry, older: True)
    here.write(a="1", b="1")
    with here.box() as box:
        if why == "fenced":  # somebody else has taken the lock since; on this channel it is held still
            box.before["rsync"] = box.next_token
        else:
            box.remote_shell = ("sh", "-c", 'shift; PATH=/nonexistent exec /bin/sh -c "$*"', "sh")
        done = here.sync(box, may_rsync=True)

    assert counts(done) == (2, 2, 2, 0)
    assert box.asked == ["survey", "begin", "rsync", "put", "commit"]
    assert len(here.told) == 1
    assert here.told[0].startswith("rsync failed (")
    assert here.told[0].endswith("; going on without rsync")


@needs_rsync
def test_an_rsync_that_is_too_old_is_not_used(here: Here, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("ledger.flows.sync.is_for_rsync", lambda entry, older: True)
    old = tmp_path / "bin" / "rsync"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'openrsync: protocol version 29'\necho 'rsync version 2.6.9 compatible'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{old.parent}:{os.environ['PATH']}")
    here.write(a="1")

    here.sync_once(may_rsync=True)

    assert here.told == ["the rsync of this machine is older than 3.1; going on without rsync"]
    assert contents(here.box_root) == {"a": b"1"}


def test_the_tree_is_looked_at_while_the_box_looks_at_its_own(here: Here) -> None:
    """Each waits for the other here, so that one after the other would never end."""
    here.write(a="1")
    surveyed, scanned = threading.Event(), threading.Event()

    def scan() -> Tree:
        scanned.set()
        assert surveyed.wait(20)
        return here.scan()

    def survey() -> None:
        surveyed.set()
        assert scanned.wait(20)

    with here.box() as box:
        box.before["survey"] = survey
        assert here.sync(box, scan=scan).sent_files == 1


def test_a_failure_of_either_side_comes_out(here: Here) -> None:
    def fail() -> Tree:
        raise SyncFailure("no tree")

    def fail_there() -> None:
        fail()

    with here.box() as box, pytest.raises(SyncFailure, match="no tree"):
        here.sync(box, scan=fail)
    with here.box() as box:
        box.before["survey"] = fail_there
        with pytest.raises(SyncFailure, match="no tree"):
            here.sync(box)
    with pytest.raises(SyncFailure, match="no tree"):
        Meanwhile(fail, "test").result()


@pytest.fixture
def recorded(world: World, program: Program, here: Here) -> Callable[[], SyncDone]:
    program.acquire()

    def once() -> SyncDone:
        wish = Wish(lease_id=LEASE, scan=here.scan, may_rsync=False, progress=no_progress)
        with here.box() as box:
            return sync(program.services, wish, box)

    return once


def test_a_sync_is_on_record_once_it_has_changed_something(
    world: World, here: Here, recorded: Callable[[], SyncDone]
) -> None:
    here.write(a="1", b="22")

    done = recorded()
    recorded()

    assert world.types() == [*ACQUIRED, "sync-finished"]
    assert world.payloads("sync-finished") == [
        {
            "files": 2,
            "sent_files": 2,
            "sent_bytes": 3,
            "deleted_files": 0,
            "duration_ms": done.duration_ms,
            "manifest_digest": done.manifest_digest,
        }
    ]
    (here.root / "a").unlink()
    recorded()
    assert [fact["deleted_files"] for fact in world.payloads("sync-finished")] == [0, 1]


def test_the_first_sync_of_a_tree_that_is_there_already_is_on_record(
    world: World, here: Here, recorded: Callable[[], SyncDone]
) -> None:
    """What another ledger's sync has put, say."""
    here.write(a="1")
    here.sync_once()

    assert recorded().changed_nothing
    assert world.types() == [*ACQUIRED, "sync-finished"]
