"""What is copied of a git repository: what git says, taken from real repositories."""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from providers.agent.manifest import Entry
from providers.worktree.scan import scan
from providers.worktree.tree import ScanOptions
from tests.providers.gitrepo import GitRepo, entry, files, folders


def test_what_is_tracked_and_what_is_new_and_not_ignored_is_copied(repo: GitRepo) -> None:
    repo.commit("kept.py", "lib/kept.py")
    repo.write(".gitignore", text="*.log\nbuild/\n")
    repo.write("new.py", "new/deep/file.py", "noise.log", "build/out.o")
    assert files(repo.tree()) == [".gitignore", "kept.py", "lib/kept.py", "new.py", "new/deep/file.py"]


@pytest.mark.holds("PEER-49")
def test_a_tracked_file_is_copied_though_git_would_ignore_it(repo: GitRepo) -> None:
    repo.commit("weights.bin")
    repo.commit(".gitignore", text="*.bin\n")
    assert files(repo.tree()) == [".gitignore", "weights.bin"]


def test_modes_sizes_times_and_folders_are_those_of_the_disk(repo: GitRepo) -> None:
    repo.commit("bin/tool", text="12345")
    (repo.folder / "bin/tool").chmod(0o750)
    (repo.folder / "bin").chmod(0o711)
    os.utime(repo.folder / "bin/tool", ns=(1, 1_234_567_890_123_456_789))
    tree = repo.tree()
    assert tree.entries == [
        Entry(b"bin", "d", 0o711, 0, 0, b""),
        Entry(b"bin/tool", "f", 0o750, 5, 1_234_567_890_123_456_789, b""),
    ]
    assert (tree.root, tree.files, tree.total_bytes) == (os.fsencode(repo.folder), 1, 5)
    assert tree.look([b"bin/tool", b"gone"]) == [tree.entries[1]]
    assert tree.digest == repo.tree().digest


@pytest.mark.parametrize("name", ["with space", "new\nline", "tab\there", 'quo"te', "ünï", "-dash", ":(top)x", "a*?["])
def test_a_name_that_is_unusual_is_copied_as_it_is(repo: GitRepo, name: str) -> None:
    repo.commit(f"{name}/tracked {name}")
    new = [f"{name}/new {name}", f"new {name}/deep/{name}", f"{name} too/{name}"]
    repo.write(*new)
    assert files(repo.tree()) == sorted([f"{name}/tracked {name}", *new])


def test_a_name_that_is_not_utf_8_is_copied_as_it_is(repo: GitRepo) -> None:
    repo.commit(b"caf\xe9/tracked\xff")
    repo.write(b"caf\xe9/new\xfe", b"new\xe9/file")
    assert [entry.path for entry in repo.tree().entries if entry.kind == "f"] == [
        b"caf\xe9/new\xfe",
        b"caf\xe9/tracked\xff",
        b"new\xe9/file",
    ]


def test_links_are_copied_as_links_and_those_that_lead_out_are_named(repo: GitRepo) -> None:
    repo.commit("lib/real")
    for link, target in {
        "in": "lib/real",
        "dangling": "nowhere",
        "lib/up": "../in",
        "far": "/etc",
        "lib/out": "../../x",
    }.items():
        (repo.folder / link).symlink_to(target)
    repo.git("add", "in", "far")
    tree = repo.tree()
    assert entry(tree, "in") == Entry(b"in", "l", 0, 0, 0, b"lib/real")
    assert files(tree) == ["dangling", "far", "in", "lib/out", "lib/real", "lib/up"]
    assert sorted(tree.strays) == [(b"far", b"/etc"), (b"lib/out", b"../../x")]


def test_empty_folders_are_copied_and_ignored_ones_are_not(repo: GitRepo) -> None:
    repo.commit("lib/a.py")
    repo.write(".gitignore", text="ignored*/\n*.log\n")
    repo.write("new/file", "only-ignored/x.log", "new/ignored-too/inner/f")
    for folder in ("empty", "lib/empty/deep", "new/sub/empty", "ignored", "new/ignored", "only-ignored/empty"):
        (repo.folder / folder).mkdir(parents=True)
    assert folders(repo.tree()) == [
        *("empty", "lib", "lib/empty", "lib/empty/deep", "new", "new/sub", "new/sub/empty"),
        *("only-ignored", "only-ignored/empty"),
    ]


