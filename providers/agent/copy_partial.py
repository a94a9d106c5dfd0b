"""One file on its way: it grows beside its target and takes the target's place by one rename when it is whole."""

from __future__ import annotations

import os
from stat import S_IMODE, S_ISDIR, S_ISLNK, S_ISREG

from providers.agent.copy_plan import CopyFailure, failure_of, partial_name

TYPE_CHECKING = False  # as typing's own
if TYPE_CHECKING:
    from providers.agent.manifest import Entry

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class Partial:
    """The file that gets the name `path`: from `offset` on, or in place already, where only its mode may differ."""

    def __init__(self, path: bytes, identity: bytes, entry: Entry, offset: int, *, in_place: bool) -> None:
        self.is_in_place = in_place
        self._path = path
        self._entry = entry
        self._size = offset
        folder, name = os.path.split(path)
        self._beside = os.path.join(folder, partial_name(name, identity, entry))
        self._descriptor = -1
        require_replaceable(path)
        try:
            if in_place:
                self._descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            elif offset:
                self._descriptor = os.open(self._beside, _OLD)
                os.lseek(self._descriptor, offset, os.SEEK_SET)
            else:
                unlink(self._beside)
                self._descriptor = os.open(self._beside, _NEW, 0o600)
        except OSError as error:
            raise failure_of(error, path) from None

    def write(self, chunk: bytes) -> None:
        """The next bytes. Where the disk is full, what there was of the file is removed, so that it is not full."""
        try:
            left = memoryview(chunk)
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            failure = failure_of(error, self._path)
            if failure.stage == "disk-full":
                self.drop()
            raise failure from None
        self._size += len(chunk)

    def finish(self) -> None:
        """Gives the file its mode, its mtime and its name."""
        if self._size != self._entry.size:
            raise CopyFailure("protocol", "the other side sent another number of bytes than it said", self._path)
        try:
            ours = os.fstat(self._descriptor)
            if S_IMODE(ours.st_mode) != self._entry.mode:
                os.fchmod(self._descriptor, self._entry.mode)
            if not self.is_in_place:
                os.utime(self._descriptor, ns=(self._entry.mtime_ns, self._entry.mtime_ns))
                self._rename(ours)
        except OSError as error:
            raise failure_of(error, self._path) from None
        finally:
            self.close()

    def _rename(self, ours: os.stat_result) -> None:
        """Another copy of the same version may have been quicker: then the file in place is this one."""
        try:
            named = os.lstat(self._beside)
        except FileNotFoundError:
            named = os.lstat(self._path)
            if (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino):
                return
        if (named.st_dev, named.st_ino) != (ours.st_dev, ours.st_ino):
            raise CopyFailure("changed", "another copy to the same name went on at the same time", self._path)
        os.rename(self._beside, self._path)

    def drop(self) -> None:
        """Leaves nothing of it beside its target."""
        self.close()
        unlink(self._beside)

    def close(self) -> None:
        """Leaves what there is, for a later copy to go on with."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def require_replaceable(path: bytes) -> None:
    """A file takes the place of a file or of a link, never of a folder or a device."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise failure_of(error, path) from None
    if S_ISDIR(mode):
        raise CopyFailure("not-a-file", "a folder stands where a file goes", path)
    if not S_ISREG(mode) and not S_ISLNK(mode):
        raise CopyFailure("not-a-file", "what stands there is neither a file nor a link", path)


def unlink(path: bytes) -> None:
    """Removes a name that may be gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
