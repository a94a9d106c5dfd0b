"""Inside the workspace: what of a path are folders of its own, and why something could not be."""

from __future__ import annotations

import errno
import os
from stat import S_ISDIR

from providers.agent.session import Failed, failed_by

WRITABLE = 0o300
"""What its owner needs of a folder to put something into it."""
_PERMISSIONS = 0o7777
_STAGES = {errno.EEXIST: "not-a-folder", errno.EFBIG: "disk-full"}
"""What these mean where a file is put; a limit on its size is a disk that is full for it."""


def failed(error: OSError, path: bytes | None) -> Failed:
    """The failure that an error of the system at a path of the workspace stands for."""
    failure = failed_by(error)
    failure.stage = _STAGES.get(error.errno or 0, failure.stage)
    failure.path = path
    return failure


class Folders:
    """The folders of a workspace, each looked at once.

    Nothing else changes them meanwhile: no job runs while the workspace's lock is held for a sync. No link is followed:
    what lies behind one is not of the workspace.
    """

    def __init__(self, workspace: bytes) -> None:
        self._workspace = workspace
        self._known = {b"": True}
        self._open = set()  # type: set[bytes]

    def hold(self, path: bytes) -> bool:
        """Whether every folder on the way to `path` is a folder of the workspace itself."""
        return self.have(path.rpartition(b"/")[0])

    def have(self, folder: bytes) -> bool:
        """Whether this is a folder of the workspace itself."""
        known = self._known.get(folder)
        if known is None:
            known = self._known[folder] = self.hold(folder) and self._is_folder(folder)
        return known

    def open_up(self, path: bytes) -> bool:
        """Lets its owner put something into the folder that holds `path`; False where that was so already."""
        folder = path.rpartition(b"/")[0]
        if folder in self._open:
            return False
        self._open.add(folder)
        whole = self._workspace + b"/" + folder
        mode = os.lstat(whole).st_mode
        if mode & WRITABLE == WRITABLE:
            return False
        os.chmod(whole, mode & _PERMISSIONS | WRITABLE)
        return True

    def forget(self, path: bytes) -> None:
        """`path` may have become a folder, or be none any more."""
        self._known.pop(path, None)
        self._open.discard(path)

    def _is_folder(self, folder: bytes) -> bool:
        try:
            return S_ISDIR(os.lstat(self._workspace + b"/" + folder).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False
