"""Copying between the box's agent and here: both ways alike, whole or not at all, from where it was cut."""

import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.domain.copying import Copied, NotCopied
from ledger.domain.errors import SshFailure
from ledger.domain.ports import Endpoint, NoAgent, Place, PlaceFailure
from providers.agent import frames
from providers.agent.copy_plan import PARTIAL
from tests.agent.copying import Both, Pipes, tree

BIG = os.urandom(3_000_000)
ODD = (b"a b", b"two\nlines", b"-rf", b"\xff\xfe", "ünï".encode(), b'"q"', b"~", b"a:b")


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    both = Both(tmp_path)
    monkeypatch.chdir(both.here)
    yield both
    for pipes in both.all:
        pipes.done()


def fill(folder: Path) -> None:
    """Files, links and folders of every kind and name."""
    (folder / "src" / "deep" / "er").mkdir(parents=True)
    (folder / "src" / "empty").mkdir()
    (folder / "src" / "closed").mkdir()
    (folder / "src" / "closed" / "file").write_bytes(b"inside")
    (folder / "src" / "deep" / "er" / "script").write_bytes(b"#!/bin/sh\n")
    (folder / "src" / "deep" / "er" / "script").chmod(0o755)
    (folder / "src" / "secret").write_bytes(b"")
    (folder / "src" / "secret").chmod(0o600)
    (folder / "src" / "big").write_bytes(BIG)
    (folder / "src" / "to nothing").symlink_to("nowhere/at all")
    (folder / "src" / "to folder").symlink_to("deep")
    for name in ODD:
        Path(os.fsdecode(os.fsencode(folder / "src") + b"/" + name)).write_bytes(name)
    os.utime(folder / "src" / "big", ns=(0, 1_234_567_890_123_456_789))
    (folder / "src" / "closed").chmod(0o555)


def partials(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if PARTIAL.fullmatch(os.fsencode(path.name))]


def test_a_folder_arrives_as_it_is_on_the_box_and_comes_back_as_it_was(both: Both) -> None:
    fill(both.here)
    there = both.put("src", to="new")
    back = both.get("new", to="back")
    size = len(BIG) + len(b"inside") + len(b"#!/bin/sh\n") + sum(map(len, ODD))
    files = 4 + len(ODD)
    assert (there, back) == (Copied(files=files, folders=5, links=2),) * 2
    assert tree(both.work / "new") == tree(both.here / "src") == tree(both.here / "back")
    assert both.seen.all == [(files, size)] * 2
    assert both.seen.sent == 2 * size


@pytest.mark.parametrize(
    ("source", "target", "into", "lands"),
    [
        ("src", "new", False, "new/f"),
        ("src", "there", False, "there/src/f"),
        ("src/", "there", False, "there/src/f"),
        ("src/.", "there", False, "there/f"),
        ("src/.", "new", False, "new/f"),
        ("src", "new", True, "new/src/f"),
        ("src/f", "there", False, "there/f"),
        ("src/f", "new", False, "new"),
        ("src/f", "new", True, "new/f"),
        ("src/../src", "there", False, "there/src/f"),
        ("link", "there", False, "there/link"),
        ("link/", "there", False, "there/link/f"),
    ],
)
def test_a_source_lands_where_cp_would_put_it(both: Both, source: str, target: str, into: bool, lands: str) -> None:
    for folder in (both.here, both.work):
        (folder / "src").mkdir()
        (folder / "src" / "f").write_text("f")
        (folder / "link").symlink_to("src")
        (folder / "there").mkdir()
    both.put(source, to=target, into=into)
    both.get(source, to=target, into=into)
    for folder in (both.work, both.here):
        assert os.path.lexists(folder / lands), tree(folder)
        assert (folder / lands).is_symlink() == (lands == "there/link")


def test_a_relative_path_is_in_the_workspace_and_a_tilde_is_the_logins_home(both: Both) -> None:
    (both.here / "f").write_text("f")
    both.put("f", to="~/at home")
    both.work.rmdir()
    both.put("f", to="in workspace")
    both.put("f", to=str(both.home / "absolute"))
    assert sorted(tree(both.home)) == [b"absolute", b"at home", b"work", b"work/rl_1", b"work/rl_1/in workspace"]
    both.get("", to="workspace")
    assert list(tree(both.here / "workspace")) == [b"in workspace"]


