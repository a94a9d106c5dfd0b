"""Trees by hand and by chance, and a box that does in memory what a plan says."""

from collections.abc import Iterable

from hypothesis import strategies as st

from ledger.domain.syncing import Plan, folders_above
from providers.agent.manifest import Entry

Tree = dict[bytes, Entry]


def file(path: str, *, size: int = 1, mtime_ns: int = 1, mode: int = 0o644) -> Entry:
    return Entry(path.encode(), "f", mode, size, mtime_ns, b"")


def folder(path: str, *, mode: int = 0o755) -> Entry:
    return Entry(path.encode(), "d", mode, 0, 0, b"")


def link(path: str, target: str) -> Entry:
    return Entry(path.encode(), "l", 0, 0, 0, target.encode())


def whole(entries: Iterable[Entry]) -> Tree:
    """A tree of these, with the folders on their way; what lies where that is no folder is left out."""
    wanted = {entry.path: entry for entry in entries}
    tree: Tree = {}
    for path in sorted(wanted):
        above = sorted(folders_above([path]))
        if all(tree.get(one, wanted.get(one, folder("x"))).kind == "d" for one in above):
            tree.update((one, folder(one.decode())) for one in above if one not in tree)
            tree[path] = wanted[path]
    return tree


_names = st.sampled_from(["a", "b", "a-c", "é"])
_paths = st.lists(_names, min_size=1, max_size=3).map("/".join)
_entries = st.one_of(
    st.builds(file, _paths, size=st.integers(0, 3), mtime_ns=st.integers(0, 2), mode=st.sampled_from([0o644, 0o755])),
    st.builds(folder, _paths, mode=st.sampled_from([0o755, 0o700])),
    st.builds(link, _paths, st.sampled_from(["a", "../b"])),
)
trees = st.lists(_entries, max_size=8).map(whole)


class MemoryBox:
    """What stands in a workspace. `left` are the folders that a plan wanted away and that hold something else."""

    def __init__(self, tree: Tree) -> None:
        self.tree = dict(tree)
        self.left: set[bytes] = set()

    def there(self, paths: Iterable[bytes]) -> list[Entry]:
        return [self.tree[path] for path in paths if path in self.tree]

    def does(self, plan: Plan) -> None:
        for path in plan.delete:
            if any(other.startswith(path + b"/") for other in self.tree):
                self.left.add(path)
            else:
                self.tree.pop(path, None)
        if self.left & plan.cleared:
            return
        for entry in sorted(plan.announce, key=lambda entry: entry.path):
            assert all(self.tree[above].kind == "d" for above in folders_above([entry.path]))
            self.tree[entry.path] = Entry(entry.path, entry.kind, entry.mode, entry.size, entry.mtime_ns, entry.target)
