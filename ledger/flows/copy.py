"""Copying files to and from a ready box, over as many connections as it takes.

For `run --download REMOTE[=LOCAL]`:

    download(copier, place, remote, local, *, endpoint, clock, watcher) -> Copied

`remote` and `local` are as they were typed; what is relative there is in the workspace. It raises PlaceFailure (exit 6)
and SshFailure (exit 7), and gives no `failures`: what could not be read is raised as well.
"""

from msgspec.structs import replace

from ledger.domain.copying import Copied, Copier, CopyOrder, NotCopied, Watcher
from ledger.domain.ports import Clock, Endpoint, Place, PlaceFailure
from ledger.flows.going_on import going_on


class _Counting:
    """Passes on what is seen, and counts what was sent over all connections."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self.bytes = 0
        self.listed, self.kept, self.lost = watcher.listed, watcher.kept, watcher.lost

    def moved(self, size: int) -> None:
        self.bytes += size
        self._watcher.moved(size)


def copy(copier: Copier, endpoint: Endpoint, place: Place, order: CopyOrder, clock: Clock, watcher: Watcher) -> Copied:
    """Copies, and goes on over a new connection where one is lost, as long as bytes arrive.

    Raises SshFailure where the box cannot be reached any more, PlaceFailure for what ends the copy.
    """
    counting = _Counting(watcher)

    def once() -> Copied:
        before = counting.bytes
        done = copier.copy(endpoint, place, order, counting)
        return replace(done, bytes=counting.bytes, kept_bytes=max(0, done.kept_bytes - before))

    return going_on(once, arrived=lambda: counting.bytes, clock=clock, lost=watcher.lost)


def download(
    copier: Copier,
    place: Place,
    remote: bytes,
    local: bytes | None,
    *,
    endpoint: Endpoint,
    clock: Clock,
    watcher: Watcher,
) -> Copied:
    """Fetches one file or folder of the box after a run; by default to its own name in the present folder.

    Raises PlaceFailure where anything of it could not be copied, SshFailure where the box cannot be reached.
    """
    order = CopyOrder(to_box=False, sources=(remote,), target=local or b".", into=local is None or local.endswith(b"/"))
    done = copy(copier, endpoint, place, order, clock, watcher)
    for failure in done.failures:
        raise not_all(failure, len(done.failures))
    return done


def not_all(failure: NotCopied, count: int) -> PlaceFailure:
    """The failure of a copy of which the rest was done."""
    others = "" if count == 1 else f" (and {count - 1} more)"
    return PlaceFailure(f"not copied: {failure}{others}", stage=failure.stage, path=failure.path)