def test_several_sources_go_into_one_folder(both: Both) -> None:
    for name in ("a", "b"):
        (both.here / name).write_text(name)
    both.put("a", "b", to="new", into=True)
    assert sorted(tree(both.work)) == [b"new", b"new/a", b"new/b"]


def test_a_folder_is_merged_and_a_file_or_link_in_the_way_is_replaced(both: Both) -> None:
    (both.here / "d").mkdir(mode=0o700)
    for name in ("new", "old", "linked"):
        (both.here / "d" / name).write_text("ours")
    (both.work / "d").mkdir()
    (both.work / "d").chmod(0o755)
    (both.work / "d" / "old").write_text("theirs")
    (both.work / "d" / "other").write_text("stays")
    (both.work / "d" / "linked").symlink_to("other")
    both.put("d", to=".")
    assert {path.name: path.read_text() for path in (both.work / "d").iterdir()} == {
        "new": "ours",
        "old": "ours",
        "linked": "ours",
        "other": "stays",
    }
    assert stat.S_IMODE((both.work / "d").stat().st_mode) == 0o755


def test_nothing_is_sent_of_what_is_there_already(both: Both) -> None:
    (both.here / "f").write_bytes(BIG)
    both.put("f", to="f")
    (both.here / "f").chmod(0o600)
    again = both.put("f", to="f")
    assert (both.seen.sent, again) == (len(BIG), Copied(files=1, kept_bytes=len(BIG)))
    assert stat.S_IMODE((both.work / "f").stat().st_mode) == 0o600


def test_the_same_size_and_time_do_not_pass_for_the_same_content(both: Both) -> None:
    (both.here / "f").write_bytes(BIG)
    both.put("f", to="f")
    other = b"x" + BIG[1:]
    (both.work / "f").write_bytes(other)
    os.utime(both.work / "f", ns=(0, (both.here / "f").stat().st_mtime_ns))
    both.put("f", to="f")
    assert (both.work / "f").read_bytes() == BIG


@pytest.mark.parametrize("to_box", [True, False])
def test_a_copy_that_was_cut_goes_on_where_it_stopped_and_leaves_nothing_beside(both: Both, to_box: bool) -> None:
    source, target = (both.here, both.work) if to_box else (both.work, both.here)
    (source / "f").write_bytes(BIG)
    passed = 0

    def cut(data: bytes) -> None:
        nonlocal passed
        passed += len(data)
        if passed > 1_500_000:
            raise SshFailure("cut", stage="session")

    def opened(pipes: Pipes) -> None:
        pipes.on_write = cut
        pipes.on_frame = lambda kind, payload: cut(payload)

    both.opened = opened
    copy = both.put if to_box else both.get
    with pytest.raises(SshFailure):
        copy("f", to="copied")
    both.opened = lambda pipes: None
    (partial,) = partials(target)
    there = partial.stat().st_size
    assert 0 < there < len(BIG)
    both.seen.sent = 0
    assert copy("f", to="copied") == Copied(files=1, kept_bytes=there)
    assert both.seen.sent == len(BIG) - there
    assert (target / "copied").read_bytes() == BIG
    assert partials(target) == []


def cut_copy(both: Both, name: str) -> Path:
    """Cuts a copy to the box in its middle; gives what was left there."""

    def opened(pipes: Pipes) -> None:
        passed = 0

        def cut(data: bytes) -> None:
            nonlocal passed
            passed += len(data)
            if passed > 1_500_000:
                raise SshFailure("cut", stage="session")

        pipes.on_write = cut

    both.opened = opened
    with pytest.raises(SshFailure):
        both.put(name, to="copied")
    both.opened = lambda pipes: None
    (partial,) = partials(both.work)
    return partial


def test_another_version_of_the_file_begins_anew_and_takes_the_partial_one_away(both: Both) -> None:
    (both.here / "f").write_bytes(BIG)
    cut_copy(both, "f")
    newer = BIG[::-1]
    (both.here / "f").write_bytes(newer)
    assert both.put("f", to="copied") == Copied(files=1)
    assert tree(both.work) == {b"copied": tree(both.here)[b"f"]}
    assert (both.work / "copied").read_bytes() == newer


