"""How git is asked: whatever the caller's environment says, and whatever git answers."""

import os
import resource
import signal
import sys
from pathlib import Path

import pytest

from ledger.domain.errors import RentrollError, SyncFailure, UsageFailure
from providers.worktree.git import MISLEADING
from providers.worktree.scan import scan
from providers.worktree.tree import ScanOptions
from tests.providers.gitrepo import GitRepo, files


@pytest.fixture
def other(tmp_path: Path) -> GitRepo:
    made = GitRepo(tmp_path / "other")
    made.commit("not-this-one", "nor-this")
    return made


def fake_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A program called git in front of the real one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "git"
    program.write_text(f"#!{sys.executable} -IS\n{body}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_variables_of_a_hook_do_not_lead_to_another_repository(
    repo: GitRepo, other: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.commit("mine", "lib/mine")
    before = repo.tree()
    for name in MISLEADING:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("GIT_DIR", str(other.folder / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.folder))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.folder / ".git/index"))
    monkeypatch.setenv("GIT_TRACE", "1")
    assert repo.tree() == before
    assert files(repo.tree(below="lib")) == ["lib/mine", "mine"]


def test_settings_of_the_user_about_output_change_nothing(repo: GitRepo) -> None:
    repo.commit("a/ü", "b/c")
    before = repo.tree()
    for name, value in {"core.quotePath": "true", "diff.relative": "true", "diff.renames": "copies"}.items():
        repo.git("config", name, value)
    assert repo.tree(below="b") == before


