"""The difference between a tree here and what is on the box: what is sent, deleted, replaced, and left alone."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.syncing import DELTA_FROM_BYTES, Plan, difference, folders_above, is_for_rsync, shown, some
from providers.agent.manifest import Entry
from tests.domain.trees import MemoryBox, Tree, file, folder, link, trees, whole


def plan(
    local: Iterable[Entry], *, stored: Iterable[Entry] = (), there: Iterable[Entry] = (), omitted: Iterable[bytes] = ()
) -> Plan:
    return difference([*local], stored=stored, there=there, omitted={*omitted})


def sent(made: Plan) -> list[bytes]:
    return [entry.path for entry in made.send]


def test_to_an_empty_box_everything_is_sent_and_nothing_else_is_done() -> None:
    tree = [folder("a"), file("a/b", size=7), link("c", "a/b")]

    made = plan(tree)

    assert made == Plan(
        send=(file("a/b", size=7), link("c", "a/b")),
        announce=tuple(tree),
        delete=(),
        cleared=frozenset(),
        overwritten=(),
        kept=(),
        older=frozenset(),
        room_bytes=7,
    )


def test_where_both_hold_the_same_there_is_nothing_to_do() -> None:
    tree = [folder("a"), file("a/b"), link("c", "a/b")]

    made = plan(tree, stored=tree, there=tree)

    assert (made.send, made.announce, made.delete, made.overwritten) == ((), (), (), ())


def test_what_was_put_and_is_not_here_any_more_is_deleted_what_is_in_a_folder_before_it() -> None:
    before = [folder("a"), file("a/b", size=5), file("c")]

    made = plan([file("c")], stored=before, there=before)

    assert (made.delete, made.overwritten, made.room_bytes) == ((b"a/b", b"a"), (), -5)


def test_what_a_job_made_is_never_deleted() -> None:
    ours, theirs = file("a"), file("result")

    made = plan([], stored=[ours], there=[ours, theirs])

    assert made.delete == (b"a",)


def test_what_a_job_changed_is_replaced_by_what_is_here_and_named() -> None:
    before, now = file("a", mtime_ns=1), file("a", mtime_ns=9)

    made = plan([before], stored=[before], there=[now])

    assert (sent(made), made.overwritten) == ([b"a"], (b"a",))


def test_what_a_job_changed_and_is_not_here_any_more_is_deleted_and_named() -> None:
    made = plan([], stored=[file("a")], there=[file("a", size=9)])

    assert (made.delete, made.overwritten) == ((b"a",), (b"a",))


def test_what_a_job_deleted_comes_back_and_is_nobodys_loss() -> None:
    made = plan([file("a")], stored=[file("a")], there=[])

    assert (sent(made), made.overwritten) == ([b"a"], ())


def test_what_a_job_made_of_a_name_that_is_sent_now_is_replaced_and_named() -> None:
    made = plan([file("out", size=3)], there=[file("out", size=4)])

    assert (sent(made), made.overwritten, made.delete, made.room_bytes) == ([b"out"], (b"out",), (), -1)


def test_what_a_job_made_just_as_it_is_here_is_not_sent() -> None:
    made = plan([file("out")], there=[file("out")])

    assert (made.announce, made.overwritten) == ((), ())


def test_permissions_that_alone_differ_are_announced_and_nothing_travels() -> None:
    made = plan([file("a", mode=0o755)], stored=[file("a")], there=[file("a")])

    assert (sent(made), made.announce, made.overwritten) == ([], (file("a", mode=0o755),), ())


def test_what_a_sparse_checkout_leaves_out_stays_and_stays_ours_with_its_folders() -> None:
    before = [folder("a"), folder("a/b"), file("a/b/c"), file("a/d"), file("e")]

    made = plan([file("e")], stored=before, there=before, omitted=[b"a/b/c", b"never/synced"])

    assert made.delete == (b"a/d",)
    assert made.kept == (folder("a"), folder("a/b"), file("a/b/c"))


def test_a_folder_in_the_place_of_a_file_of_ours_clears_it() -> None:
    made = plan([folder("a"), file("a/b")], stored=[file("a")], there=[file("a")])

    assert (made.delete, made.cleared, sent(made), made.overwritten) == ((b"a",), frozenset({b"a"}), [b"a/b"], ())


def test_a_file_in_the_place_of_a_folder_of_ours_clears_it_with_all_that_was_put_there() -> None:
    before = [folder("a"), file("a/b")]

    made = plan([file("a")], stored=before, there=before)

    assert (made.delete, made.cleared, sent(made)) == ((b"a/b", b"a"), frozenset({b"a"}), [b"a"])


def test_a_file_in_the_place_of_a_jobs_folder_wants_it_cleared() -> None:
    """Whether it can be is the box's to say: only an empty folder goes."""
    made = plan([file("a")], there=[folder("a")])

    assert (made.delete, made.cleared, made.overwritten) == ((b"a",), frozenset({b"a"}), (b"a",))


