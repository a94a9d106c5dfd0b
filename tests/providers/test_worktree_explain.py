"""The rule that decides on a path is named, and agrees with what a scan takes."""

import os
import random
import shutil
from pathlib import Path

import pytest

from ledger.domain.errors import UsageFailure
from providers.worktree.explain import Explanation, Rule, explain
from providers.worktree.scan import scan
from providers.worktree.tree import ScanOptions
from tests.providers.gitrepo import GitRepo, entry


def told(repo: GitRepo, path: str, *, options: ScanOptions | None = None) -> Explanation:
    return explain(repo.folder, repo.folder / path, options or ScanOptions())


@pytest.fixture
def full(repo: GitRepo, tmp_path: Path) -> GitRepo:
    """One of everything."""
    library = GitRepo(tmp_path / "library")
    library.commit("lib.py", ".gitignore", text="*.tmp\n")
    repo.commit("tracked.py", "ignored-but-tracked.log", "gone.py", "staged.py", "sparse/s.py", "venv/tracked.py")
    repo.git("submodule", "add", "-q", str(library.folder), "library")
    repo.commit(".gitignore", text="# a comment\n*.log\nout/\nvendor/\n")
    repo.git("update-index", "--skip-worktree", "sparse/s.py")
    shutil.rmtree(repo.folder / "sparse")
    (repo.folder / "gone.py").unlink()
    repo.git("rm", "-q", "staged.py")
    repo.write("new.py", "lib/new.py", "x.log", "out/a", "node_modules/m.js", "env/pyvenv.cfg", "env/python")
    repo.write(".rentroll-1a-2b.part")
    repo.write("library/x.tmp", "library/new.py", "w.bin", "out/keep.bin", "drop.csv", "only/x.log")
    repo.write(".rentrollignore", text="# rules\n*.csv\n!*.bin\n")
    GitRepo(repo.folder / "vendor/thing").commit("t.py", "t.bin")
    GitRepo(repo.folder / "tools/inner").commit("i.py")
    GitRepo(repo.folder / "node_modules/dep").commit("d.js")
    (repo.folder / "empty").mkdir()
    (repo.folder / "far").symlink_to("/etc")
    os.mkfifo(repo.folder / "queue")
    return repo


CASES = {
    "tracked.py": (True, Rule.TRACKED, "it is in git's index"),
    "ignored-but-tracked.log": (True, Rule.TRACKED, "it is in git's index"),
    "venv/tracked.py": (True, Rule.TRACKED, "it is in git's index"),
    "new.py": (True, Rule.UNTRACKED, "git does not track it and does not ignore it"),
    "far": (True, Rule.UNTRACKED, "git does not track it and does not ignore it"),
    "x.log": (False, Rule.IGNORED, ".gitignore:2: *.log"),
    "out/a": (False, Rule.IGNORED, ".gitignore:3: out/"),
    "out": (True, Rule.FOLDER, "1 file in it to be copied, 2 B"),
    "only": (False, Rule.FOLDER, "nothing in it is copied"),
    "lib": (True, Rule.FOLDER, "1 file in it to be copied, 2 B"),
    "empty": (True, Rule.FOLDER, "it is empty and is made"),
    "out/keep.bin": (True, Rule.IGNORE_FILE, ".rentrollignore line 3: !*.bin"),
    "drop.csv": (False, Rule.IGNORE_FILE, ".rentrollignore line 2: *.csv"),
    "node_modules/m.js": (False, Rule.BUILT_IN, "node_modules: installed packages; git does not track it"),
    ".rentroll-1a-2b.part": (
        False,
        Rule.BUILT_IN,
        ".rentroll-1a-2b.part: an unfinished copy of ours; git does not track it",
    ),
    "node_modules": (False, Rule.BUILT_IN, "node_modules: installed packages; git does not track it"),
    "node_modules/dep/d.js": (False, Rule.BUILT_IN, "node_modules: installed packages; git does not track it"),
    "env/python": (False, Rule.BUILT_IN, "env: virtual environment; git does not track it"),
    "gone.py": (False, Rule.DELETED, "it is in git's index and not in the working tree"),
    "staged.py": (False, Rule.DELETED, "it is in HEAD, and its deletion is staged"),
    "sparse/s.py": (False, Rule.SPARSE, "it is in git's index and not checked out: never a deletion on the box"),
    "never.py": (False, Rule.ABSENT, "there is no such file"),
    "queue": (False, Rule.REFUSED, "it is a pipe"),
    "library/lib.py": (True, Rule.TRACKED, "it is in git's index"),
    "library/new.py": (True, Rule.UNTRACKED, "git does not track it and does not ignore it"),
    "library/x.tmp": (False, Rule.IGNORED, "library/.gitignore:1: *.tmp"),
    "tools/inner/i.py": (True, Rule.TRACKED, "it is in git's index"),
    "vendor/thing/t.py": (False, Rule.IGNORED, ".gitignore:4: vendor/"),
    "vendor/thing/t.bin": (True, Rule.IGNORE_FILE, ".rentrollignore line 3: !*.bin"),
    ".git/HEAD": (False, Rule.BUILT_IN, ".git: version control; git does not track it"),
    "../library": (False, Rule.OUTSIDE, "it is not below {root}"),
}


