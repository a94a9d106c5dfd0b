"""Folders and files that only their owner may read, made so that they survive a power failure."""

import os
import stat
from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600
TEMPORARY_PREFIX = ".new-"
"""What an unfinished file's name begins with; such a file may be removed at any time."""


def make_private_folder(folder: Path) -> None:
    """Makes the folder and what is missing above it, 0700, each durable in its parent; leaves existing ones alone."""
    if folder.is_dir():
        return
    make_private_folder(folder.parent)
    try:
        folder.mkdir(mode=FOLDER_MODE)
    except FileExistsError:
        if not folder.is_dir():
            raise
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable: a new or renamed file survives only with its folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_private_folder(folder: Path) -> None:
    """As `make_private_folder`, but for a folder of ours alone: it must be no link, and becomes 0700 if it was not."""
    make_private_folder(folder)
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise NotADirectoryError(f"{folder} is not a folder")
    folder.chmod(FOLDER_MODE)
    sync_folder(folder.parent)


def write_private_file(path: Path, content: bytes) -> None:
    """Puts `content` at `path`, 0600, whole or not at all: written beside it, synced, renamed. Raises OSError."""
    temporary = path.with_name(TEMPORARY_PREFIX + path.name)
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def keep_private_file(path: Path, content: bytes) -> None:
    """`write_private_file` where the folder may be missing too. Raises OSError."""
    make_private_folder(path.parent)
    write_private_file(path, content)
