"""The tree on the box, asked and changed through an agent that runs: what it finds, takes, deletes, and refuses."""

import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.domain.ports import Begun, Committed, PlaceFailure
from providers.agent import frames
from providers.agent.incoming import PARTIAL
from providers.agent.manifest import Entry, encode
from tests.agent.workspaces import Cut, FolderWorkspace, Pipes, contents, entries, listing, no_progress

IS_ROOT = os.getuid() == 0


@pytest.fixture
def box(tmp_path: Path) -> Iterator[FolderWorkspace]:
    with FolderWorkspace(tmp_path) as workspace:
        yield workspace


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def put_all(box: FolderWorkspace, here: Path) -> Committed:
    """A whole sync by hand, to an empty box."""
    tree = entries(here)
    box.begin(tree, [])
    box.put(os.fsencode(here), [entry for entry in tree if entry.kind != "d"], no_progress)
    return box.commit(encode(tree))


def test_a_box_that_nothing_was_put_on_has_no_digest_and_tells_its_space(box: FolderWorkspace, tmp_path: Path) -> None:
    survey = box.survey()

    disk = os.statvfs(tmp_path)
    assert (survey.digest, survey.pending) == (None, False)
    assert abs(survey.free_bytes - disk.f_bavail * disk.f_frsize) < 1 << 30


def test_a_tree_arrives_as_it_is_and_both_sides_give_it_the_same_digest(box: FolderWorkspace, here: Path) -> None:
    """Permissions, times to the nanosecond, links, empty files and folders, and names of every kind."""
    for name in (b"plain", b"with space", b"new\nline", b"\xff\xfe", b"-rf", "é".encode()):
        (here / os.fsdecode(name)).write_bytes(name * 3)
    (here / "empty").touch()
    (here / "large").write_bytes(os.urandom(3_000_000))
    (here / "run").write_bytes(b"#!")
    (here / "run").chmod(0o755)
    (here / "sealed").write_bytes(b"x")
    (here / "sealed").chmod(0o400)
    (here / "deep" / "er").mkdir(parents=True)
    (here / "deep" / "er" / "f").write_bytes(b"1")
    (here / "nothing in it").mkdir(mode=0o700)
    (here / "link").symlink_to("no such thing")
    (here / "to folder").symlink_to("deep")
    os.utime(here / "plain", ns=(1, 1_700_000_000_123_456_789))
    (here / "deep").chmod(0o555)

    committed = put_all(box, here)

    assert listing(box.root) == listing(here)
    assert contents(box.root) == contents(here)
    assert committed.digest == box.survey().digest is not None
    assert (box.root / "plain").lstat().st_mtime_ns == 1_700_000_000_123_456_789
    (here / "deep").chmod(0o755)
    (box.root / "deep").chmod(0o755)


def test_what_was_changed_there_shows_in_the_digest_and_in_the_listing(box: FolderWorkspace, here: Path) -> None:
    for name in ("changed", "gone", "same"):
        (here / name).write_bytes(b"1")
    before = put_all(box, here)
    os.utime(box.root / "changed", ns=(5, 5))
    (box.root / "gone").unlink()
    (box.root / "output").write_bytes(b"a job's")

    stored, there = box.listing()

    assert box.survey().digest != before.digest
    assert stored == entries(here)
    assert {entry.path: entry.mtime_ns for entry in there} == {
        b"changed": 5,
        b"same": (here / "same").stat().st_mtime_ns,
    }


def test_it_looks_at_any_path_but_behind_no_link(box: FolderWorkspace, here: Path) -> None:
    (here / "a").mkdir()
    (here / "a" / "b").write_bytes(b"1")
    put_all(box, here)
    (box.root / "out").symlink_to("a")

    assert [entry.path for entry in box.look([b"a", b"a/b", b"out", b"out/b", b"nothing"])] == [b"a", b"a/b", b"out"]


