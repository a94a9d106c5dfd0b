"""Frames and their JSON: whole however they are cut, refused where they cannot be."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.agent import frames, jsontext

SENT = [(b"J", b"{}"), (b"Z", b""), (b"O", b"\0" * 8 + b"x" * 300), (b"D", bytes(range(256)) * 20)]
WHOLE = b"".join(frames.pack(kind, payload) for kind, payload in SENT)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
def test_frames_come_out_as_they_were_sent_however_the_bytes_are_cut(cuts: list[int]) -> None:
    reader = frames.Reader()
    edges = [0, *sorted(cuts), len(WHOLE)]
    got = [frame for start, end in pairwise(edges) for frame in reader.feed(WHOLE[start:end])]
    assert got == SENT
    assert reader.rest() == b""


@given(st.integers(0, len(WHOLE) + 60))
def test_what_a_login_shell_prints_before_the_magic_line_is_skipped_and_kept_as_noise(cut: int) -> None:
    noise = b"Welcome!\n\0rentroll-agent 0\nO\0\0\0\1"
    reader = frames.Reader(after_magic=True)
    stream = noise + frames.MAGIC + WHOLE
    assert list(reader.feed(stream[:cut])) + list(reader.feed(stream[cut:])) == SENT
    assert (reader.started, reader.noise) == (True, noise)


def test_a_reader_that_waits_for_the_magic_line_has_not_started() -> None:
    reader = frames.Reader(after_magic=True)
    assert list(reader.feed(b"bash: line 1: python3: not found\n" * 1000)) == []
    assert not reader.started
    assert len(reader.noise) <= 4096


def test_a_frame_that_is_too_large_is_refused_on_both_sides() -> None:
    with pytest.raises(ValueError, match="too large"):
        frames.pack(b"D", bytes(frames.PAYLOAD_LIMIT_BYTES + 1))
    with pytest.raises(ValueError, match="too large"):
        list(frames.Reader().feed(b"D\xff\xff\xff\xff"))


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_json_is_what_the_standard_library_makes_of_it(value: dict[str, Any]) -> None:
    assert json.loads(jsontext.encode(value)) == value
    assert jsontext.decode(json.dumps(value).encode()) == value


def test_a_name_that_is_no_utf_8_arrives_as_it_was() -> None:
    name = b"\xff\xfe.txt".decode(errors="surrogateescape")
    assert jsontext.decode(jsontext.encode({"path": name})) == {"path": name}


@pytest.mark.parametrize("text", [b"", b"nothing", b"[1]", b"{}{}", b'{"a":}', b'{"a":1', b"\xff{}"])
def test_what_is_not_one_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each says it in its own words
        jsontext.decode(text)