def test_many_new_folders_are_copied_with_what_is_in_them(repo: GitRepo) -> None:
    repo.commit("a")
    new = [f"new{number:03}/file" for number in range(250)]
    repo.write(*new)
    (repo.folder / "new000/empty").mkdir()
    tree = repo.tree()
    assert (files(tree), len(folders(tree))) == (["a", *new], 251)


def test_from_a_folder_below_the_whole_repository_is_copied(repo: GitRepo) -> None:
    repo.commit("top.py", "lib/a.py", "lib/deep/b.py")
    repo.write("lib/new.py", "other/new.py")
    assert repo.tree(below="lib/deep") == repo.tree()
    assert files(repo.tree(below="lib/deep")) == ["lib/a.py", "lib/deep/b.py", "lib/new.py", "other/new.py", "top.py"]


def test_files_that_are_deleted_here_are_counted_and_named(repo: GitRepo) -> None:
    repo.commit("a", "b", "c", "d/e", "kept")
    (repo.folder / "a").unlink()
    repo.git("rm", "-q", "b", "d/e")
    repo.git("rm", "-q", "--cached", "c")  # still here, and new to git: no deletion
    tree = repo.tree()
    assert (tree.missing, tree.tracked_missing) == ((b"a", b"b", b"d/e"), 3)
    assert files(tree) == ["c", "kept"]


def test_a_file_that_was_renamed_in_the_index_is_no_deletion(repo: GitRepo) -> None:
    repo.commit("before", text="some text that is long enough\n")
    repo.git("mv", "before", "after")
    tree = repo.tree()
    assert (files(tree), tree.missing) == (["after"], ())


@pytest.mark.holds("PEER-49")
def test_what_a_sparse_checkout_leaves_out_is_omitted_and_no_deletion(repo: GitRepo) -> None:
    repo.commit("here/a", "there/b", "there/deep/c", "top")
    repo.git("sparse-checkout", "set", "--cone", "here")
    tree = repo.tree()
    assert files(tree) == ["here/a", "top"]
    assert tree.omitted == {b"there/b", b"there/deep/c"}
    assert tree.missing == ()


@pytest.mark.holds("PEER-49")
def test_a_sparse_index_omits_the_same(repo: GitRepo) -> None:
    repo.commit("here/a", "there/b", "there/deep/c", "top")
    repo.git("sparse-checkout", "set", "--cone", "--sparse-index", "here")
    tree = repo.tree()
    assert (files(tree), tree.omitted) == (["here/a", "top"], frozenset({b"there/b", b"there/deep/c"}))


def test_a_skipped_file_that_is_here_all_the_same_is_copied(repo: GitRepo) -> None:
    repo.commit("local.cfg")
    repo.git("update-index", "--skip-worktree", "local.cfg")
    assert files(repo.tree()) == ["local.cfg"]
    (repo.folder / "local.cfg").unlink()
    tree = repo.tree()
    assert (files(tree), tree.omitted, tree.missing) == ([], frozenset({b"local.cfg"}), ())


def test_a_file_that_git_is_told_not_to_look_at_is_copied_as_it_is_now(repo: GitRepo) -> None:
    repo.commit("assumed")
    repo.git("update-index", "--assume-unchanged", "assumed")
    repo.write("assumed", text="changed since")
    assert entry(repo.tree(), "assumed").size == len("changed since")


def test_a_file_that_is_only_meant_to_be_added_is_copied(repo: GitRepo) -> None:
    repo.write("meant", text="12")
    repo.git("add", "-N", "meant")
    assert entry(repo.tree(), "meant").size == 2


def test_a_file_in_conflict_is_copied_once_as_the_merge_left_it(repo: GitRepo) -> None:
    repo.commit("fought", text="base\n")
    repo.git("checkout", "-qb", "side")
    repo.commit("fought", text="theirs\n")
    repo.git("checkout", "-q", "main")
    repo.commit("fought", text="ours\n")
    with pytest.raises(subprocess.CalledProcessError):
        repo.git("merge", "side")
    tree = repo.tree()
    assert files(tree) == ["fought"]
    assert entry(tree, "fought").size == (repo.folder / "fought").stat().st_size