def test_it_deletes_what_it_is_told_and_leaves_folders_that_hold_something_else(
    box: FolderWorkspace, here: Path
) -> None:
    for name in ("a", "b"):
        (here / name).mkdir()
        (here / name / "f").write_bytes(b"1")
    put_all(box, here)
    (box.root / "b" / "output").write_bytes(b"a job's")

    begun = box.begin([], [b"a", b"a/f", b"b", b"b/f", b"never/there"])

    assert begun == Begun(deleted=2, left=(b"b",))
    assert contents(box.root) == {"b/output": b"a job's"}
    assert not (box.root / "a").exists()


def test_nothing_is_deleted_behind_a_link(box: FolderWorkspace, here: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "f").write_bytes(b"precious")
    (here / "a").mkdir()
    (here / "a" / "f").write_bytes(b"1")
    put_all(box, here)
    (box.root / "a" / "f").unlink()
    (box.root / "a").rmdir()
    (box.root / "a").symlink_to(elsewhere)

    begun = box.begin([], [b"a/f", b"a"])

    assert (begun, contents(elsewhere)) == (Begun(deleted=1, left=()), {"f": b"precious"})
    assert not (box.root / "a").is_symlink()


def test_nothing_is_put_behind_a_link(box: FolderWorkspace, here: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (here / "a").mkdir()
    (here / "a" / "f").write_bytes(b"1")
    tree = entries(here)
    box.begin(tree, [])
    (box.root / "a").rmdir()
    (box.root / "a").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(PlaceFailure, match=r"a/f on the box: .*no folder") as refused:
        box.put(os.fsencode(here), [tree[1]], no_progress)

    assert (refused.value.stage, refused.value.path) == ("not-a-folder", b"a/f")
    assert contents(tmp_path / "elsewhere") == {}


def test_a_file_replaces_another_in_one_step(box: FolderWorkspace, here: Path) -> None:
    """Whoever has the old one open keeps it whole, and a link in its place is not followed."""
    for name in ("file", "link"):
        (here / name).write_bytes(b"old")
    put_all(box, here)
    (box.root / "link").unlink()
    (box.root / "link").symlink_to("file")
    for name in ("file", "link"):
        (here / name).write_bytes(b"newer")

    with (box.root / "file").open("rb") as old:
        put_all(box, here)

        assert old.read() == b"old"
    assert listing(box.root) == listing(here)
    assert contents(box.root) == {"file": b"newer", "link": b"newer"}


def test_a_link_replaces_a_file_and_another_link(box: FolderWorkspace, here: Path) -> None:
    (here / "a").write_bytes(b"1")
    (here / "b").symlink_to("x")
    put_all(box, here)
    for name in ("a", "b"):
        (here / name).unlink()
        (here / name).symlink_to("y")

    put_all(box, here)

    assert listing(box.root) == listing(here)


def test_a_manifest_that_is_not_what_stands_there_is_not_taken_and_the_paths_are_named(
    box: FolderWorkspace, here: Path
) -> None:
    for name in ("a", "b", "c"):
        (here / name).write_bytes(b"1")
    before = put_all(box, here)
    tree = [*entries(here), Entry(b"d", "f", 0o644, 1, 1, b"")]
    (box.root / "b").write_bytes(b"other")

    assert box.commit(encode(tree)) == Committed(digest=None, differs=(b"b", b"d"))
    (box.root / "b").unlink()
    (box.root / "b").hardlink_to(here / "b")
    assert box.survey().digest == before.digest  # what was stored is as it was


def test_permissions_that_alone_differ_are_set(box: FolderWorkspace, here: Path) -> None:
    (here / "a").mkdir()
    (here / "a" / "f").write_bytes(b"1")
    put_all(box, here)
    (here / "a" / "f").chmod(0o755)
    (here / "a").chmod(0o500)

    committed = box.commit(encode(entries(here)))

    assert committed.digest is not None
    assert listing(box.root) == listing(here)
    (here / "a").chmod(0o700)
    (box.root / "a").chmod(0o700)


@pytest.mark.parametrize("state", ["torn", "torn twice"])
def test_what_a_torn_sync_has_announced_is_ours_as_it_stands(tmp_path: Path, here: Path, state: str) -> None:
    """Half a file is no change of a job's: it counts as put, so that it is sent again and not named."""
    (here / "a").write_bytes(b"1" * 10)
    (here / "b").write_bytes(b"1")
    for _ in state.split():
        with FolderWorkspace(tmp_path) as box:
            box.begin(entries(here), [])
            (box.root / "a").write_bytes(b"1" * 4)

    with FolderWorkspace(tmp_path) as box:
        survey = box.survey()
        stored, there = box.listing()

        assert (survey.digest, survey.pending) == (None, True)
        assert [entry.path for entry in stored] == [b"a", b"b"]
        assert there == [stored[0]] == [Entry(b"a", "f", 0o644, 4, (box.root / "a").stat().st_mtime_ns, b"")]


def test_a_connection_that_is_cut_in_the_middle_of_a_file_leaves_no_part_of_it(tmp_path: Path, here: Path) -> None:
    """Neither of a new file nor of one that replaces another."""
    (here / "old").write_bytes(b"old")
    with FolderWorkspace(tmp_path) as box:
        put_all(box, here)
    for name in ("new", "old"):
        (here / name).write_bytes(os.urandom(2_000_000))
        with FolderWorkspace(tmp_path) as box:
            box.begin(entries(here), [])
            box.pipes.cut_after_bytes = 1_500_000
            with pytest.raises(Cut):
                box.put(os.fsencode(here), [one for one in entries(here) if one.path == name.encode()], no_progress)

        assert contents(box.root) == {"old": b"old"}


def test_what_a_sync_announces_later_does_not_make_it_forget_what_it_announced_before(
    tmp_path: Path, here: Path
) -> None:
    """A file that changed meanwhile is announced by itself, and so is what a second client sends after a first."""
    (here / "a").write_bytes(b"1")
    (here / "b").write_bytes(b"1")
    first, second = entries(here)
    with FolderWorkspace(tmp_path) as box:
        box.begin([first], [])
        box.put(os.fsencode(here), [first], no_progress)
        box.begin([second], [])

    with FolderWorkspace(tmp_path) as box:
        assert box.listing() == ([first, second], [first])


def test_what_a_process_that_was_killed_was_writing_is_taken_away_by_the_next_sync(
    box: FolderWorkspace, here: Path
) -> None:
    """Our own beside the file that it replaces, rsync's in a folder beside the workspace."""
    (here / "a").mkdir()
    (here / "a" / "f").write_bytes(b"1")
    box.begin(entries(here), [])
    (box.root / "a" / PARTIAL.decode()).write_bytes(b"half")
    (box.state / "incoming" / ".f.Xy12ab").write_bytes(b"half")

    box.begin(entries(here), [])

    assert [*contents(box.root), *contents(box.state / "incoming")] == []


def test_a_disk_that_is_full_is_told_by_name_and_what_did_not_fit_is_taken_away(tmp_path: Path, here: Path) -> None:
    """A limit on the size of its files stands for the disk; the rest of what was sent is thrown away unread."""
    (here / "a").write_bytes(b"fits")
    (here / "b").write_bytes(os.urandom(300_000))
    (here / "c").write_bytes(os.urandom(3_000_000))
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        box = FolderWorkspace(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    with box, pytest.raises(PlaceFailure) as full:
        put_all(box, here)

    assert (full.value.stage, full.value.path) == ("disk-full", b"b")
    assert full.value.hint == "make room on the box; what arrived stays, and the next sync goes on from there"
    assert contents(box.root) == {"a": b"fits"}


@pytest.mark.skipif(IS_ROOT, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_written_to_all_the_same(box: FolderWorkspace, here: Path) -> None:
    (here / "a").mkdir()
    (here / "a" / "f").write_bytes(b"1")
    (here / "a" / "g").write_bytes(b"1")
    put_all(box, here)
    (box.root / "a").chmod(0o500)
    (here / "a" / "g").unlink()
    (here / "a" / "new").write_bytes(b"1")

    box.begin(entries(here), [b"a/g"])
    box.put(os.fsencode(here), [one for one in entries(here) if one.path == b"a/new"], no_progress)

    assert box.commit(encode(entries(here))).digest is not None
    assert listing(box.root) == listing(here)


def test_nothing_is_changed_without_the_lock(tmp_path: Path) -> None:
    pipes = Pipes(tmp_path / "w", tmp_path / "s")
    pipes.hear()
    blob = frames.pack(frames.MANIFEST)
    for op, rest in (("begin", blob + frames.pack(frames.PATHS)), ("put", b""), ("commit", blob)):
        pipes.send({"op": op})
        pipes.write(rest)
        told = pipes.hear()
        assert (told["is"], told["stage"]) == ("failed", "protocol")
    assert pipes.end() == b""
    assert not (tmp_path / "w").exists()


def test_a_path_that_leads_out_of_the_workspace_is_refused(box: FolderWorkspace) -> None:
    with pytest.raises(PlaceFailure) as refused:
        box.begin([Entry(b"../a", "f", 0o644, 1, 1, b"")], [])

    assert refused.value.stage == "protocol"


def test_a_local_file_that_cannot_be_read_any_more_is_left_out(box: FolderWorkspace, here: Path) -> None:
    """Whether it has gone, or is a folder, a link or a pipe now, none of which may be waited for."""
    for name in ("a", "folder", "gone", "link", "pipe", "z"):
        (here / name).write_bytes(b"1")
    tree = entries(here)
    box.begin(tree, [])
    for name in ("folder", "gone", "link", "pipe"):
        (here / name).unlink()
    (here / "folder").mkdir()
    (here / "link").symlink_to("a")
    os.mkfifo(here / "pipe")

    box.put(os.fsencode(here), tree, no_progress)

    assert sorted(contents(box.root)) == ["a", "z"]


def test_a_file_that_grows_while_it_is_read_is_sent_as_long_as_it_was(box: FolderWorkspace, here: Path) -> None:
    (here / "a").write_bytes(b"1234")
    tree = entries(here)
    (here / "a").write_bytes(b"123456789")
    box.begin(tree, [])

    box.put(os.fsencode(here), tree, no_progress)

    assert contents(box.root) == {"a": b"1234"}


def test_the_box_remembers_in_a_folder_that_only_its_user_may_look_into(box: FolderWorkspace, here: Path) -> None:
    (here / "a").write_bytes(b"1")
    put_all(box, here)

    assert stat.S_IMODE(box.state.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in box.state.iterdir() if path.is_file()} == {
        "lock": 0o600,
        "manifest": 0o600,
        "token": 0o600,
    }


def test_a_manifest_that_a_crash_of_the_box_cut_short_counts_as_none(box: FolderWorkspace, here: Path) -> None:
    """What it named is nobody's then, and nothing is deleted for it."""
    (here / "a").write_bytes(b"1")
    put_all(box, here)
    manifest = box.state / "manifest"
    manifest.write_bytes(manifest.read_bytes()[:-3])

    assert box.listing() == ([], [])


def test_what_a_job_is_given_as_its_umask_is_as_it_was(box: FolderWorkspace, here: Path) -> None:
    """Files get their permissions as they are made, so putting them knows no umask."""
    (here / "a").write_bytes(b"1")
    (here / "a").chmod(0o666)
    put_all(box, here)

    status = Path(f"/proc/{box.pipes.process.pid}/status").read_text()

    assert stat.S_IMODE((box.root / "a").stat().st_mode) == 0o666
    before = os.umask(0)
    os.umask(before)
    assert f"Umask:\t{before:04o}" in status
