"""The manifest: what a tree holds, as the same bytes on both sides."""

import os
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.agent.manifest import Entry, decode, digest, encode, entry_at, is_inside, paths_of, standing

_parts = st.binary(min_size=1, max_size=6).filter(lambda part: part not in (b".", b"..") and not {0, 47} & {*part})
_paths = st.lists(_parts, min_size=1, max_size=4).map(b"/".join)
_times = st.integers(-(2**62), 2**62)
_entries = st.one_of(
    st.builds(Entry, _paths, st.just("f"), st.integers(0, 0o777), st.integers(0, 2**60), _times, st.just(b"")),
    st.builds(Entry, _paths, st.just("d"), st.integers(0, 0o777), st.just(0), st.just(0), st.just(b"")),
    st.builds(Entry, _paths, st.just("l"), st.just(0), st.just(0), st.just(0), _paths),
)
trees = st.lists(_entries, unique_by=lambda entry: entry.path)


def test_a_record_is_a_path_what_it_is_and_a_target() -> None:
    entries = [
        Entry(b"b", "l", 0, 0, 0, b"../c d"),
        Entry(b"a\nx", "f", 0o755, 12, 1_700_000_000_123_456_789, b""),
        Entry(b"a", "d", 0o700, 0, 0, b""),
    ]

    encoded = encode(entries)

    assert encoded == b"a\0d 700 0 0\0\0a\nx\0f 755 12 1700000000123456789\0\0b\0l 0 0 0\0../c d\0"
    assert digest(encoded) == sha256(encoded).hexdigest()
    assert encode([]) == b""


@given(trees)
def test_what_was_written_down_is_read_again_in_the_order_of_paths(tree: list[Entry]) -> None:
    assert decode(encode(tree)) == sorted(tree)


@given(trees, st.randoms(use_true_random=False))
def test_the_order_in_which_a_tree_was_found_does_not_matter(tree: list[Entry], random: object) -> None:
    shuffled = [*tree]
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert encode(shuffled) == encode(tree)


@given(trees, st.data())
def test_a_manifest_that_is_cut_short_is_none_or_a_shorter_one(tree: list[Entry], data: st.DataObject) -> None:
    encoded = encode(tree)
    short = encoded[: data.draw(st.integers(0, max(0, len(encoded) - 1)))]

    try:
        entries = decode(short)
    except ValueError:
        assert paths_of(short) == []
        return
    assert entries == sorted(tree)[: len(entries)]
    assert paths_of(short) == [entry.path for entry in entries]


@pytest.mark.parametrize(
    "encoded",
    [
        b"a",
        b"a\0f 644 1 1\0",
        b"a\0f 644 1\0\0",
        b"a\0x 644 1 1\0\0",
        b"a\0f 999 1 1\0\0",
        b"a\0f 644 one 1\0\0",
        b"b\0f 644 1 1\0\0a\0f 644 1 1\0\0",
        b"a\0f 644 1 1\0\0a\0f 644 1 1\0\0",
    ],
)
def test_bytes_that_are_no_manifest_are_refused(encoded: bytes) -> None:
    with pytest.raises(ValueError, match="manifest"):
        decode(encoded)


@pytest.mark.parametrize(
    "path",
    [b"", b".", b"..", b"/a", b"a/", b"a//b", b"./a", b"a/.", b"../a", b"a/../b", b"a/..", b"a/./b", b"/"],
)
def test_a_path_that_leads_out_of_its_folder_is_refused(path: bytes) -> None:
    record = b"%b\0f 644 1 1\0\0"

    assert not is_inside(path)
    for encoded in (record % path, record % path + record % b"zz", b"!\0f 644 1 1\0\0" + record % path):
        with pytest.raises(ValueError, match="manifest"):
            decode(encoded)


def test_a_link_may_lead_anywhere() -> None:
    """What is odd in a path is not in a target."""
    tree = [
        Entry(b"a", "l", 0, 0, 0, b"/etc/../x//y"),
        Entry(b"b", "l", 0, 0, 0, b"../.."),
        Entry(b"c", "l", 0, 0, 0, b"."),
    ]

    assert decode(encode(tree)) == tree


def test_what_stands_at_a_path_is_told_with_its_permissions_and_its_time(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    (tmp_path / "file").write_bytes(b"123")
    (tmp_path / "file").chmod(0o4751)
    os.utime(tmp_path / "file", ns=(1, 1_700_000_000_123_456_789))
    (tmp_path / "folder").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("no where")
    os.mkfifo(tmp_path / "pipe")

    assert entry_at(root, b"file") == Entry(b"file", "f", 0o751, 3, 1_700_000_000_123_456_789, b"")
    assert entry_at(root, b"folder") == Entry(b"folder", "d", 0o700, 0, 0, b"")
    assert entry_at(root, b"link") == Entry(b"link", "l", 0, 0, 0, b"no where")
    assert [entry_at(root, path) for path in (b"pipe", b"nothing", b"file/below", b"link/below")] == [None] * 4


def test_what_cannot_be_looked_at_raises(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        entry_at(os.fsencode(tmp_path), b"x" * 5000)


def test_what_stands_at_paths_is_written_as_one_by_one_without_what_is_gone_or_cannot_be_carried(
    tmp_path: Path,
) -> None:
    (tmp_path / "d").mkdir(mode=0o750)
    (tmp_path / "d" / "file").write_bytes(b"12345")
    (tmp_path / "d" / "link").symlink_to("file")
    os.mkfifo(tmp_path / "d" / "pipe")
    root, paths = os.fsencode(tmp_path), [b"d", b"d/file", b"d/file/below", b"d/gone", b"d/link", b"d/pipe"]

    assert standing(root, paths) == encode(filter(None, [entry_at(root, path) for path in paths]))
    assert paths_of(standing(root, paths)) == [b"d", b"d/file", b"d/link"]
