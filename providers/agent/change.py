"""The steps of a sync that change the workspace: its announcement with the deletes and the folders, and its end."""

from __future__ import annotations

import errno
import os

from providers.agent.incoming import PARTIAL
from providers.agent.manifest import Entry, decode, entry_at
from providers.agent.memory import Memory
from providers.agent.placed import WRITABLE, Folders, failed
from providers.agent.session import Failed, take_folder

INCOMING = "incoming"
"""The folder in STATE where rsync writes what it then renames into the workspace."""
_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)


def make_room(workspace: bytes, state: str, memory: Memory) -> None:
    """Makes the workspace, and takes away what a torn sync was writing. Raises OSError."""
    os.makedirs(workspace, exist_ok=True)
    incoming = take_folder(state + "/" + INCOMING)
    for name in os.listdir(incoming):
        os.unlink(incoming + "/" + name)
    for folder in {entry.path.rpartition(b"/")[0] for entry in memory.announced()}:
        _unlink(b"/".join((workspace, folder, PARTIAL)))


def delete(workspace: bytes, paths: list[bytes]) -> tuple[int, list[bytes]]:
    """Deletes these, folders only where they are empty.

    Gives how many files and links are gone, and the folders that hold something else. Raises Failed.
    """
    folders = Folders(workspace)
    deleted, left = 0, []
    for path in sorted(paths, reverse=True):  # what is in a folder before the folder
        try:
            deleted += _delete(workspace, path, folders)
        except OSError as error:
            if error.errno not in _NOT_EMPTY:
                raise failed(error, path) from None
            left.append(path)
    return deleted, left


def make_way(workspace: bytes, entries: list[Entry]) -> None:
    """Makes the folders of these entries, and lets the others be put into theirs. Raises Failed."""
    folders = Folders(workspace)
    for entry in entries:
        try:
            if not folders.hold(entry.path):
                raise Failed("not-a-folder", "what should hold it is no folder", entry.path)
            folders.open_up(entry.path)
            if entry.kind == "d" and not folders.have(entry.path):
                os.mkdir(workspace + b"/" + entry.path, entry.mode | WRITABLE)
                folders.forget(entry.path)
        except OSError as error:
            raise failed(error, entry.path) from None


def unlike(workspace: bytes, manifest: bytes) -> list[bytes]:
    """The paths at which something else stands than the manifest says. Permissions that alone differ are set.

    Raises Failed, and ValueError where it is no manifest.
    """
    differs = []
    for entry in reversed(decode(manifest)):  # a folder last: without its permissions nothing in it can be seen
        try:
            found = entry_at(workspace, entry.path)
            if found == entry:
                continue
            if found is not None and found._replace(mode=entry.mode) == entry:
                os.chmod(workspace + b"/" + entry.path, entry.mode)
                continue
        except OSError as error:
            raise failed(error, entry.path) from None
        differs.append(entry.path)
    return differs[::-1]


def _delete(workspace: bytes, path: bytes, folders: Folders) -> int:
    if not folders.hold(path):
        return 0  # it went with its folder, or what is there now is somebody else's
    whole = workspace + b"/" + path
    entry = entry_at(workspace, path)
    is_folder = entry is not None and entry.kind == "d"
    folders.forget(path)
    remove = os.rmdir if is_folder else _unlink
    try:
        remove(whole)
    except PermissionError:
        if not folders.open_up(path):
            raise
        remove(whole)
    return int(entry is not None and not is_folder)


def _unlink(path: bytes) -> None:
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
