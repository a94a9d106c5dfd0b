"""The receiving side of a copy: where everything lands, what of it is there already, and each file whole or not at all.

A file grows beside its target under a name that says which version of which file it is (`copy_plan.partial_name`) and
takes the target's place by one rename when it is whole, so that a copy that was cut goes on later and two versions are
never mixed. What a hostile other side says leads nowhere but below the target: a folder on the way is a real folder.
"""

from __future__ import annotations

import os
from stat import S_IMODE, S_ISDIR, S_ISREG

from providers.agent import frames
from providers.agent.copy_partial import Partial, require_replaceable, unlink
from providers.agent.copy_plan import (
    CONTENTS,
    PARTIAL,
    CopyFailure,
    Source,
    Wire,
    failure_of,
    failure_told,
    heard,
    partial_name,
    partials_of,
    prefix_digest,
)
from providers.agent.manifest import Entry, decode, is_inside

TYPE_CHECKING = False  # as typing's own
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from providers.agent.copy_plan import Watcher

    Due = tuple[bytes, Source, int, bool]
    """A file's path, its source, how many bytes of it are there, and whether they are in place."""

_OWNER = 0o700
_HAVE_BATCH = 1024


class Receiver:
    """Puts what the other side sends at `target`, an absolute path.

    `into` says that the target is a folder, made if it is missing, and that the sources go into it; otherwise they do
    where it is one already, and a single source gets the target's name where it is not.
    """

    def __init__(self, wire: Wire, target: bytes, *, into: bool, watcher: Watcher | None = None) -> None:
        self._wire = wire
        self._target = target.rstrip(b"/") or b"/"
        self._into = into
        self._watcher = watcher
        self._due: dict[int, Due] = {}
        self._folders: list[tuple[bytes, int]] = []
        self._partial: Partial | None = None
        self._partials: dict[bytes, list[bytes]] = {}
        self.failures: list[CopyFailure] = []
        self.files = self.folders = self.links = self.kept_bytes = 0

    def counts(self) -> dict[str, int]:
        """What stands there now; `kept_bytes` of it were there before."""
        return {name: getattr(self, name) for name in ("files", "folders", "links", "kept_bytes")}

    def run(self) -> None:
        """The whole copy. Raises CopyFailure for what ends it; the other failures are in `failures` then."""
        sources, entries = self._listed()
        if self._watcher is not None:
            files = [entry.size for entry in entries if entry.kind == "f"]
            self._watcher.listed(len(files), sum(files))
        if entries:
            self._prepare(entries, self._targets(sources))
        self._wire.say("send")
        try:
            self._take_files()
        finally:
            if self._partial is not None:
                self._partial.close()
        for path, mode in reversed(self._folders):
            _done(path, os.chmod, path, mode)

    def _listed(self) -> tuple[list[Source | None], list[Entry]]:
        encoded = bytearray()
        while True:
            kind, payload = self._wire.receive()
            if kind != frames.MANIFEST:
                break
            encoded += payload
        told = heard(kind, payload, "listed")
        self.failures += [failure_told(failure) for failure in told["failures"]]
        sources = [
            None if each is None else Source(os.fsencode(each[0]), each[1], os.fsencode(each[2]))
            for each in told["sources"]
        ]
        try:
            entries = decode(bytes(encoded))
        except ValueError as error:
            raise CopyFailure("protocol", str(error)) from None
        return sources, entries

    def _targets(self, sources: list[Source | None]) -> list[tuple[bytes, Source] | None]:
        """Each source with the path that it gets."""
        is_folder = os.path.isdir(self._target)
        if self._into and not is_folder:
            _done(self._target, os.mkdir, self._target)
            is_folder = True
        targets: list[tuple[bytes, Source] | None] = []
        for source in sources:
            if source is None:
                targets.append(None)
                continue
            if source.name != CONTENTS and (not is_inside(source.name) or b"/" in source.name):
                raise CopyFailure("protocol", "the other side gave a source no proper name")
            into = is_folder and source.name != CONTENTS
            targets.append((os.path.join(self._target, source.name) if into else self._target, source))
        return targets

    def _prepare(self, entries: list[Entry], targets: list[tuple[bytes, Source] | None]) -> None:
        """Makes folders and links, and says what there is already of which file."""
        folders: set[bytes] = set()
        needed = 0
        have: list[list[Any]] = []
        links: list[tuple[bytes, bytes]] = []
        for number, entry in enumerate(entries):
            parent, slash, _ = entry.path.rpartition(b"/")
            first, _, _ = entry.path.partition(b"/")
            top = int(first) if first.isdigit() else len(targets)
            placed = targets[top] if top < len(targets) and first == b"%d" % top else None
            if placed is None or (slash and parent not in folders):
                raise CopyFailure("protocol", "the other side sent something that is in no folder of its own")
            base, source = placed
            path = base + entry.path[len(first) :]
            if entry.kind == "d":
                folders.add(entry.path)
                self._make_folder(path, entry)
            elif entry.kind == "l":
                links.append((path, entry.target))
            else:
                offset, digest, in_place = self._have_of(entry, path, source)
                self._due[number] = (path, source, offset, in_place)
                needed += entry.size - offset
                if offset:
                    have.append([number, offset, digest])
        self._require_room(needed)
        for path, target in links:
            self._make_link(path, target)
        for at in range(0, len(have), _HAVE_BATCH):
            self._wire.say("have", files=have[at : at + _HAVE_BATCH])

    def _make_folder(self, path: bytes, entry: Entry) -> None:
        is_target = path == self._target  # which alone may be a link to a folder: the user named it
        try:
            status = os.stat(path) if is_target else os.lstat(path)
        except FileNotFoundError:
            _done(path, os.mkdir, path, entry.mode | _OWNER)
            _done(path, os.chmod, path, entry.mode | _OWNER)
            if entry.mode | _OWNER != entry.mode:
                self._folders.append((path, entry.mode))
        except OSError as error:
            raise failure_of(error, path) from None
        else:
            if not S_ISDIR(status.st_mode):
                raise CopyFailure("not-a-folder", "a folder goes where something else stands", path)
            made_by_us = S_IMODE(status.st_mode) == entry.mode | _OWNER != entry.mode
            if made_by_us and not is_target:  # a copy that was cut left it open
                self._folders.append((path, entry.mode))
        self.folders += 1

    def _make_link(self, path: bytes, target: bytes) -> None:
        require_replaceable(path)
        temporary = os.path.join(os.path.dirname(path), partials_of(os.path.basename(path)) + b"%016x.part" % 0)
        try:
            unlink(temporary)
            os.symlink(target, temporary)
            os.rename(temporary, path)
        except OSError as error:
            raise failure_of(error, path) from None
        self.links += 1

    def _have_of(self, entry: Entry, path: bytes, source: Source) -> tuple[int, str, bool]:
        """How many bytes of this version are there, their digest, and whether they are in place already."""
        folder, name = os.path.split(path)
        partial = partial_name(name, source.identity, entry)
        self._drop_others(folder, name, partial)
        found = _there(path, lambda status: (status.st_size, status.st_mtime_ns) == (entry.size, entry.mtime_ns))
        if found is not None:
            return (*found, True)
        found = _there(os.path.join(folder, partial), lambda status: status.st_size <= entry.size)
        return (0, "", False) if found is None else (*found, False)

    def _drop_others(self, folder: bytes, name: bytes, partial: bytes) -> None:
        """Removes the partial copies of other versions that were to get the same name."""
        if folder not in self._partials:
            try:
                self._partials[folder] = [each for each in os.listdir(folder) if PARTIAL.fullmatch(each)]
            except OSError:
                self._partials[folder] = []
        for each in self._partials[folder]:
            if each.startswith(partials_of(name)) and each != partial:
                unlink(os.path.join(folder, each))

    def _require_room(self, needed: int) -> None:
        folder = self._target
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        room = os.statvfs(folder)
        free = room.f_bavail * room.f_frsize
        if room.f_blocks and needed > free:  # a file system that counts nothing says that it has no blocks
            raise CopyFailure("disk-full", f"{needed} bytes are needed and {free} are free", self._target)

    def _take_files(self) -> None:
        while True:
            kind, payload = self._wire.receive()
            if kind == frames.DATA:
                self._take_data(payload)
            elif kind == frames.ENTRY:
                self._begin_file(payload)
            else:
                told = heard(kind, payload, "sent", "again", "unsent", "end")
                if told["is"] == "end":
                    return
                self._end_file(told)

    def _begin_file(self, payload: bytes) -> None:
        where, _, record = payload.partition(b"\0")
        number, offset = map(int, where.split(b" "))
        (entry,) = decode(record)
        if self._partial is not None or number not in self._due:
            raise CopyFailure("protocol", "the other side began a file that was not due")
        path, source, there, in_place = self._due[number]
        if offset not in (0, there):
            raise CopyFailure("protocol", "the other side goes on where it was not asked to", path)
        self._partial = Partial(path, source.identity, entry, offset, in_place=in_place and offset == there > 0)
        self.kept_bytes += offset
        if self._watcher is not None:
            self._watcher.kept(offset)

    def _take_data(self, chunk: bytes) -> None:
        if self._partial is None:
            raise CopyFailure("protocol", "the other side sent data of no file")
        self._partial.write(chunk)
        if self._watcher is not None:
            self._watcher.moved(len(chunk))

    def _end_file(self, told: dict[str, Any]) -> None:
        partial, self._partial = self._partial, None
        if told["is"] == "sent":
            if partial is None:
                raise CopyFailure("protocol", "the other side ended a file that it had not begun")
            self.files += 1
            partial.finish()
        elif partial is not None:
            partial.drop()
        if told["is"] == "unsent":
            self.failures.append(failure_told(told))


def _there(path: bytes, is_it: Callable[[os.stat_result], bool]) -> tuple[int, str] | None:
    """The size and digest of a file that is there and is the one that is meant."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not S_ISREG(status.st_mode) or not is_it(status):
            return None
        digest = prefix_digest(descriptor, status.st_size)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None if digest is None else (status.st_size, digest)


def _done(path: bytes, call: Callable[..., object], *arguments: Any) -> None:
    try:
        call(*arguments)
    except OSError as error:
        raise failure_of(error, path) from None
