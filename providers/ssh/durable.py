"""Small files that must survive a power cut: written beside their place, fsynced, renamed, folder fsynced."""

import os
import stat
from pathlib import Path

TEMPORARY_PREFIX = ".new-"
"""What an unfinished file's name begins with; such a file may be removed at any time."""


def make_folder(folder: Path) -> None:
    """Makes a private folder (0700) and every missing parent, each one durably entered in its own parent.

    Raises OSError where that cannot be done, also where `folder` is a symbolic link or not a folder.
    """
    missing = []
    step = folder
    while not step.exists():
        missing.append(step)
        step = step.parent
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
        fsync_folder(path.parent)
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise NotADirectoryError(f"{folder} is not a folder")
    folder.chmod(0o700)
    fsync_folder(folder.parent)


def write_file(path: Path, content: bytes, *, mode: int) -> None:
    """Puts `content` at `path`, whole or not at all, with the permissions `mode`. Raises OSError."""
    temporary = path.with_name(TEMPORARY_PREFIX + path.name)
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
