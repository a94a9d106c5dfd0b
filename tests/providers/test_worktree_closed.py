"""What git cannot read is named, never left out in silence: its copy on the box would be deleted."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from providers.worktree.git import Answer
from tests.providers.gitrepo import GitRepo, explained_unprivileged, seen_unprivileged

DENIED = "Permission denied"


@pytest.fixture
def close(repo: GitRepo) -> Iterator[Callable[..., None]]:
    """Closes folders of the repository, for as long as the test lasts."""
    closed: list[Path] = []

    def close_(*paths: str | bytes, mode: int = 0) -> None:
        for path in paths:
            folder = repo.folder / os.fsdecode(path)
            folder.chmod(mode)
            closed.append(folder)

    yield close_
    for folder in closed:
        folder.chmod(0o755)


def seen(paths: list[bytes], closed: list[bytes], missing: tuple[bytes, ...] = (), notes: tuple[str, ...] = ()) -> str:
    return repr((paths, [(path, DENIED) for path in closed], missing, notes))


def test_a_new_folder_that_cannot_be_read_is_named(repo: GitRepo, close: Callable[..., None]) -> None:
    repo.commit("a")
    repo.write("new/b", "other/deep/c", "other/d")
    close("new", "other/deep")
    assert seen_unprivileged(repo.folder) == seen([b"a", b"other", b"other/d"], [b"new", b"other/deep"])


def test_of_a_tracked_folder_that_cannot_be_read_everything_is_named_and_nothing_is_missing(
    repo: GitRepo, close: Callable[..., None]
) -> None:
    repo.commit("lib/a", "lib/deep/b", "c")
    close("lib")
    assert seen_unprivileged(repo.folder) == seen([b"c"], [b"lib", b"lib/a", b"lib/deep/b"])


def test_a_folder_that_can_be_entered_and_not_listed_is_named_though_its_tracked_files_are_known(
    repo: GitRepo, close: Callable[..., None]
) -> None:
    repo.commit("lib/a")
    repo.write("lib/new")
    close("lib", mode=0o311)
    assert seen_unprivileged(repo.folder) == seen([b"lib", b"lib/a"], [b"lib"])


def test_a_submodule_and_a_repository_inside_are_named_and_so_is_what_is_closed_in_one(
    repo: GitRepo, tmp_path: Path, close: Callable[..., None]
) -> None:
    library = GitRepo(tmp_path / "library")
    library.commit("a")
    repo.git("submodule", "add", "-q", str(library.folder), "module")
    GitRepo(repo.folder / "inner").commit("b")
    GitRepo(repo.folder / "tools").write("c", "closed/d")
    close("module", "inner", "tools/closed")
    assert seen_unprivileged(repo.folder) == seen(
        [b".gitmodules", b"tools", b"tools/c"], [b"inner", b"module", b"tools/closed"]
    )


@pytest.mark.parametrize("rules", [None, "data/\n", "data/\n!keep\n"], ids=["built-in", "named", "with a `!` line"])
def test_a_folder_that_cannot_be_read_and_is_left_out_is_not_named(
    repo: GitRepo, close: Callable[..., None], rules: str | None
) -> None:
    repo.commit(".gitignore", text="ignored/\n")
    repo.write("node_modules/a", "ignored/b", "env/pyvenv.cfg", "env/lib/c")
    left = [b".gitignore"]
    if rules is not None:
        repo.write("data/d")
        repo.write(".rentrollignore", text=rules)
        close("data")
        left.append(b".rentrollignore")
    close("node_modules", "ignored", "env/lib")
    assert seen_unprivileged(repo.folder) == seen(left, [])


def test_an_ignored_folder_that_cannot_be_read_is_named_where_it_is_brought_back(
    repo: GitRepo, close: Callable[..., None]
) -> None:
    repo.commit(".gitignore", text="ignored/\nother/\n")
    repo.write("ignored/a", "other/b", "new/c")
    repo.write(".rentrollignore", text="!ignored/\n!new/\n")
    close("ignored", "other", "new")
    assert seen_unprivileged(repo.folder) == seen([b".gitignore", b".rentrollignore"], [b"ignored", b"new"])


@pytest.mark.parametrize("name", [b"with space", b"it's", b"new\nline", b"caf\xe9", b"d': e"])
def test_a_name_that_is_unusual_is_told_as_it_is(repo: GitRepo, close: Callable[..., None], name: bytes) -> None:
    repo.write(b"new/" + name + b"/a")
    close(b"new/" + name)
    assert seen_unprivileged(repo.folder) == seen([], [b"new/" + name])


def test_from_a_folder_below_a_top_that_cannot_be_listed_the_top_is_named(
    repo: GitRepo, close: Callable[..., None]
) -> None:
    repo.commit("lib/a")
    close(".", mode=0o311)
    assert seen_unprivileged(repo.folder / "lib") == seen([b"lib", b"lib/a"], [b"."])


def test_it_is_explained(repo: GitRepo, close: Callable[..., None]) -> None:
    repo.write("new/a")
    close("new")
    assert explained_unprivileged(repo.folder, "new") == "(False, 'cannot be copied', 'it cannot be read')"


def test_a_folder_that_went_while_git_looked_is_none_that_cannot_be_read() -> None:
    said = (
        b"warning: unable to access 'x/.gitignore': Permission denied\n"
        b"warning: could not open directory 'gone/': No such file or directory\n"
        b"warning: could not open directory 'full/': Too many open files\n"
    )
    answer = Answer(0, b"", said)
    assert answer.closed == {b"full": "Too many open files"}
    assert answer.notes == ["unable to access 'x/.gitignore': Permission denied"]
