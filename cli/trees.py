"""The working tree that `run` copies: looked at before a box is paid for, and again when it leaves."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cli.render import note
from ledger.domain.errors import SshFailure
from ledger.flows.going_on import filled
from ledger.flows.sync import Meanwhile, Wish, sync
from ledger.flows.work import LOCK_TIMEOUT_S, connection_lost, endpoint_of, holder_of, in_words, place_of
from providers.worktree.guard import guard
from providers.worktree.scan import scan
from providers.worktree.tree import ScanOptions, Tree

if TYPE_CHECKING:
    from ledger.domain.ports import Holder, Progress, Workspace
    from ledger.domain.state import Lease
    from ledger.domain.syncing import SyncDone
    from ledger.flows.services import Services

GOES_ON = "what arrived on the box stays, and the same command goes on from there"


class TreeFlags(NamedTuple):
    """The flags of `run` that are the sync's."""

    path: str | None
    with_git: bool
    allow_mass_deletions: bool
    force_large: bool


class Trees:
    """One tree and its copies. `done` is what the last one did. What is worth saying of the tree is said once.

    `private` is a folder of ours that is never copied, wherever it is; `progress` is told how far a copy is.
    """

    def __init__(
        self, flags: TreeFlags, *, private: str, progress: "Progress | None" = None, may_rsync: bool = True
    ) -> None:
        self._may_rsync = may_rsync
        self._private = os.fsencode(os.path.realpath(private))
        self.done: SyncDone | None = None
        self._flags = flags
        self.progress: Progress = progress or (lambda _files, _sent: None)
        self._said: set[str] = set()

    def look(self) -> Tree:
        """The tree as it is now. Raises `UsageFailure` and `SyncFailure` for one that is not copied."""
        flags = self._flags
        options = ScanOptions(path_mode=flags.path is not None, with_git=flags.with_git, private=(self._private,))
        tree = scan(Path(flags.path or "."), options)
        sentences = guard(tree, allow_mass_deletions=flags.allow_mass_deletions, force_large=flags.force_large)
        _ = tree.digest  # reckoned here, while the connection is made: after that the box waits for it
        for sentence in sentences:
            if sentence not in self._said:
                self._said.add(sentence)
                note(sentence)
        return tree

    def is_dirty(self) -> bool | None:
        """Whether what is copied differs from the commit; None where git was not asked, or has no answer."""
        if self._flags.path is not None:
            return None
        from cli.repository import is_dirty

        return is_dirty()

    def put(
        self,
        services: "Services",
        lease: "Lease",
        workspace: "Workspace",
        *,
        scan: "Callable[[], Tree] | None" = None,
    ) -> str:
        """Copies the tree into a locked workspace; gives the digest of what is there then.

        `scan` gives the tree where somebody has begun to look at it already.
        """
        may_rsync = self._may_rsync and _has_rsync(lease)
        wish = Wish(lease_id=lease.lease_id, scan=scan or self.look, may_rsync=may_rsync, progress=self.progress)
        try:
            self.done = sync(services, wish, workspace)
        except SshFailure as failure:
            failure.hint = failure.hint or GOES_ON
            raise
        return self.done.manifest_digest

    def sync(self, services: "Services", lease: "Lease", *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> None:
        """The same, with no command after it."""
        holder = holder_of(services, "sync")
        place, endpoint = place_of(lease), endpoint_of(lease)
        looking = Meanwhile(self.look, "scan")

        def opened() -> "Workspace":
            return services.box.open(endpoint, place, holder, wait_s=lock_timeout_s, waiting=_waiting(lease))

        def fill(workspace: "Workspace") -> str:
            return self.put(services, lease, workspace, scan=looking.result)

        with filled(opened, fill, clock=services.clock, lost=connection_lost(services, lease)):
            pass  # nothing runs there: leaving it frees the lock


def _waiting(lease: "Lease") -> "Callable[[Holder], None]":
    return lambda holder: note(f"{lease.slug}: waiting: the box is {in_words(holder)}")


def _has_rsync(lease: "Lease") -> bool:
    """Whether both sides have rsync, as far as the box told when it became ready."""
    there = lease.ready is not None and lease.ready.tools.get("rsync", False)
    return there and shutil.which("rsync") is not None