@pytest.mark.holds("PEER-48")
def test_the_rule_and_its_source_are_named(full: GitRepo) -> None:
    expected = {
        path: (included, rule, source.format(root=full.folder)) for path, (included, rule, source) in CASES.items()
    }
    assert {path: tuple(told(full, path)) for path in CASES} == expected


def test_a_rule_of_the_user_is_named_with_its_file(repo: GitRepo, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("*.orig\n")
    repo.git("config", "core.excludesFile", str(tmp_path / "mine"))
    repo.write("a.orig")
    assert told(repo, "a.orig") == (False, Rule.IGNORED, f"{tmp_path}/mine:1: *.orig")


def test_a_mark_of_an_environment_that_is_tracked_marks_none(repo: GitRepo) -> None:
    repo.commit("example/pyvenv.cfg")
    repo.write("example/new")
    assert told(repo, "example/new").rule is Rule.UNTRACKED
    assert entry(repo.tree(), "example/new").kind == "f"


def test_the_same_is_said_from_a_folder_below_and_for_a_relative_path(
    full: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(full.folder / "out")
    assert explain(Path(), Path("a"), ScanOptions()) == (False, Rule.IGNORED, ".gitignore:3: out/")
    assert explain(Path(), Path("../new.py"), ScanOptions()).rule is Rule.UNTRACKED


def test_with_git_its_folder_is_explained(full: GitRepo) -> None:
    full.write(".git/index.lock")
    options = ScanOptions(with_git=True)
    assert told(full, ".git/HEAD", options=options) == (True, Rule.WITH_GIT, "--with-git copies the repository")
    assert told(full, ".git/index.lock", options=options).included is False


def test_a_folder_that_is_taken_as_it_is_is_explained(full: GitRepo) -> None:
    options = ScanOptions(path_mode=True)
    assert {path: tuple(told(full, path, options=options)) for path in ("x.log", "drop.csv", "env/python", "nope")} == {
        "x.log": (True, Rule.PATH, "--path copies a folder as it is"),
        "drop.csv": (False, Rule.IGNORE_FILE, ".rentrollignore line 2: *.csv"),
        "env/python": (False, Rule.BUILT_IN, "env: virtual environment; git does not track it"),
        "nope": (False, Rule.ABSENT, "there is no such file"),
    }


def test_outside_of_a_repository_there_is_nothing_to_explain(tmp_path: Path, repo: GitRepo) -> None:
    with pytest.raises(UsageFailure, match="is in no git repository"):
        explain(tmp_path, tmp_path / "a", ScanOptions())


@pytest.mark.parametrize("options", [ScanOptions(), ScanOptions(path_mode=True)], ids=["git", "path"])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_explained_as_copied_is_what_a_scan_takes(repo: GitRepo, seed: int, options: ScanOptions) -> None:
    """Over trees of names that meet every rule, in random places."""
    chance = random.Random(seed)
    parts = ["a", "b.log", "c.bin", "out", "venv", "node_modules", "keep", "d e"]
    for _ in range(25):
        folder = "/".join(chance.choices(parts, k=chance.randrange(3)))
        try:
            repo.write(f"{folder}/{chance.choice(parts)}".lstrip("/"))
        except (FileExistsError, IsADirectoryError, NotADirectoryError):
            continue
        if chance.random() < 0.2:
            repo.git("add", "-A")
    (repo.folder / ".gitignore").write_text("*.log\nout/\n")
    (repo.folder / ".rentrollignore").write_text(chance.choice(["*.bin\n", "!keep\n*.bin\n", "!out/\n", "venv/\n!a\n"]))
    taken = {each.path for each in scan(repo.folder, options).entries if each.kind == "f"}
    there = [path for path in repo.folder.rglob("*") if path.is_file() and ".git" not in path.parts]
    explained = {
        os.fsencode(path.relative_to(repo.folder)) for path in there if explain(repo.folder, path, options).included
    }
    assert explained == taken


def test_a_repository_with_nothing_in_it_is_explained(repo: GitRepo) -> None:
    assert told(repo, ".") == (False, Rule.FOLDER, "nothing in it is copied")
