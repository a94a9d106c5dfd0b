"""Copying the working tree to a box: the difference, what travels, and the proof that both sides hold the same.

Nothing is sent where nothing differs: then one question to the box is all. What a torn sync has sent already is not
sent again.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from ledger.domain import events as e
from ledger.domain.errors import SyncFailure
from ledger.domain.ports import Begun, Clock, Entry, PlaceFailure, Progress, Survey, Workspace
from ledger.domain.state import Lease
from ledger.domain.syncing import ROUNDS, LocalTree, Plan, SyncDone, difference, folders_above, is_for_rsync, some
from ledger.flows.services import Services, Stage

T = TypeVar("T")
NAMED_MAX = 20
RSYNC_FAILED = "rsync"
"""The stage of a failure of rsync, which our own transfer then makes good."""


class Wish(Struct, frozen=True, kw_only=True):
    """One sync of one lease's workspace.

    `scan` looks at the local tree; it is called while the box looks at its own. With `may_rsync` both sides have rsync.
    """

    lease_id: str
    scan: Callable[[], LocalTree]
    may_rsync: bool
    progress: Progress


def sync(services: Services, wish: Wish, workspace: Workspace) -> SyncDone:
    """Makes the workspace hold what the tree holds, and records it if that changed anything or is new to the ledger.

    Raises SyncFailure where it cannot be, SshFailure where the connection is lost: the same again goes on from there.
    """
    done = copy(services.clock, wish, workspace, lambda words: _tell(services, wish.lease_id, words))
    lease = services.book.load(wish.lease_id)
    if not done.changed_nothing or lease.last_sync is None or lease.last_sync.manifest_digest != done.manifest_digest:
        fact = e.SyncFinished(
            files=done.files,
            sent_files=done.sent_files,
            sent_bytes=done.sent_bytes,
            deleted_files=done.deleted_files,
            duration_ms=done.duration_ms,
            manifest_digest=done.manifest_digest,
        )
        services.book.record(wish.lease_id, fact)
    return done


def copy(clock: Clock, wish: Wish, workspace: Workspace, tell: Callable[[str], None]) -> SyncDone:
    """The same, with nothing of the ledger."""
    began_s = clock.monotonic_s()
    surveyed = Meanwhile(workspace.survey, "survey")
    tree = wish.scan()
    sending, digest = _Sending(wish, workspace, tree, tell), tree.digest
    survey = surveyed.result()
    if survey.digest != digest:
        digest = sending.run(survey)
    return SyncDone(
        files=sending.count(),
        sent_files=len(sending.sent),
        sent_bytes=sum(entry.size for entry in sending.sent.values()),
        deleted_files=sending.deleted,
        overwritten=sending.overwritten,
        duration_ms=round((clock.monotonic_s() - began_s) * 1000),
        manifest_digest=digest,
    )


class _Sending:
    """One sync that has something to do, or has to find out whether it has."""

    def __init__(self, wish: Wish, workspace: Workspace, tree: LocalTree, tell: Callable[[str], None]) -> None:
        self._wish = wish
        self._workspace = workspace
        self._tree = tree
        self._tell = tell
        self._here = {entry.path: entry for entry in tree.entries}
        self._is_as_looked_at = True
        self.sent: dict[bytes, Entry] = {}
        self.deleted = 0
        self.overwritten: tuple[bytes, ...] = ()

    def count(self) -> int:
        """The files and links of the tree, as they were sent."""
        return sum(entry.kind != "d" for entry in self._here.values())

    def run(self, survey: Survey) -> str:
        """Does what there is to do; gives the digest of what is there then."""
        stored, plan = self._plan(survey)
        whole = [*self._tree.entries, *plan.kept]
        if not plan.announce and not plan.delete and not survey.pending and {*stored} == {*whole}:
            return survey.digest or ""
        _require_room(plan, survey)
        self.overwritten = plan.overwritten
        if plan.overwritten:  # before it is: afterwards the connection may be gone, and the names with it
            self._tell(
                f"replacing {len(plan.overwritten):,} changed on the box by what is here: "
                f"{some(plan.overwritten, NAMED_MAX)}"
            )
        self._begin(plan.announce, plan.delete, plan.cleared)
        self._send(plan.send, plan.older)
        return self._commit(plan)

    def _plan(self, survey: Survey) -> tuple[Sequence[Entry], Plan]:
        stored: list[Entry] = []
        there: list[Entry] = []
        if survey.digest is not None or survey.pending:
            stored, there = self._workspace.listing()
        known = {entry.path for entry in stored}
        new = [path for path in self._here if path not in known]
        if new:
            there += self._workspace.look(sorted({*new, *folders_above(new)} - known))
        return stored, difference(self._tree.entries, stored=stored, there=there, omitted=self._tree.omitted)

    def _begin(self, entries: Sequence[Entry], deletes: Sequence[bytes], cleared: Iterable[bytes]) -> Begun:
        begun = self._workspace.begin(entries, deletes)
        self.deleted += begun.deleted
        in_the_way = sorted({*begun.left}.intersection(cleared))
        if in_the_way:
            raise SyncFailure(
                f"{some(in_the_way)} is a file here and on the box a folder that holds what did not come from here",
                hint="move that folder away on the box; what it held of ours is deleted, nothing else was touched",
            )
        return begun

    def _send(self, entries: Sequence[Entry], older: Collection[bytes]) -> None:
        """Sends these, and again what changed meanwhile, a few times."""
        for _ in range(ROUNDS):
            if not entries:
                return
            self._transfer(entries, older)
            self.sent.update((entry.path, entry) for entry in entries)
            entries = self._changed(entries)
        if entries:
            raise SyncFailure(
                f"{some([entry.path for entry in entries])} changed here each time it was sent",
                hint="stop what writes to it or exclude it; what arrived stays, and the next sync goes on from there",
            )

    def _transfer(self, entries: Sequence[Entry], older: Collection[bytes]) -> None:
        large = [entry for entry in entries if self._wish.may_rsync and is_for_rsync(entry, older)]
        if large:
            done = {entry.path for entry in large} - self._rsync(large)
            entries = [entry for entry in entries if entry.path not in done]
        if entries:
            self._workspace.put(self._tree.root, entries, self._wish.progress)

    def _rsync(self, entries: Sequence[Entry]) -> set[bytes]:
        """Sends these by rsync; gives what has not arrived."""
        try:
            self._workspace.rsync(self._tree.root, [entry.path for entry in entries], self._wish.progress)
        except PlaceFailure as failure:
            if failure.stage != RSYNC_FAILED:
                raise
            self._tell(f"{failure.message}; going on without rsync")
            arrived = {entry.path: entry for entry in self._workspace.look(entry.path for entry in entries)}
            return {entry.path for entry in entries if arrived.get(entry.path) != entry}
        return set()

    def _changed(self, entries: Sequence[Entry]) -> list[Entry]:
        """What of these is something else here by now. What is gone here goes there too."""
        now = {entry.path: entry for entry in self._tree.look(entry.path for entry in entries)}
        changed = []
        for entry in entries:
            found = now.get(entry.path)
            if found == entry:
                continue
            self._is_as_looked_at = False
            if found is not None and found.kind == "d":
                raise SyncFailure(
                    f"{some([entry.path])} became a folder while it was copied",
                    hint="the same command goes on from there",
                )
            if found is not None:
                changed.append(found)
                self._here[entry.path] = found
            else:
                del self._here[entry.path]
                self.sent.pop(entry.path, None)
        gone = [entry.path for entry in entries if entry.path not in now]
        if gone:
            self._begin((), gone, ())
        return changed

    def _commit(self, plan: Plan) -> str:
        """Lets the box compare all of it; what differs there is sent once more, by ourselves."""
        differs: tuple[bytes, ...] = ()
        for is_last in (False, True):
            committed = self._workspace.commit(self._manifest(plan.kept))
            if committed.digest is not None:
                return committed.digest
            differs = committed.differs
            if not is_last:
                again = [self._here[path] for path in differs if path in self._here]
                self._begin(again, (), ())
                self._workspace.put(
                    self._tree.root, [entry for entry in again if entry.kind != "d"], self._wish.progress
                )
                self._changed(again)
        raise SyncFailure(
            f"{some(differs)} is not on the box as it is here, although it was sent twice",
            hint="something on the box changes it, or its file system keeps no such times; the rest has arrived",
        )

    def _manifest(self, kept: Sequence[Entry]) -> bytes:
        """Of all that is to be there; as a rule it has been written already."""
        if self._is_as_looked_at and not kept:
            return self._tree.encoded
        return self._tree.manifest([*self._here.values(), *kept])


class Meanwhile(Generic[T]):
    """A call that runs in a thread of that name while this one does something else."""

    def __init__(self, call: Callable[[], T], name: str) -> None:
        self._call = call
        self._given: list[T] = []
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def result(self) -> T:
        """What it gave; raises what it raised."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._given[0]

    def _run(self) -> None:
        try:
            self._given.append(self._call())
        except BaseException as failure:  # noqa: BLE001 - `result` raises it to the caller
            self._failure = failure


def _require_room(plan: Plan, survey: Survey) -> None:
    if plan.room_bytes > survey.free_bytes:
        raise PlaceFailure(
            f"the box's disk is too small: {plan.room_bytes:,} bytes are needed and {survey.free_bytes:,} are free",
            stage="disk-full",
            hint="make room on the box, or exclude what it does not need; nothing was sent",
        )


def _tell(services: Services, lease_id: str, words: str) -> None:
    lease: Lease = services.book.load(lease_id)
    services.tell(Stage(lease_id=lease_id, slug=lease.slug, name="sync", detail=words))
