"""A folder that is copied as it is with `--path`, and the `.git` folders with `--with-git`."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from ledger.domain.errors import UsageFailure
from providers.worktree.explain import explain
from providers.worktree.scan import scan
from providers.worktree.tree import ScanOptions, Tree
from tests.providers.gitrepo import GitRepo, files, folders, seen_unprivileged


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    return made


def write(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("x")


def tree_of(folder: Path, *, with_git: bool = False) -> Tree:
    return scan(folder, ScanOptions(path_mode=True, with_git=with_git))


def test_everything_in_a_folder_is_copied_but_for_the_built_in_excludes(folder: Path) -> None:
    write(folder, "a", "deep/er/b", ".hidden", "x.log", "node_modules/c", "deep/.venv/d", "env/pyvenv.cfg", "env/e")
    (folder / "empty/inner").mkdir(parents=True)
    tree = tree_of(folder)
    assert files(tree) == [".hidden", "a", "deep/er/b", "x.log"]
    assert folders(tree) == ["deep", "deep/er", "empty", "empty/inner"]
    assert tree.left_out == (b"deep/.venv", b"env", b"node_modules")


def test_git_is_not_asked_where_a_folder_is_copied_as_it_is(repo: GitRepo) -> None:
    repo.commit("a", "lib/b")
    repo.write(".gitignore", text="*.log\n")
    repo.write("lib/x.log")
    assert files(tree_of(repo.folder / "lib")) == ["b", "x.log"]
    assert files(tree_of(repo.folder)) == [".gitignore", "a", "lib/b", "lib/x.log"]


def test_rentrollignore_speaks_for_a_folder_as_well(folder: Path) -> None:
    write(folder, "a.bin", "a.py", "data/b", "node_modules/x/c.js", "node_modules/d.js", "keep/me.bin")
    (folder / ".rentrollignore").write_text("*.bin\ndata/\n!node_modules/x/\n!me.bin\n")
    assert files(tree_of(folder)) == [".rentrollignore", "a.py", "keep/me.bin", "node_modules/x/c.js"]


def test_what_is_no_file_folder_or_link_is_refused_by_name(folder: Path) -> None:
    write(folder, "a")
    os.mkfifo(folder / "queue")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(folder / "door"))
        tree = tree_of(folder)
    assert (files(tree), sorted(tree.refused)) == (["a"], [(b"door", "a socket"), (b"queue", "a pipe")])


def test_a_link_is_neither_followed_nor_left_out(folder: Path) -> None:
    write(folder, "real/a")
    (folder / "loop").symlink_to(".")
    (folder / ".venv").symlink_to("/opt/venv")
    assert files(tree_of(folder)) == ["loop", "real/a"]


def test_the_folder_may_itself_be_a_link(folder: Path, tmp_path: Path) -> None:
    write(folder, "a")
    (tmp_path / "link").symlink_to(folder)
    assert tree_of(tmp_path / "link") == tree_of(folder)


def test_what_cannot_be_read_is_named(folder: Path) -> None:
    write(folder, "a", "closed/b", "secret")
    (folder / "closed").chmod(0)
    (folder / "secret").chmod(0)
    seen = seen_unprivileged(folder, path_mode=True)
    (folder / "closed").chmod(0o700)
    assert seen == "([b'a'], [(b'closed', 'Permission denied'), (b'secret', 'Permission denied')], (), ())"


def test_a_folder_that_cannot_be_read_and_is_left_out_is_not_named(folder: Path) -> None:
    write(folder, ".rentrollignore", "a", "data/b", "node_modules/c", "venv/d")
    (folder / ".rentrollignore").write_text("data/\n!keep\n")
    for name in ("data", "node_modules", "venv"):
        (folder / name).chmod(0)
    seen = seen_unprivileged(folder, path_mode=True)
    for name in ("data", "node_modules", "venv"):
        (folder / name).chmod(0o700)
    assert seen == "([b'.rentrollignore', b'a'], [], (), ())"


def test_a_folder_with_keys_is_never_copied_tracked_or_not(repo: GitRepo) -> None:
    """Scenario: the state folder lies in the home folder, or in a repository, that is copied."""
    repo.commit("state/keys/rl_1/id_ed25519", "states/a", "b", text="secret")
    repo.write(".rentrollignore", text="!state/\n")
    for path_mode in (False, True):
        options = ScanOptions(path_mode=path_mode, private=(os.fsencode(repo.folder / "state"),))
        tree = scan(repo.folder, options)
        assert (files(tree), folders(tree)) == ([".rentrollignore", "b", "states/a"], ["states"])
        assert (tree.files, tree.total_bytes) == (3, sum(entry.size for entry in tree.entries))
        assert tree.refused == ((b"state", "rentroll's own folder, which holds keys"),)
        assert explain(repo.folder, repo.folder / "state/keys", options).included is False
        with pytest.raises(UsageFailure, match="is inside rentroll's own folder"):
            scan(repo.folder / "state/keys", ScanOptions(path_mode=True, private=options.private))


@pytest.mark.parametrize("name", ["absent", "file", "dangling"])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(UsageFailure, match="is no folder"):
        tree_of(tmp_path / name)


def test_with_git_the_repository_works_on_the_other_side(repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("a", "lib/b")
    repo.git("pack-refs", "--all")
    repo.write(".git/index.lock")
    tree = repo.tree(with_git=True)
    assert ".git/index.lock" not in files(tree)
    copy = copied(tree, tmp_path / "copy")
    log = subprocess.run(["git", "log", "--format=%s"], cwd=copy, capture_output=True, text=True, check=True)
    status = subprocess.run(["git", "status", "--porcelain"], cwd=copy, capture_output=True, text=True, check=True)
    assert (log.stdout, status.stdout) == ("more\n", "")


def test_with_git_a_submodule_works_on_the_other_side(repo: GitRepo, tmp_path: Path) -> None:
    library = GitRepo(tmp_path / "library")
    library.commit("lib.py")
    repo.git("submodule", "add", "-q", str(library.folder), "library")
    repo.git("commit", "-qm", "with it")
    copy = copied(repo.tree(with_git=True), tmp_path / "copy")
    status = subprocess.run(["git", "submodule", "status"], cwd=copy, capture_output=True, text=True, check=True)
    assert status.stdout.split()[1:] == ["library", "(heads/main)"]


def test_with_git_and_path_git_folders_are_copied_whole(repo: GitRepo) -> None:
    repo.commit("a")
    repo.git("branch", "venv")
    tree = tree_of(repo.folder, with_git=True)
    assert {".git/HEAD", ".git/refs/heads/venv", "a"} <= set(files(tree))
    assert ".git/refs/tags" in folders(tree)


def test_a_linked_worktree_is_refused_with_git_and_says_why(repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("a")
    linked = tmp_path / "linked"
    repo.git("worktree", "add", "-q", str(linked))
    for options in (ScanOptions(with_git=True), ScanOptions(with_git=True, path_mode=True)):
        with pytest.raises(UsageFailure) as failed:
            scan(linked, options)
        assert failed.value.message == f"--with-git: {linked}/.git is no folder, so the repository itself is elsewhere"
        assert failed.value.next_step == "git worktree list"


def test_a_folder_without_a_repository_is_refused_with_git(folder: Path) -> None:
    with pytest.raises(UsageFailure, match="there is no"):
        tree_of(folder, with_git=True)


def test_a_repository_that_borrows_objects_is_refused_with_git(repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("a")
    repo.git("clone", "-q", "--shared", str(repo.folder), str(tmp_path / "borrower"))
    with pytest.raises(UsageFailure, match="borrows objects"):
        scan(tmp_path / "borrower", ScanOptions(with_git=True))


def test_a_nested_worktree_of_another_repository_is_refused_by_name_with_git(repo: GitRepo, tmp_path: Path) -> None:
    other = GitRepo(tmp_path / "other")
    other.commit("b")
    repo.commit("a")
    other.git("worktree", "add", "-q", str(repo.folder / "linked"))
    tree = repo.tree(with_git=True)
    assert tree.refused == ((b"linked/.git", "a file that names a repository outside of what is copied"),)
    assert "linked/b" in files(tree)


def copied(tree: Tree, to: Path) -> Path:
    """The tree as it arrives: its entries and nothing else."""
    for entry in tree.entries:
        target, source = to / os.fsdecode(entry.path), Path(os.fsdecode(tree.root + b"/" + entry.path))
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == "d":
            target.mkdir(exist_ok=True)
        elif entry.kind == "l":
            target.symlink_to(os.fsdecode(entry.target))
        else:
            target.write_bytes(source.read_bytes())
            target.chmod(entry.mode)
    return to
