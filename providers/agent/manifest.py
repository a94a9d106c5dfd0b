"""What a tree holds, as bytes that both sides make alike: one record a path, sorted, and their digest.

Shared by the client and the program on the box (Python 3.8, standard library). The permission bits are `rwxrwxrwx`:
set-user-id, set-group-id and sticky bits are not carried, as a box's folders may hand them on to what is made in them.
"""

import os
from collections import namedtuple
from operator import attrgetter
from stat import S_IFMT, S_IFREG, S_ISDIR, S_ISLNK, S_ISREG

TYPE_CHECKING = False  # as typing's own; importing that would cost the agent's start several milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NamedTuple, Protocol

    class Written(Protocol):
        """What can be written down as an `Entry`."""

        @property
        def path(self) -> bytes: ...
        @property
        def kind(self) -> str: ...
        @property
        def mode(self) -> int: ...
        @property
        def size(self) -> int: ...
        @property
        def mtime_ns(self) -> int: ...
        @property
        def target(self) -> bytes: ...

    class Entry(NamedTuple):
        """One path of a tree. `kind` is `f`, `d` or `l`.

        `path` is relative, its parts joined by `/`. `mode` holds the permission bits, 0 for links; `size` in bytes and
        `mtime_ns` are 0 for folders and links; `target` is a link's, empty for the others.
        """

        path: bytes
        kind: str
        mode: int
        size: int
        mtime_ns: int
        target: bytes

else:
    Entry = namedtuple("Entry", "path kind mode size mtime_ns target")  # noqa: PYI024 - as above

PERMISSIONS = 0o777
_LETTER = {"f": b"f", "d": b"d", "l": b"l"}
_KIND = {b"f": "f", b"d": "d", b"l": "l"}
_PATH = attrgetter("path")
_FIELDS = 3
_SIGNS = (b"\0/", b"/\0", b"//", b"\0./", b"\0../", b"/./", b"/../", b"/.\0", b"/..\0", b"\0.\0", b"\0..\0")
"""Where none of these is in a manifest, every path in it is plain, and need not be looked at one by one."""


def encode(entries: "Iterable[Written]") -> bytes:
    """The manifest of these entries, whatever order they come in."""
    letter = _LETTER
    return b"".join(
        [
            b"%b\0%b %o %d %d\0%b\0" % (one.path, letter[one.kind], one.mode, one.size, one.mtime_ns, one.target)
            for one in sorted(entries, key=_PATH)
        ]
    )


def decode(encoded: bytes) -> "list[Entry]":
    """The entries of a manifest. Raises ValueError where these bytes are none that `encode` makes."""
    parts = encoded.split(b"\0")
    if parts.pop() or len(parts) % _FIELDS:
        raise ValueError("a manifest ends with a whole record")
    all_plain = is_plain(encoded)
    entries = []
    before = b""
    for at in range(0, len(parts), _FIELDS):
        path, what, target = parts[at : at + _FIELDS]
        try:
            letter, mode, size, mtime_ns = what.split(b" ")
            entry = Entry(path, _KIND[letter], int(mode, 8), int(size), int(mtime_ns), target)
        except (KeyError, ValueError):
            raise ValueError(f"{what!r} is no record of a manifest") from None
        if path <= before or not (all_plain or is_inside(path)):
            raise ValueError(f"{path!r} is no path, or not in its place, in a manifest")
        entries.append(entry)
        before = path
    return entries


def is_plain(encoded: bytes) -> bool:
    """Whether nothing in a manifest can lead out of the folder it is under; False where that needs a closer look."""
    framed = b"\0" + encoded
    return not any(sign in framed for sign in _SIGNS)


def is_inside(path: bytes) -> bool:
    """Whether a path is relative, of plain parts, and so cannot lead out of the folder it is under."""
    return all(part not in (b"", b".", b"..") for part in path.split(b"/")) and b"\0" not in path


def paths_of(encoded: bytes) -> "list[bytes]":
    """The paths of a manifest that one of us has written: nothing of it is proven. None of one that was cut short."""
    parts = encoded.split(b"\0")
    return [] if parts.pop() or len(parts) % _FIELDS else parts[::_FIELDS]


def standing(root: bytes, paths: "Iterable[bytes]") -> bytes:
    """The manifest of what stands at these paths under `root`: what `encode` makes of each `entry_at`, in less time.

    The paths come in their order. Raises OSError where one cannot be looked at.
    """
    base, lstat, regular = root + b"/", os.lstat, S_IFREG
    records = []
    for path in paths:
        try:
            status = lstat(base + path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        mode = status.st_mode
        if S_IFMT(mode) == regular:
            records.append(b"%b\0f %o %d %d\0\0" % (path, mode & PERMISSIONS, status.st_size, status.st_mtime_ns))
        else:
            entry = entry_at(root, path)
            records.append(b"" if entry is None else encode([entry]))
    return b"".join(records)


def digest(encoded: bytes) -> str:
    """The SHA-256 of a manifest, in hex: two trees are equal when their digests are."""
    import hashlib

    return hashlib.sha256(encoded).hexdigest()


def entry_at(root: bytes, path: bytes) -> "Entry | None":
    """What stands at `path` under `root`, a link as itself; None where nothing does, or nothing that can be carried.

    Sockets, pipes and devices cannot. Raises OSError where it cannot be looked at.
    """
    whole = root + b"/" + path
    try:
        status = os.lstat(whole)
        mode = status.st_mode
        if S_ISREG(mode):
            return Entry(path, "f", mode & PERMISSIONS, status.st_size, status.st_mtime_ns, b"")
        if S_ISDIR(mode):
            return Entry(path, "d", mode & PERMISSIONS, 0, 0, b"")
        if S_ISLNK(mode):
            return Entry(path, "l", 0, 0, 0, os.readlink(whole))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return None
