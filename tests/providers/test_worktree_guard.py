"""What is judged before a box is paid for."""

import os

import pytest

from ledger.domain.errors import SyncFailure
from providers.agent.manifest import Entry
from providers.worktree.guard import GIB, guard
from providers.worktree.tree import Tree
from tests.providers.gitrepo import GitRepo

LARGE = "this is a lot to copy: {}; `rentroll sync-plan` shows the largest"


def tree_of(files: int = 1, total_bytes: int = 0, missing: int = 0, unreadable: int = 0) -> Tree:
    return Tree(
        root=b"/work",
        entries=[Entry(b"a", "f", 0o644, total_bytes, 0, b"")],
        omitted=frozenset(),
        missing=tuple(b"gone%d" % number for number in range(missing)),
        refused=(),
        unreadable=tuple((b"closed%d" % number, "Permission denied") for number in range(unreadable)),
        strays=(),
        left_out=(),
        notes=(),
        files=files,
        total_bytes=total_bytes,
    )


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (tree_of(49_999, 5 * GIB - 1), []),
        (tree_of(50_000), [LARGE.format("50,000 files, 0 B")]),
        (tree_of(1, 5 * GIB), [LARGE.format("1 file, 5.0 GiB")]),
        (tree_of(149_999, 20 * GIB - 1), [LARGE.format("149,999 files, 20.0 GiB")]),
    ],
    ids=["small", "many files", "many bytes", "just below the limit"],
)
def test_a_large_tree_is_warned_of(tree: Tree, said: list[str]) -> None:
    assert guard(tree) == said


@pytest.mark.parametrize("tree", [tree_of(150_000), tree_of(1, 20 * GIB)], ids=["files", "bytes"])
def test_a_tree_that_is_too_large_is_refused_unless_it_is_forced(tree: Tree) -> None:
    with pytest.raises(SyncFailure) as failed:
        guard(tree)
    assert failed.value.message.startswith("too much to copy: ")
    assert failed.value.message.endswith("; the limit is 150,000 files or 20 GiB")
    assert "--force-large" in str(failed.value.hint)
    assert len(guard(tree, force_large=True)) == 1


def test_two_hundred_deletions_are_refused_unless_they_are_allowed() -> None:
    assert guard(tree_of(missing=199)) == []
    with pytest.raises(SyncFailure) as failed:
        guard(tree_of(missing=200))
    assert failed.value.message == "200 files that git tracks are deleted here: gone0, gone1, gone2 and 197 more"
    assert "--allow-mass-deletions" in str(failed.value.hint)
    assert guard(tree_of(missing=200), allow_mass_deletions=True) == []


def test_each_limit_has_its_own_permission() -> None:
    tree = tree_of(150_000, missing=200)
    with pytest.raises(SyncFailure, match="too much"):
        guard(tree, allow_mass_deletions=True)
    with pytest.raises(SyncFailure, match="are deleted here"):
        guard(tree, force_large=True)


def test_what_cannot_be_read_is_refused_whatever_is_allowed() -> None:
    with pytest.raises(SyncFailure) as failed:
        guard(tree_of(unreadable=2), allow_mass_deletions=True, force_large=True)
    assert failed.value.message == "2 paths of what is to be copied cannot be read: closed0, closed1"
    assert failed.value.hint == "closed0: permission denied; make it readable, or leave it out in .rentrollignore"


@pytest.mark.holds("PEER-49")
def test_a_sparse_checkout_of_a_large_repository_is_copied_without_a_word(repo: GitRepo) -> None:
    repo.commit("here/a", *(f"there/{number}" for number in range(250)))
    repo.git("sparse-checkout", "set", "here")
    tree = repo.tree()
    assert (len(tree.omitted), guard(tree)) == (250, [])


def test_a_clone_whose_files_were_never_checked_out_is_refused(repo: GitRepo) -> None:
    repo.commit(*(f"lib/{number:03}" for number in range(200)))
    repo.git("rm", "-rqf", ".")
    with pytest.raises(
        SyncFailure, match=r"^200 files that git tracks are deleted here: lib/000, lib/001, lib/002 and"
    ):
        guard(repo.tree())


def test_what_is_refused_and_what_leads_out_is_named_without_control_characters(repo: GitRepo) -> None:
    repo.commit("queue\x1b[2J")
    (repo.folder / "queue\x1b[2J").unlink()
    os.mkfifo(repo.folder / "queue\x1b[2J")
    (repo.folder / "far").symlink_to("/etc/\n")
    assert guard(repo.tree()) == [
        "queue\\x1b[2J is not copied: it is a pipe",
        "far is a link to /etc/\\n, out of the tree: on the box it leads elsewhere or nowhere",
    ]


def test_of_many_such_names_the_first_are_told(repo: GitRepo) -> None:
    for number in range(25):
        (repo.folder / f"far{number:02}").symlink_to("/etc")
    said = guard(repo.tree())
    assert (len(said), said[-1]) == (21, "and 5 more such paths; `rentroll sync-plan --json` names them all")


def test_gits_own_warnings_are_passed_on(repo: GitRepo) -> None:
    repo.commit("a")
    tree = repo.tree()
    noted = Tree(**{name: getattr(tree, name) for name in tree.__struct_fields__} | {"notes": ("could not open x",)})
    assert guard(noted) == ["git says: could not open x"]
