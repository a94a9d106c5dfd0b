"""Copying files to and from a box: what is asked, what was done, and the port that does it."""

from typing import Protocol

from msgspec import Struct

from ledger.domain.ports import Endpoint, Place


class NotCopied(Struct, frozen=True, kw_only=True):
    """One path that could not be copied while the rest was.

    `stage` says why in a word: `permission`, `missing`, `not-a-folder`, `not-a-file`, `changed`, `io`. `path` is
    absolute, on the box or here.
    """

    stage: str
    message: str
    path: bytes
    on_box: bool

    def __str__(self) -> str:
        return f"{self.path.decode(errors='surrogateescape')}{' on the box' if self.on_box else ''}: {self.message}"


class Copied(Struct, frozen=True, kw_only=True):
    """What a copy did.

    `files`, `folders` and `links` are all that now stands at the target; `bytes` were sent for it, and `kept_bytes`
    were there already.
    """

    files: int = 0
    folders: int = 0
    links: int = 0
    bytes: int = 0
    kept_bytes: int = 0
    failures: tuple[NotCopied, ...] = ()


class CopyOrder(Struct, frozen=True, kw_only=True):
    """What to copy: `sources` of one side to `target` on the other, as they were typed.

    On the box `~/x` is in the login's home and what is relative is in the workspace; here it is in the present folder.
    `into` says that the target is a folder, made if it is missing.
    """

    to_box: bool
    sources: tuple[bytes, ...]
    target: bytes
    into: bool = False


class Watcher(Protocol):
    """Sees a copy while it goes on."""

    def listed(self, files: int, size: int) -> None:
        """So many files with so many bytes are to be copied; said again after a lost connection."""
        ...

    def moved(self, size: int) -> None:
        """So many more bytes were sent."""
        ...

    def kept(self, size: int) -> None:
        """So many bytes were there already."""
        ...

    def lost(self, why: str) -> None:
        """The connection was lost, and another one is about to be opened."""
        ...


class Copier(Protocol):
    """Copies over one connection to the box."""

    def copy(self, endpoint: Endpoint, place: Place, order: CopyOrder, watcher: Watcher) -> Copied:
        """Does it, from where an earlier copy of the same was cut.

        Raises PlaceFailure for what ends the copy, and where the box lacks what it needs for one; SshFailure, of stage
        `session` where the connection was lost on the way.
        """
        ...