def test_a_link_in_the_place_of_a_folder_hides_what_lies_behind_it() -> None:
    """A job has replaced a folder of ours by a link: nothing behind it is ours, deleted, or taken for sent."""
    before = [folder("a"), file("a/b"), file("a/gone")]
    behind = [link("a", "/mnt"), file("a/b"), file("a/gone")]

    made = plan([folder("a"), file("a/b")], stored=before, there=behind)

    assert (made.delete, made.cleared, sent(made), made.overwritten) == ((b"a",), frozenset({b"a"}), [b"a/b"], (b"a",))


def test_a_file_replaces_a_link_without_clearing() -> None:
    """A rename does it in one step."""
    made = plan([file("a")], stored=[link("a", "b")], there=[link("a", "b")])

    assert (made.delete, sent(made), made.overwritten) == ((), [b"a"], ())


@given(local=trees, stored=trees, there=trees)
def test_after_it_the_box_holds_the_tree_and_every_file_of_a_job_that_is_not_in_its_way(
    local: Tree, stored: Tree, there: Tree
) -> None:
    box = MemoryBox(there)
    made = plan(local.values(), stored=stored.values(), there=box.there({**stored, **local}))
    is_behind = {path: any(there[up].kind != "d" for up in folders_above([path])) for path in there}
    assert not any(is_behind.values())

    box.does(made)

    if box.left & made.cleared:  # a folder that holds a job's file stands in the way: refused by name
        assert all(there[path].kind == "d" and local[path].kind != "d" for path in box.left & made.cleared)
        return
    assert {path: box.tree[path] for path in local} == local
    for path, entry in there.items():
        if path not in stored and path not in local and entry.kind != "d":
            assert box.tree.get(path) == entry
    for path in stored:
        if path not in local and path in box.tree:
            assert box.tree[path].kind == "d"


@given(local=trees, stored=trees, there=trees)
def test_everything_that_a_job_loses_is_named_and_nothing_else(local: Tree, stored: Tree, there: Tree) -> None:
    box = MemoryBox(there)
    made = plan(local.values(), stored=stored.values(), there=box.there({**stored, **local}))

    box.does(made)

    if not box.left & made.cleared:
        lost = {
            path
            for path, entry in there.items()
            if box.tree.get(path) != entry
            and stored.get(path) != entry
            and not (entry.kind == "d" and (path not in local or local[path].kind == "d"))
        }
        assert lost == {*made.overwritten} - box.left


@given(local=trees, there=trees)
def test_a_second_sync_has_nothing_to_do(local: Tree, there: Tree) -> None:
    box = MemoryBox(there)
    made = plan(local.values(), there=box.there(local))
    box.does(made)

    if not box.left & made.cleared:
        again = plan(local.values(), stored=local.values(), there=box.there(local))
        assert (again.announce, again.delete, again.overwritten) == ((), (), ())


@given(tree=trees, omitted=st.sets(st.sampled_from([b"a", b"a/b", b"b/a/a"])))
def test_nothing_that_is_left_out_here_is_deleted(tree: Tree, omitted: set[bytes]) -> None:
    made = plan([], stored=tree.values(), there=tree.values(), omitted=omitted)

    assert not omitted.intersection(made.delete)
    assert {entry.path for entry in made.kept}.isdisjoint(made.delete)
    assert {*made.delete} | {entry.path for entry in made.kept} == {*tree}


def test_rsync_is_for_large_files_that_have_an_older_version_there() -> None:
    large, small = file("a", size=DELTA_FROM_BYTES), file("b", size=DELTA_FROM_BYTES - 1)
    made = plan([large, small, file("new")], there=[file("a", size=9), file("b", size=9)])

    assert made.older == {b"a", b"b"}
    assert is_for_rsync(large, made.older)
    assert not is_for_rsync(small, made.older)
    assert not is_for_rsync(file("new", size=DELTA_FROM_BYTES), made.older)


def test_a_name_is_shown_on_one_line_whatever_it_holds() -> None:
    assert shown("é a".encode()) == "é a"
    assert shown(b"a\nb\x1b[31m\xff") == r"a\nb\x1b[31m\xff"


def test_many_names_are_counted() -> None:
    assert some([b"a", b"b"]) == "a, b"
    assert some([b"a"] * 1234) == "a, a, a and 1,231 more"


def test_the_folders_on_the_way_are_every_one_below_the_root() -> None:
    assert folders_above([b"a/b/c", b"a/d", b"e"]) == {b"a", b"a/b"}


def test_a_tree_by_chance_names_every_folder_on_the_way() -> None:
    """What the properties above stand on."""
    assert whole([file("a/b/c"), file("a"), file("a/b")]) == {b"a": file("a")}
    assert whole([file("a/b")]) == {b"a": folder("a"), b"a/b": file("a/b")}