def test_a_partial_file_that_is_not_what_was_sent_is_not_gone_on_with(both: Both) -> None:
    """A box that lost power may have any bytes where it had not written yet."""
    (both.here / "f").write_bytes(BIG)
    partial = cut_copy(both, "f")
    damaged = bytearray(partial.read_bytes())
    damaged[1000:2000] = bytes(1000)
    partial.write_bytes(damaged)
    assert both.put("f", to="copied") == Copied(files=1)
    assert (both.work / "copied").read_bytes() == BIG


def test_a_partial_file_is_no_source(both: Both) -> None:
    (both.here / "f").write_bytes(BIG)
    cut_copy(both, "f")
    both.get("", to="back")
    assert tree(both.here / "back") == {}


def test_the_target_is_the_old_file_until_the_new_one_is_whole(both: Both) -> None:
    (both.here / "f").write_bytes(BIG)
    (both.work / "copied").write_bytes(b"old")
    cut_copy(both, "f")
    assert (both.work / "copied").read_bytes() == b"old"


@pytest.mark.parametrize("changes", [1, 99])
def test_a_file_that_changes_while_it_is_read_is_sent_again_and_at_last_named(both: Both, changes: int) -> None:
    source = both.here / "log"
    source.write_bytes(BIG)
    left = changes

    def opened(pipes: Pipes) -> None:
        def grow(data: bytes) -> None:
            nonlocal left
            if len(data) == 256 * 1024 and left:
                left -= 1
                with source.open("ab") as file:
                    file.write(b"more")

        pipes.on_write = grow

    both.opened = opened
    done = both.put("log", to="copied")
    if changes == 1:
        assert done == Copied(files=1)
        assert (both.work / "copied").read_bytes() == BIG + b"more"
    else:
        failure = NotCopied(
            stage="changed",
            message="it changed each time while it was read",
            path=os.fsencode(source),
            on_box=False,
        )
        assert done == Copied(failures=(failure,))
        assert tree(both.work) == {}


def test_a_source_that_is_missing_is_named_and_the_rest_is_copied(both: Both) -> None:
    (both.work / "a").write_text("a")
    done = both.get("none", "a", to="new", into=True)
    missing = NotCopied(
        stage="missing", message="no such file or directory", path=os.fsencode(both.work / "none"), on_box=True
    )
    assert done == Copied(files=1, failures=(missing,))
    assert list(tree(both.here / "new")) == [b"a"]


@pytest.mark.parametrize("source", [".", "state", "state/keys", "state/keys/id_ed25519", "link/keys"])
def test_the_keys_of_the_leases_are_named_and_never_copied(both: Both, source: str) -> None:
    (both.here / "state" / "keys").mkdir(parents=True)
    (both.here / "state" / "keys" / "id_ed25519").write_text("secret")
    (both.here / "link").symlink_to("state")
    (both.here / "f").write_text("x")
    done = both.put(source, to="there/", into=True)
    [failure] = done.failures
    assert (failure.stage, failure.message) == ("private", "it holds the keys of your leases, which stay here")
    assert [path for path in both.work.rglob("*") if path.name in ("keys", "id_ed25519")] == []
    assert done.files == (1 if source == "." else 0)


def test_what_is_no_file_is_named_and_never_opened(both: Both) -> None:
    (both.here / "d").mkdir()
    os.mkfifo(both.here / "d" / "pipe")
    done = both.put("d", to="d")
    pipe = NotCopied(
        stage="not-a-file",
        message="it is neither a file nor a folder nor a link",
        path=os.fsencode(both.here / "d" / "pipe"),
        on_box=False,
    )
    assert done == Copied(folders=1, failures=(pipe,))


