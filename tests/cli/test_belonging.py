"""Whose a lease is: another repository works on it only with `--reclaim`; and which repository we stand in."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli.repository import here, is_dirty
from tests.cli.running import Rentroll

ON_BOX = ("run", "--id", "box", "--no-sync")
NOBODY = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], check=True, capture_output=True, text=True, env={**os.environ, **NOBODY}
    )
    return done.stdout.strip()


def make(folder: Path, *, origin: str | None = None, commits: int = 0) -> Path:
    """A repository with so many empty commits."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q")
    if origin is not None:
        git(folder, "remote", "add", "origin", origin)
    for number in range(commits):
        git(folder, "commit", "-q", "--allow-empty", "-m", f"{folder} {number}")
    return folder


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return make(tmp_path / "other", commits=1)


def facts(rentroll: Rentroll) -> list[Any]:
    return [json.loads(line) for line in rentroll("events", "box", "--jsonl").out.splitlines()]


@pytest.mark.holds("LST-13")
def test_another_repositorys_lease_is_refused_and_nothing_is_done_to_it(
    rentroll: Rentroll, repository: Path, box: Any, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = facts(rentroll)
    monkeypatch.chdir(other)
    ran = rentroll(*ON_BOX, "--json", "--", "true")
    assert (ran.code, ran.error) == (
        125,
        {
            "code": "usage",
            "exit_code": 2,
            "message": f"lease box belongs to another repository: {repository}",
            "hint": "--reclaim takes it over for this one",
            "lease_id": box["lease_id"],
        },
    )
    assert facts(rentroll) == before


@pytest.mark.holds("LST-13")
def test_a_lease_that_is_reclaimed_belongs_here_from_then_on_and_that_is_an_event(
    rentroll: Rentroll, repository: Path, box: Any, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(other)
    assert rentroll(*ON_BOX, "--reclaim", "--", "true").code == 0
    assert rentroll(*ON_BOX, "--reclaim", "--", "true").code == 0
    moves = [fact["payload"] for fact in facts(rentroll) if fact["type"] == "claim-moved"]
    assert moves == [
        {
            "repository": {"origin": None, "root_commit": git(other, "rev-parse", "HEAD"), "path": str(other)},
            "host": os.uname().nodename,
            "reason": "taken with --reclaim",
        }
    ]
    assert rentroll("status", "box", "--json").json["repo"] == str(other)
    monkeypatch.chdir(repository)
    assert rentroll(*ON_BOX, "--", "true").code == 125


@pytest.mark.holds("LST-13")
def test_outside_of_any_repository_every_lease_is_worked_on_by_its_name(
    rentroll: Rentroll, repository: Path, box: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert rentroll(*ON_BOX, "--", "true").code == 0


def test_what_was_leased_outside_of_any_repository_is_worked_on_from_everywhere(
    rentroll: Rentroll, box: Any, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(other)
    assert rentroll(*ON_BOX, "--", "true").code == 0


@pytest.mark.holds("LST-13")
def test_what_only_looks_or_ends_asks_nobody_whose_a_lease_is(
    rentroll: Rentroll, repository: Path, box: Any, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(other)
    assert [rentroll(word, "box").code for word in ("status", "touch", "stop")] == [0, 0, 0]


def asked(folder: Path) -> tuple[str | None, str | None, str, str | None]:
    """What git says: origin, root commit, top level and commit."""
    words = ["git", "-C", str(folder), "rev-parse", "-q", "--verify", "HEAD"]
    commit = subprocess.run(words, check=False, capture_output=True, text=True).stdout.strip() or None
    remotes = git(folder, "remote").splitlines()
    return (
        git(folder, "remote", "get-url", "origin") if "origin" in remotes else None,
        git(folder, "rev-list", "--max-parents=0", "HEAD").splitlines()[-1] if commit else None,
        git(folder, "rev-parse", "--show-toplevel"),
        commit,
    )


def worktree(folder: Path) -> Path:
    made = make(folder / "main", origin="git@example.org:a/b.git", commits=2)
    git(made, "worktree", "add", "-q", str(folder / "linked"), "-b", "linked")
    return folder / "linked"


def detached(folder: Path) -> Path:
    made = make(folder / "detached", commits=2)
    git(made, "checkout", "-q", "--detach", "HEAD~1")
    return made


def packed(folder: Path) -> Path:
    made = make(folder / "packed", commits=2)
    git(made, "pack-refs", "--all")
    return made


def included(folder: Path) -> Path:
    """The origin stands in another file."""
    made = make(folder / "included", commits=1)
    (made / "more").write_text('[remote "origin"]\n\turl = https://example.org/x\n')
    git(made, "config", "include.path", "../more")
    return made


def below(folder: Path) -> Path:
    inner = make(folder / "below", origin="https://example.org/x", commits=1) / "a" / "b"
    inner.mkdir(parents=True)
    return inner


@pytest.mark.parametrize(
    "laid_out",
    [
        pytest.param(lambda folder: make(folder / "empty"), id="without a commit"),
        pytest.param(lambda folder: make(folder / "plain", origin="https://example.org/x", commits=3), id="plain"),
        pytest.param(below, id="in a folder of it"),
        pytest.param(worktree, id="a linked working tree"),
        pytest.param(detached, id="a detached HEAD"),
        pytest.param(packed, id="packed references"),
        pytest.param(included, id="an origin in another file"),
    ],
)
def test_what_is_read_from_gits_files_is_what_git_says(
    laid_out: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = laid_out(tmp_path / "made")
    monkeypatch.chdir(folder)
    found = here(str(tmp_path / "cache"))
    assert found is not None
    seen = (found.repository.origin, found.repository.root_commit, found.repository.path, found.commit)
    assert seen == asked(folder)


def test_a_root_commit_is_asked_for_once_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path / "made", commits=2)
    monkeypatch.chdir(folder)
    first = here(str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")
    assert here(str(tmp_path / "cache")) == first
    without = here()
    assert without is not None
    assert without.repository.root_commit is None


def test_the_root_of_a_shallow_clone_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(tmp_path / "source", commits=3)
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{source}", "shallow")
    monkeypatch.chdir(tmp_path / "shallow")
    found = here()
    assert found is not None
    assert (found.repository.root_commit, found.commit) == (None, git(source, "rev-parse", "HEAD"))


def test_outside_of_a_repository_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (here(), is_dirty()) == (None, None)


def test_a_tree_is_dirty_with_a_changed_or_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make(tmp_path / "made", commits=1))
    clean = is_dirty()
    Path("new").touch()
    assert (clean, is_dirty()) == (False, True)
