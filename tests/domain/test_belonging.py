"""Whether two looks saw one repository: by its origin and its root commit, and by its path only without both."""

import pytest

from ledger.domain.belonging import in_words, is_same
from ledger.domain.events import Repository

ROOT, OTHER_ROOT = "a" * 40, "b" * 40
ORIGIN, OTHER_ORIGIN = "https://example.org/ada/train", "https://example.org/bob/train"
HERE, THERE = "/home/ada/train", "/srv/train"


def look(origin: str | None, root: str | None, path: str) -> Repository:
    return Repository(origin=origin, root_commit=root, path=path)


@pytest.mark.holds("LST-13")
@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param((ORIGIN, ROOT, HERE), (ORIGIN, ROOT, THERE), True, id="a second clone"),
        pytest.param((ORIGIN, ROOT, HERE), (OTHER_ORIGIN, ROOT, HERE), False, id="a fork"),
        pytest.param((ORIGIN, ROOT, HERE), (ORIGIN, OTHER_ROOT, HERE), False, id="another history under one origin"),
        pytest.param((ORIGIN, None, HERE), (ORIGIN, ROOT, THERE), True, id="an unknown root leaves it to the origin"),
        pytest.param((ORIGIN, None, HERE), (OTHER_ORIGIN, ROOT, HERE), False, id="and another origin is another one"),
        pytest.param((None, ROOT, HERE), (ORIGIN, ROOT, THERE), True, id="an unknown origin leaves it to the root"),
        pytest.param((None, ROOT, HERE), (ORIGIN, OTHER_ROOT, HERE), False, id="and another root is another one"),
        pytest.param((None, None, HERE), (None, None, HERE), True, id="with neither it is the path"),
        pytest.param((None, None, HERE), (None, None, THERE), False, id="and another path is another one"),
        pytest.param((ORIGIN, None, HERE), (None, ROOT, HERE), True, id="also where each side knows another half"),
    ],
)
def test_origin_and_root_commit_have_to_agree_as_far_as_both_know_them(
    one: tuple[str | None, str | None, str], other: tuple[str | None, str | None, str], same: bool
) -> None:
    assert (is_same(look(*one), look(*other)), is_same(look(*other), look(*one))) == (same, same)


@pytest.mark.parametrize(
    "spelling",
    [
        "git@example.org:ada/train.git",
        "ssh://git@example.org/ada/train",
        "ssh://git@example.org:22/ada/train.git",
        "https://Example.org/ada/train.git",
        "https://example.org/ada/train/",
    ],
)
def test_one_origin_in_its_spellings_is_one(spelling: str) -> None:
    assert is_same(look(ORIGIN, ROOT, HERE), look(spelling, ROOT, HERE))


@pytest.mark.parametrize(
    "other",
    ["git@example.org:ada/train2", "https://example.net/ada/train", "ssh://example.org:2222/ada/train", "/ada/train"],
)
def test_another_host_port_or_path_is_another_origin(other: str) -> None:
    assert not is_same(look(ORIGIN, ROOT, HERE), look(other, ROOT, HERE))


def test_a_repository_is_told_by_its_origin_else_its_path() -> None:
    assert (in_words(look(ORIGIN, ROOT, HERE)), in_words(look(None, ROOT, HERE))) == (ORIGIN, HERE)