@pytest.mark.parametrize(
    ("source", "target", "stage", "message"),
    [
        ("f", "a folder/", "not-a-file", "a folder stands where a file goes"),
        ("d", "file", "not-a-folder", "a folder goes where something else stands"),
        ("f", "none/new", "missing", "no such file or directory"),
        ("f", "/dev/null", "not-a-file", "what stands there is neither a file nor a link"),
    ],
)
def test_what_stands_in_the_way_on_the_box_is_told_with_its_stage(
    both: Both, source: str, target: str, stage: str, message: str
) -> None:
    (both.here / "d").mkdir()
    (both.here / "f").write_bytes(BIG)
    (both.work / "a folder" / "f").mkdir(parents=True)
    (both.work / "file").write_text("stays")
    with pytest.raises(PlaceFailure) as failed:
        both.put(source, to=target)
    assert (failed.value.stage, failed.value.message.partition(" on the box: ")[2]) == (stage, message)
    assert (both.work / "file").read_text() == "stays"
    assert partials(both.work) == []


def test_more_than_the_disk_has_room_for_is_refused_before_anything_is_sent(both: Both) -> None:
    with (both.here / "huge").open("wb") as file:
        file.truncate(1 << 43)
    with pytest.raises(PlaceFailure, match="bytes are needed and") as failed:
        both.put("huge", to="huge")
    assert (failed.value.stage, both.seen.sent, tree(both.work)) == ("disk-full", 0, {})


def test_a_disk_that_fills_up_on_the_way_is_told_and_is_not_left_full(both: Both) -> None:
    (both.here / "f").write_bytes(BIG)

    def opened(pipes: Pipes) -> None:
        resource.prlimit(pipes.process.pid, resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    both.opened = opened
    with pytest.raises(PlaceFailure) as failed:
        both.put("f", to="f")
    assert (failed.value.stage, tree(both.work)) == ("disk-full", {})


def test_a_box_without_python_is_refused_by_name(both: Both) -> None:
    def none(endpoint: Endpoint, place: Place) -> Pipes:
        raise NoAgent("no python3", stage="tools", hint="install it")

    both.talk = none  # type: ignore[method-assign]
    with pytest.raises(PlaceFailure) as failed:
        both.get("f", to="f")
    assert (failed.value.exit_code, failed.value.stage, failed.value.hint) == (6, "tools", "install it")


@pytest.mark.parametrize("kind", [frames.MANIFEST, frames.ENTRY, frames.JSON])
def test_nonsense_from_the_box_is_a_failure_that_is_named(both: Both, kind: bytes) -> None:
    (both.work / "f").write_text("x")

    def opened(pipes: Pipes) -> None:
        receive = pipes.receive

        def babble() -> tuple[bytes, bytes]:
            came, payload = receive()
            return came, b"nonsense" if came == kind else payload

        pipes.receive = babble  # type: ignore[method-assign]

    both.opened = opened
    with pytest.raises(PlaceFailure) as failed:
        both.get("f", to="f")
    assert (failed.value.stage, tree(both.here)) == ("protocol", {})


@pytest.mark.parametrize("name", ["../out", "0/../../out", "00", "+0", "-1", "0_0"])
def test_a_box_that_names_something_outside_of_the_target_is_refused(both: Both, name: str) -> None:
    (both.work / "out").write_text("x")

    def opened(pipes: Pipes) -> None:
        receive = pipes.receive

        def lie() -> tuple[bytes, bytes]:
            kind, payload = receive()
            if name == "../out":
                return kind, payload.replace(b'"out"', b'"../out"')
            return kind, payload.replace(b"0\0f", os.fsencode(name) + b"\0f") if kind == frames.MANIFEST else payload

        pipes.receive = lie  # type: ignore[method-assign]

    both.opened = opened
    (both.here / "in").mkdir()
    with pytest.raises(PlaceFailure) as failed:
        both.get("out", to="in")
    assert failed.value.stage == "protocol"
    assert [path.name for path in both.here.iterdir()] == ["in"]


def test_a_link_inside_the_target_is_not_followed(both: Both, tmp_path: Path) -> None:
    (both.work / "d" / "sub").mkdir(parents=True)
    (both.work / "d" / "sub" / "f").write_text("x")
    (both.here / "d").mkdir()
    (tmp_path / "outside").mkdir()
    (both.here / "d" / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(PlaceFailure) as failed:
        both.get("d", to=".")
    assert (failed.value.stage, list((tmp_path / "outside").iterdir())) == ("not-a-folder", [])
