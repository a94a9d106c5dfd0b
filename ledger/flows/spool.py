"""The last resort for an instance id that the ledger would not take: a file beside the keys, read at the next start."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from msgspec import DecodeError, Struct, ValidationError, json

from ledger.domain.errors import RentrollError
from ledger.domain.events import InstanceIdBound
from ledger.domain.names import is_lease_id
from ledger.flows.book import Book


class SpooledId(Struct, frozen=True, kw_only=True):
    """What is known of a box whose id could not be appended."""

    lease_id: str
    instance_id: str
    acquirer: str
    attempt: int | None


class Spool:
    """A folder with one file for each id that waits to be appended.

    `write` puts a small private file in place durably, whole or not at all.
    """

    def __init__(self, folder: Path, write: Callable[[Path, bytes], None]) -> None:
        self._folder = folder
        self._write = write

    def put(self, spooled: SpooledId) -> Path:
        """Writes the id durably; raises OSError where even that fails."""
        which = hashlib.sha256(spooled.instance_id.encode()).hexdigest()[:16]
        path = self._folder / f"{spooled.lease_id}.{which}.json"
        self._write(path, json.encode(spooled))
        return path

    def waiting(self) -> list[tuple[Path, SpooledId]]:
        """The readable ids."""
        return waiting(self._folder)


def waiting(folder: Path) -> list[tuple[Path, SpooledId]]:
    """The readable ids of a spool's folder; a damaged file is left where it is."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            spooled = json.decode(path.read_bytes(), type=SpooledId)
        except (OSError, DecodeError, ValidationError):
            continue
        if is_lease_id(spooled.lease_id):
            found.append((path, spooled))
    return found


def fact_of(spooled: SpooledId) -> InstanceIdBound:
    """The binding that a spooled id comes to: known, so its box is deleted, never worked on."""
    return InstanceIdBound(
        instance_id=spooled.instance_id,
        evidence="spool",
        acquirer=spooled.acquirer,
        attempt=spooled.attempt,
        instance=None,
    )


def merge(folder: str, book: Book) -> list[Path]:
    """Appends the ids that wait in the folder, then forgets each; gives the files that stay, for a person to see."""
    if not os.path.isdir(folder):  # noqa: PTH112 - the common case, on every command's way
        return []
    for path, spooled in waiting(Path(folder)):
        try:
            book.bind_answer(spooled.lease_id, fact_of(spooled))
            path.unlink()
        except (RentrollError, OSError):
            continue
    return sorted(Path(folder).iterdir())
