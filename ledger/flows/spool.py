"""The last resort for an instance id that the ledger would not take: a file beside the keys, read at the next start."""

import hashlib
import os
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
    """A folder with one file for each id that waits to be appended."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, spooled: SpooledId) -> Path:
        """Writes the id durably; raises OSError where even that fails."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        which = hashlib.sha256(spooled.instance_id.encode()).hexdigest()[:16]
        path = self._folder / f"{spooled.lease_id}.{which}.json"
        partial = path.with_suffix(".partial")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(json.encode(spooled))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        for folder in (self._folder, self._folder.parent):
            _fsync_folder(folder)
        return path

    def waiting(self) -> list[tuple[Path, SpooledId]]:
        """The readable ids; a damaged file is left where it is."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                spooled = json.decode(path.read_bytes(), type=SpooledId)
            except (OSError, DecodeError, ValidationError):
                continue
            if is_lease_id(spooled.lease_id):
                found.append((path, spooled))
        return found


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    for path, spooled in Spool(Path(folder)).waiting():
        try:
            book.record(spooled.lease_id, fact_of(spooled))
            path.unlink()
        except (RentrollError, OSError):
            continue
    return sorted(Path(folder).iterdir())
