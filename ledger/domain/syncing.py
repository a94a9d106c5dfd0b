"""What a sync does, from what is here, what an earlier one put and what is there now. Pure.

Local wins. What an earlier sync of ours put is ours: only that is ever deleted. Everything else on the box is a job's:
it is replaced where the local tree has something of that name, and named then, and never touched otherwise.
"""

from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from typing import Protocol

from msgspec import Struct

from ledger.domain.ports import Entry

ROUNDS = 3
"""How often a file is sent that changes while it is read."""


DELTA_FROM_BYTES = 1_048_576
"""What is smaller is sent whole before rsync has started."""


class LocalTree(Protocol):
    """A local working tree as it was when it was looked at. Its entries name every folder on the way to a file.

    `omitted` are the paths that git tracks and a sparse checkout leaves out; `encoded` is the entries' manifest, and
    `digest` that of it.
    """

    @property
    def root(self) -> bytes: ...
    @property
    def entries(self) -> Sequence[Entry]: ...
    @property
    def omitted(self) -> Collection[bytes]: ...
    @property
    def encoded(self) -> bytes: ...
    @property
    def digest(self) -> str: ...
    def look(self, paths: Iterable[bytes]) -> Sequence[Entry]:
        """What is here now at these paths."""
        ...

    def manifest(self, entries: Iterable[Entry]) -> bytes:
        """These entries as both sides write them down."""
        ...


class Plan(Struct, frozen=True, kw_only=True):
    """The difference between here and there.

    `send` are files and links that have to travel. `announce` holds these, the folders to be made and whatever only
    gets other permissions. `delete` names what goes, `cleared` those of it in whose place something else comes.
    `overwritten` are the paths of what a job left there and loses. `kept` is ours and stays although it is not here.
    `older` are the paths of what is sent of which a file is there already. `room_bytes` is by how much the box's disk
    will be fuller.
    """

    send: tuple[Entry, ...]
    announce: tuple[Entry, ...]
    delete: tuple[bytes, ...]
    cleared: frozenset[bytes]
    overwritten: tuple[bytes, ...]
    kept: tuple[Entry, ...]
    older: frozenset[bytes]
    room_bytes: int


class SyncDone(Struct, frozen=True, kw_only=True):
    """What a sync did. `files` are the files and links of the tree, `overwritten` what jobs had changed and lost."""

    files: int
    sent_files: int
    sent_bytes: int
    deleted_files: int
    overwritten: tuple[bytes, ...]
    duration_ms: int
    manifest_digest: str

    @property
    def changed_nothing(self) -> bool:
        return not (self.sent_files or self.deleted_files or self.overwritten)


def difference(
    local: Sequence[Entry], *, stored: Iterable[Entry], there: Iterable[Entry], omitted: Collection[bytes]
) -> Plan:
    """The plan of one sync.

    `stored` is what earlier syncs put; `there` what now stands on the box at those paths and at the local ones. What
    lies there behind a link or a file in the place of a folder counts as absent: it is somebody else's.
    """
    here = {entry.path: entry for entry in local}
    ours = {entry.path: entry for entry in stored}
    now = _within_folders(there)
    kept = _kept(ours, now, here, omitted)
    cleared = frozenset(
        path for path, entry in here.items() if path in now and _is_folder(entry) != _is_folder(now[path])
    )
    gone = [path for path in ours if path in now and path not in here and path not in kept]
    announce = tuple(entry for path, entry in here.items() if now.get(path) != entry)
    send = tuple(entry for entry in announce if entry.kind != "d" and _content(now.get(entry.path)) != _content(entry))
    lost = [*gone, *(entry.path for entry in announce if entry.path in now)]
    return Plan(
        send=send,
        announce=announce,
        delete=tuple(sorted({*gone, *cleared}, reverse=True)),
        cleared=cleared,
        overwritten=tuple(sorted(path for path in lost if _is_a_jobs(path, ours, now, here))),
        kept=tuple(now[path] for path in sorted(kept)),
        older=frozenset(
            entry.path for entry in send if entry.path in now and entry.kind == now[entry.path].kind == "f"
        ),
        room_bytes=sum(entry.size for entry in send)
        - sum(now[path].size for path in {*gone, *(entry.path for entry in send)} if path in now),
    )


def shown(path: bytes) -> str:
    """A path for people, on one line: what does not print, or is not UTF-8, is escaped."""
    text = path.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def some(paths: Sequence[bytes], most: int = 3) -> str:
    """The first of these paths, and how many more there are."""
    more = f" and {len(paths) - most:,} more" if len(paths) > most else ""
    return f"{', '.join(map(shown, paths[:most]))}{more}"


def is_for_rsync(entry: Entry, older: Collection[bytes]) -> bool:
    """Whether rsync sends less of it than all: a large file of which the box has an older version.

    For the rest our own transfer takes half of rsync's time: its channel is open, and it asks nothing back.
    """
    return entry.path in older and entry.size >= DELTA_FROM_BYTES


def folders_above(paths: Iterable[bytes]) -> set[bytes]:
    """Every folder on the way to these paths, the root not included."""
    found: set[bytes] = set()
    for path in paths:
        above = path.rpartition(b"/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition(b"/")[0]
    return found


def _within_folders(there: Iterable[Entry]) -> dict[bytes, Entry]:
    """What is really inside the workspace: every folder on the way to it is a folder, and no link."""
    found: dict[bytes, Entry] = {}
    for entry in sorted(there, key=attrgetter("path")):
        above = entry.path.rpartition(b"/")[0]
        if not above or (above in found and _is_folder(found[above])):
            found[entry.path] = entry
    return found


def _kept(
    ours: dict[bytes, Entry], now: dict[bytes, Entry], here: dict[bytes, Entry], omitted: Collection[bytes]
) -> set[bytes]:
    """What a sparse checkout leaves out is not deleted, nor the folders that hold it."""
    left_out = {path for path in omitted if path in ours and path in now and path not in here}
    return left_out | {path for path in folders_above(left_out) if path in now and path not in here}


def _is_a_jobs(path: bytes, ours: dict[bytes, Entry], now: dict[bytes, Entry], here: dict[bytes, Entry]) -> bool:
    """Whether what stands there is no work of ours; other permissions of a folder are nobody's loss."""
    wanted = here.get(path)
    if _is_folder(now[path]) and (wanted is None or _is_folder(wanted)):
        return False
    return ours.get(path) != now[path]


def _is_folder(entry: Entry) -> bool:
    return entry.kind == "d"


def _content(entry: Entry | None) -> tuple[object, ...]:
    return () if entry is None else (entry.kind, entry.size, entry.mtime_ns, entry.target)