def test_a_tracked_file_in_whose_place_a_folder_stands_is_deleted_and_its_inside_is_new(repo: GitRepo) -> None:
    repo.commit("thing", "lib/thing")
    for path in ("thing", "lib/thing"):
        (repo.folder / path).unlink()
    repo.write("thing/inside", "lib/thing/deep/inside")
    tree = repo.tree()
    assert files(tree) == ["lib/thing/deep/inside", "thing/inside"]
    assert tree.missing == (b"lib/thing", b"thing")


def test_what_is_tracked_below_a_folder_that_became_a_link_is_deleted(repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("lib/deep/a", "lib/b")
    elsewhere = tmp_path / "elsewhere"
    (repo.folder / "lib").rename(elsewhere)
    (repo.folder / "lib").symlink_to(elsewhere)
    tree = repo.tree()
    assert files(tree) == ["lib"]
    assert tree.missing == (b"lib/b", b"lib/deep/a")


def test_a_tracked_file_in_whose_place_a_pipe_stands_is_refused_by_name(repo: GitRepo) -> None:
    repo.commit("queue", "file")
    (repo.folder / "queue").unlink()
    os.mkfifo(repo.folder / "queue")
    tree = repo.tree()
    assert (files(tree), tree.refused) == (["file"], ((b"queue", "a pipe"),))


def test_a_repository_without_a_commit_is_copied(repo: GitRepo) -> None:
    repo.write("staged", "new")
    repo.git("add", "staged")
    tree = repo.tree()
    assert (files(tree), tree.missing, tree.notes) == (["new", "staged"], (), ())


def test_an_empty_repository_gives_an_empty_tree(repo: GitRepo) -> None:
    tree = repo.tree()
    assert (tree.entries, tree.files, tree.total_bytes) == ([], 0, 0)


def test_a_linked_worktree_is_copied_without_its_git_file(repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("a")
    repo.git("worktree", "add", "-q", str(tmp_path / "linked"))
    assert files(scan(tmp_path / "linked", ScanOptions())) == ["a"]


def test_a_submodule_says_itself_what_belongs_to_it(repo: GitRepo, tmp_path: Path) -> None:
    library = GitRepo(tmp_path / "library")
    library.commit("lib.py", "gone.py")
    repo.commit("main.py")
    repo.git("submodule", "add", "-q", str(library.folder), "vendor/library")
    repo.git("commit", "-qm", "with it")
    inside = repo.folder / "vendor/library"
    (inside / ".gitignore").write_text("*.log\n")
    (inside / "new.py").touch()
    (inside / "x.log").touch()
    (inside / "gone.py").unlink()
    (inside / "empty").mkdir()
    tree = repo.tree()
    library_files = [f"vendor/library/{name}" for name in (".gitignore", "lib.py", "new.py")]
    assert files(tree) == [".gitmodules", "main.py", *library_files]
    assert folders(tree) == ["vendor", "vendor/library", "vendor/library/empty"]
    assert tree.missing == (b"vendor/library/gone.py",)


def test_a_submodule_that_is_not_checked_out_is_an_empty_folder(repo: GitRepo, tmp_path: Path) -> None:
    library = GitRepo(tmp_path / "library")
    library.commit("lib.py")
    repo.commit("main.py")
    repo.git("submodule", "add", "-q", str(library.folder), "library")
    repo.git("commit", "-qm", "with it")
    repo.git("submodule", "deinit", "-q", "-f", "library")
    tree = repo.tree()
    assert (files(tree), folders(tree), tree.missing) == ([".gitmodules", "main.py"], ["library"], ())


def test_a_submodule_that_is_deleted_or_left_out_is_not_copied(repo: GitRepo, tmp_path: Path) -> None:
    library = GitRepo(tmp_path / "library")
    library.commit("lib.py")
    for name in ("deleted", "unwanted"):
        repo.git("submodule", "add", "-q", str(library.folder), name)
    repo.commit(".rentrollignore", text="unwanted/\n")
    shutil.rmtree(repo.folder / "deleted")
    tree = repo.tree()
    assert (files(tree), folders(tree), tree.missing) == ([".gitmodules", ".rentrollignore"], [], (b"deleted",))


def test_a_submodule_below_a_folder_that_became_a_link_is_deleted(repo: GitRepo, tmp_path: Path) -> None:
    library = GitRepo(tmp_path / "library")
    library.commit("lib.py")
    repo.git("submodule", "add", "-q", str(library.folder), "vendor/library")
    (repo.folder / "vendor").rename(tmp_path / "elsewhere")
    (repo.folder / "vendor").symlink_to(tmp_path / "elsewhere")
    tree = repo.tree()
    assert (files(tree), tree.missing) == ([".gitmodules", "vendor"], (b"vendor/library",))


def test_a_submodule_that_a_sparse_checkout_leaves_out_is_no_deletion(repo: GitRepo, tmp_path: Path) -> None:
    library = GitRepo(tmp_path / "library")
    library.commit("lib.py")
    repo.git("submodule", "add", "-q", str(library.folder), "library")
    repo.git("update-index", "--skip-worktree", "library")
    shutil.rmtree(repo.folder / "library")
    tree = repo.tree()
    assert (files(tree), tree.missing, tree.omitted) == ([".gitmodules"], (), frozenset({b"library"}))


def test_repositories_inside_each_other_are_copied_however_deep(repo: GitRepo) -> None:
    repo.commit("a")
    inner = GitRepo(repo.folder / "tools/inner")
    inner.commit("b")
    inner.write("c")
    third = GitRepo(repo.folder / "tools/inner/third")
    third.write("d")
    third.write(".git/info/exclude", text="ignored/\n")
    for name in ("empty", "ignored"):
        (third.folder / name).mkdir()
    tree = repo.tree()
    inside = [f"tools/inner/{name}" for name in ("b", "c", "third/d")]
    assert files(tree) == ["a", *inside]
    assert folders(tree) == ["tools", "tools/inner", "tools/inner/third", "tools/inner/third/empty"]


def test_a_repository_in_an_ignored_folder_is_ignored(repo: GitRepo) -> None:
    repo.commit(".gitignore", text="vendor/\n")
    GitRepo(repo.folder / "vendor/library").commit("b")
    assert files(repo.tree()) == [".gitignore"]


def test_a_folder_with_a_git_folder_that_is_none_is_an_ordinary_one(repo: GitRepo) -> None:
    repo.commit("a")
    repo.write("odd/.git/nothing", "odd/file")
    assert files(repo.tree()) == ["a", "odd/file"]


@pytest.mark.parametrize("seed", range(10))
def test_however_a_tree_was_changed_git_has_the_last_word(repo: GitRepo, seed: int) -> None:
    """Files, folders and links take each other's places; the whole set is compared with git's two lists."""
    chance = random.Random(seed)
    for step in range(60):
        path = repo.folder.joinpath(*chance.choices("abcd", k=chance.randrange(1, 4)))
        _replace(path, chance)
        if step % 20 == 7:
            repo.git("add", "-A")
    listed = repo.git("ls-files", "-z", "--others", "--exclude-standard").split("\0")[:-1]
    tracked = repo.git("ls-files", "-z").split("\0")[:-1]
    deleted = repo.git("diff-files", "-z", "--name-only", "--diff-filter=D").split("\0")[:-1]
    tree = repo.tree()
    assert files(tree) == sorted({*tracked, *listed} - {*deleted})
    assert [os.fsdecode(path) for path in tree.missing] == deleted


def _replace(path: Path, chance: random.Random) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir() and chance.random() < 0.5:
        shutil.rmtree(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if chance.random() < 0.2:
            path.symlink_to(chance.choice(["a", "../b", "nowhere"]))
        elif chance.random() < 0.8:
            path.write_text("x")
    except OSError:
        return  # something else is in the way


def test_what_a_copy_of_ours_has_not_finished_is_left_out(repo: GitRepo) -> None:
    repo.commit("a")
    repo.write(".rentroll-1.part", "new/.rentroll-2.part", "new/b", "new/.rentroll-3/c")
    (repo.folder / "new/sub/.rentroll-4/empty").mkdir(parents=True)
    for path_mode in (False, True):
        tree = scan(repo.folder, ScanOptions(path_mode=path_mode))
        assert files(tree) == ["a", "new/b"]
        assert {b".rentroll-1.part", b"new/.rentroll-2.part", b"new/.rentroll-3"} <= set(tree.left_out)
        assert "new/sub/.rentroll-4" not in folders(tree)


def test_what_has_come_to_lie_behind_a_link_has_gone(repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("lib/deep/a", "b")
    tree = repo.tree()
    (repo.folder / "lib").rename(tmp_path / "elsewhere")
    (repo.folder / "lib").symlink_to(tmp_path / "elsewhere")
    assert [entry.path for entry in tree.look([b"lib/deep/a", b"lib/deep", b"b"])] == [b"b"]
