"""`.rentrollignore` and the built-in excludes: what they leave out, and what they bring back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.domain.errors import UsageFailure
from providers.worktree.builtin import EXCLUDED
from providers.worktree.explain import Explanation, Rule, explain
from providers.worktree.tree import ScanOptions
from tests.providers.gitrepo import GitRepo, files, folders


def test_built_in_excludes_leave_out_what_git_neither_tracks_nor_ignores(repo: GitRepo) -> None:
    repo.commit("main.py")
    repo.write("node_modules/a/b.js", "lib/__pycache__/m.pyc", ".venv/bin/python", ".hg/store", "lib/m.py", ".DS_Store")
    tree = repo.tree()
    assert files(tree) == ["lib/m.py", "main.py"]
    assert tree.left_out == (b".DS_Store", b".hg", b".venv", b"lib/__pycache__", b"node_modules")


@pytest.mark.parametrize("name", sorted(os.fsdecode(name) for name in EXCLUDED - {b".git"}))
def test_a_tracked_file_wins_over_every_built_in_exclude(repo: GitRepo, name: str) -> None:
    repo.commit(f"lib/{name}/file")
    assert files(repo.tree()) == [f"lib/{name}/file"]


def test_a_virtual_environment_is_known_by_its_mark_whatever_its_name(repo: GitRepo) -> None:
    repo.write("env/pyvenv.cfg", "env/bin/python", "environment/file", "tools/py312/pyvenv.cfg", "tools/py312/lib/m.py")
    tree = repo.tree()
    assert files(tree) == ["environment/file"]
    assert tree.left_out == (b"env", b"tools/py312")


def test_empty_folders_and_repositories_in_a_virtual_environment_are_left_out_as_well(repo: GitRepo) -> None:
    """An editable install clones into `src/` of the environment."""
    repo.write("env/pyvenv.cfg", "env/bin/python", "tools/py312/pyvenv.cfg", "new/file")
    for path in ("env/include", "env/lib/deep/empty", "tools/py312/include", "new/include", "environment"):
        (repo.folder / path).mkdir(parents=True)
    GitRepo(repo.folder / "env/src/package").commit("setup.py")
    tree = repo.tree()
    assert (files(tree), folders(tree)) == (["new/file"], ["environment", "new", "new/include"])
    assert tree.left_out == (b"env", b"tools/py312")
    for path in ("env/include", "env/src/package/setup.py"):
        told = explain(repo.folder, repo.folder / path, ScanOptions())
        assert told == Explanation(False, Rule.BUILT_IN, "env: virtual environment; git does not track it")


def test_a_submodule_at_a_name_that_is_excluded_is_copied_with_what_is_new_in_it(repo: GitRepo, tmp_path: Path) -> None:
    library = GitRepo(tmp_path / "library")
    library.commit("a")
    repo.git("submodule", "add", "-q", str(library.folder), "venv")
    (repo.folder / "venv/new").touch()
    assert files(repo.tree()) == [".gitmodules", "venv/a", "venv/new"]


def test_a_repository_that_nobody_declared_at_such_a_name_is_left_out(repo: GitRepo) -> None:
    GitRepo(repo.folder / "node_modules/thing").commit("a")
    tree = repo.tree()
    assert (files(tree), tree.left_out) == ([], (b"node_modules",))


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        pytest.param("*.bin\n", ["a.py", "data/a.csv", "data/deep/b.csv", "docs/a.md"], id="a suffix"),
        pytest.param("data/\n", ["a.py", "docs/a.md", "w.bin"], id="a folder"),
        pytest.param("/data/*.csv\n", ["a.py", "data/deep/b.csv", "docs/a.md", "w.bin"], id="from the top"),
        pytest.param("data/\n!data/deep/\n", ["a.py", "data/deep/b.csv", "docs/a.md", "w.bin"], id="brought back"),
        pytest.param("# data/\n\n  \n", ["a.py", "data/a.csv", "data/deep/b.csv", "docs/a.md", "w.bin"], id="no rule"),
        pytest.param("\ufeffdata/\r\n*.bin\r\n", ["a.py", "docs/a.md"], id="written on Windows"),
        pytest.param("*\n!*.py\n", ["a.py"], id="only some"),
    ],
)
def test_rentrollignore_leaves_out_tracked_and_new_files_alike(repo: GitRepo, rules: str, left: list[str]) -> None:
    repo.commit("a.py", "data/a.csv", "w.bin")
    repo.write("data/deep/b.csv", "docs/a.md")
    (repo.folder / ".rentrollignore").write_text(rules, newline="")
    assert [path for path in files(repo.tree()) if path != ".rentrollignore"] == left


def test_a_line_with_a_mark_of_exclamation_brings_back_what_git_ignores(repo: GitRepo) -> None:
    repo.commit(".gitignore", text="*.bin\nout/\n.env\n")
    repo.write("w.bin", "deep/w.bin", "out/keep/a", "out/b", ".env", "x.py")
    repo.write(".rentrollignore", text="!deep/*.bin\n!out/keep/\n")
    assert files(repo.tree()) == [".gitignore", ".rentrollignore", "deep/w.bin", "out/keep/a", "x.py"]


def test_it_brings_back_what_a_built_in_leaves_out(repo: GitRepo) -> None:
    repo.write("node_modules/a/b.js", "node_modules/c.js", ".venv/x", "env/pyvenv.cfg", "env/y")
    repo.write(".rentrollignore", text="!node_modules/a/\n!env/y\n")
    assert files(repo.tree()) == [".rentrollignore", "env/y", "node_modules/a/b.js"]


def test_it_brings_back_parts_of_a_repository_that_git_ignores(repo: GitRepo) -> None:
    repo.commit(".gitignore", text="vendor/\n")
    library = GitRepo(repo.folder / "vendor/library")
    library.commit(".gitignore", text="*.log\n")
    library.write("data.bin", "noise.log", "code.py")
    repo.write(".rentrollignore", text="!data.bin\n!noise.log\n")
    assert files(repo.tree()) == [
        ".gitignore",
        ".rentrollignore",
        "vendor/library/data.bin",
        "vendor/library/noise.log",
    ]


def test_it_speaks_for_the_repositories_inside_as_well(repo: GitRepo) -> None:
    GitRepo(repo.folder / "tools/inner").commit("a.bin", "b.py")
    repo.write("tools/inner/new.bin", ".rentrollignore", text="/tools/inner/*.bin\n")
    assert files(repo.tree()) == [".rentrollignore", "tools/inner/b.py"]


def test_it_leaves_out_a_whole_repository_and_empty_folders(repo: GitRepo) -> None:
    repo.commit("a")
    GitRepo(repo.folder / "tools/inner").commit("b")
    for name in ("empty", "other"):
        (repo.folder / name).mkdir()
    repo.write(".rentrollignore", text="tools/\nempty/\n")
    tree = repo.tree()
    assert (files(tree), folders(tree)) == ([".rentrollignore", "a"], ["other"])


def test_names_that_are_not_utf_8_are_matched(repo: GitRepo) -> None:
    repo.write(b"caf\xe9.csv", b"caf\xe9.py")
    (repo.folder / ".rentrollignore").write_bytes(b"caf\xe9.csv\n")
    assert [entry.path for entry in repo.tree().entries] == [b".rentrollignore", b"caf\xe9.py"]


def test_what_is_excluded_is_no_deletion_when_it_goes(repo: GitRepo) -> None:
    repo.commit("a.bin", "b.py")
    repo.write(".rentrollignore", text="*.bin\n")
    (repo.folder / "a.bin").unlink()
    assert repo.tree().missing == ()


def test_a_line_that_is_no_pattern_is_named(repo: GitRepo) -> None:
    repo.write(".rentrollignore", text="# fine\n*.bin\n!\n")
    with pytest.raises(UsageFailure) as failed:
        repo.tree()
    assert failed.value.message == ".rentrollignore line 3 is no pattern: '!'"


def test_a_file_of_rules_that_cannot_be_read_is_refused(repo: GitRepo) -> None:
    (repo.folder / ".rentrollignore").mkdir()
    with pytest.raises(UsageFailure) as failed:
        repo.tree()
    assert failed.value.message == ".rentrollignore cannot be read: Is a directory"


@pytest.mark.parametrize(("rules", "loaded"), [(None, False), ("*.bin\n", True)])
def test_the_library_of_patterns_is_loaded_only_for_rules(repo: GitRepo, rules: str | None, loaded: bool) -> None:
    if rules is not None:
        repo.write(".rentrollignore", text=rules)
    program = (
        "import sys; from pathlib import Path; from providers.worktree.scan import scan; "
        "from providers.worktree.tree import ScanOptions; scan(Path(sys.argv[1]), ScanOptions()); "
        "print('pathspec' in sys.modules, sorted({'rich', 'paramiko', 'asyncio', 'tempfile'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, repo.folder],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), *sys.path]))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{loaded} []\n"