def test_a_file_system_monitor_is_not_started(repo: GitRepo, tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    hook.chmod(0o755)
    repo.commit("a")
    repo.git("config", "core.fsmonitor", str(hook))
    assert files(repo.tree()) == ["a"]
    assert not (tmp_path / "started").exists()


def test_the_index_is_not_written(repo: GitRepo) -> None:
    repo.commit("a")
    index = repo.folder / ".git/index"
    before = index.read_bytes()
    os.utime(repo.folder / "a", ns=(0, 0))  # git would refresh what it knows of the file
    repo.write(".git/index.lock")
    assert files(repo.tree()) == ["a"]
    assert index.read_bytes() == before


def test_outside_of_a_repository_path_is_named(tmp_path: Path, repo: GitRepo) -> None:
    with pytest.raises(UsageFailure) as failed:
        scan(tmp_path, ScanOptions())
    assert failed.value.message == f"{tmp_path} is in no git repository, so it does not say what to copy"
    assert failed.value.hint == "--path DIR copies a folder as it is, without git"


def test_in_a_bare_repository_and_in_the_git_folder_path_is_named(repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("a")
    repo.git("clone", "-q", "--bare", str(repo.folder), str(tmp_path / "bare"))
    for folder in (tmp_path / "bare", repo.folder / ".git"):
        with pytest.raises(UsageFailure) as failed:
            scan(folder, ScanOptions())
        assert failed.value.message == f"{folder} is in a git repository without a working tree"


def test_without_git_on_the_machine_path_is_named_and_works(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.commit("a")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UsageFailure) as failed:
        repo.tree()
    assert failed.value.message == "git is not on this machine"
    assert "--path DIR" in str(failed.value.hint)
    assert files(scan(repo.folder, ScanOptions(path_mode=True))) == ["a"]


def test_a_git_that_hangs_is_a_failure_of_the_sync_and_is_ended(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    body = f"import os, time\nopen({str(pids)!r}, 'a').write(f'{{os.getpid()}} ')\ntime.sleep(600)\n"
    fake_git(tmp_path, monkeypatch, body)
    with pytest.raises(SyncFailure) as failed:
        scan(repo.folder, ScanOptions(git_timeout_s=1.5))
    assert failed.value.message == "git did not answer within 1.5 s"
    for pid in pids.read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        ("import sys; sys.exit('fatal: index file corrupt')", SyncFailure, "working tree: fatal: index file corrupt"),
        ("import sys; sys.exit(3)", SyncFailure, "working tree: it ended without a word"),
        ("import os; os.kill(os.getpid(), 9)", SyncFailure, "working tree: it ended without a word"),
        ("import sys; sys.exit('error: unknown option `full-name')", SyncFailure, "unknown option"),
        (
            "import sys; sys.exit('fatal: detected dubious ownership in repository at /x')",
            SyncFailure,
            "git does not trust this repository: its folder belongs to another user",
        ),
    ],
    ids=["corrupt", "silent", "killed", "old", "of another user"],
)
def test_a_git_that_fails_is_told_in_its_own_words(
    repo: GitRepo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    error: type[RentrollError],
    said: str,
) -> None:
    fake_git(tmp_path, monkeypatch, body)
    with pytest.raises(error) as failed:
        repo.tree()
    assert said in failed.value.message


def test_a_repository_of_another_user_is_refused_and_says_what_to_type(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.commit("a")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(SyncFailure) as failed:
        repo.tree()
    assert failed.value.next_step == f"git config --global --add safe.directory {repo.folder}"


def test_an_index_that_is_torn_is_a_failure_of_the_sync(repo: GitRepo) -> None:
    repo.commit("a")
    (repo.folder / ".git/index").write_bytes(b"DIRC\0\0\0\2torn")
    with pytest.raises(SyncFailure, match="git could not say"):
        repo.tree()


def test_a_submodule_whose_repository_is_gone_is_named(repo: GitRepo, tmp_path: Path) -> None:
    library = GitRepo(tmp_path / "library")
    library.commit("lib.py")
    repo.git("submodule", "add", "-q", str(library.folder), "vendor/library")
    (repo.folder / ".git/modules/vendor/library").rename(tmp_path / "gone")
    with pytest.raises(SyncFailure, match=r"^vendor/library/ is a repository that git cannot read: "):
        repo.tree()


def test_a_submodule_whose_git_folder_is_none_does_not_lead_to_the_outer_repository(
    repo: GitRepo, tmp_path: Path
) -> None:
    library = GitRepo(tmp_path / "library")
    library.commit("lib.py")
    repo.git("submodule", "add", "-q", str(library.folder), "library")
    (repo.folder / "library/.git").unlink()
    (repo.folder / "library/.git").mkdir()
    with pytest.raises(
        SyncFailure, match=r"^library/ is a repository that git cannot read: fatal: not a git repository"
    ):
        repo.tree()


def test_a_comparison_that_git_cannot_make_is_a_note_and_stops_nothing(repo: GitRepo) -> None:
    repo.commit("lib/a")
    trees = repo.git("rev-parse", "HEAD^{tree}", "HEAD:lib").split()
    repo.write("new")
    repo.git("add", "new")
    for tree in trees:
        (repo.folder / ".git/objects" / tree[:2] / tree[2:]).unlink()
    tree_now = repo.tree()
    assert files(tree_now) == ["lib/a", "new"]
    assert [note.partition(":")[0] for note in tree_now.notes] == ["git could not compare with HEAD"]


def test_an_interrupt_comes_out_and_ends_git(repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a handler of ours does it: an exception out of the wait, here in the moment in which git works."""
    pid = tmp_path / "pid"
    body = (
        "import os, signal, sys, time\n"
        "if 'rev-parse' in sys.argv:\n"
        f"    open({str(pid)!r}, 'w').write(str(os.getpid()))\n"
        "    os.kill(os.getppid(), signal.SIGALRM)\n"
        "time.sleep(600)\n"
    )
    fake_git(tmp_path, monkeypatch, body)
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            repo.tree()
    finally:
        signal.signal(signal.SIGALRM, previous)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_many_repositories_inside_do_not_use_up_the_descriptors(repo: GitRepo) -> None:
    repo.commit("a")
    inner = [f"r{number:02}" for number in range(30)]
    for name in inner:
        GitRepo(repo.folder / name).write("f", "new/g")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 80, before[1]))
    try:
        tree = repo.tree()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert files(tree) == ["a", *(f"{name}/{path}" for name in inner for path in ("f", "new/g"))]
