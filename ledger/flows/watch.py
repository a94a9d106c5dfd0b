"""Cleaning up every minute until stopped: the passes, the time between them, and what is worth a word (W-10)."""

from collections.abc import Callable, Sequence
from datetime import datetime

from msgspec import Struct

from ledger.domain.errors import Interrupted, RentrollError
from ledger.domain.ports import Clock, Interrupts
from ledger.flows.recover import NOT_BEGUN, Done, failure_of

WHOLE_PASS = ""
"""What stands for a lease where the trouble is not of one lease."""


class Passed(Struct, frozen=True, kw_only=True):
    """What one pass did. `failure` is why not all could be done, although these leases were looked at."""

    done: Sequence[Done]
    failure: RentrollError | None = None


class Looked(Struct, frozen=True, kw_only=True):
    """One pass with its times; `is_whole` says that every lease was looked at."""

    started_at: datetime
    finished_at: datetime
    done: Sequence[Done]
    failure: RentrollError | None
    is_whole: bool


def watch(
    one_pass: Callable[[], Passed],
    told: Callable[[Looked], None],
    *,
    clock: Clock,
    interrupts: Interrupts,
    interval_s: float,
) -> None:
    """Makes a pass every `interval_s` seconds, from beginning to beginning, until a stop signal; then it returns.

    Nothing that a pass meets ends it: a failure is told, and so is a bug, under its kind. A signal ends the time
    between two passes at once; during a pass it is held back, and `one_pass` is to ask whether there is one before it
    begins with another lease.
    """
    try:
        while True:
            began_s = clock.monotonic_s()
            with interrupts.shielded():
                told(look(one_pass, clock))
            clock.sleep(max(0.0, began_s + interval_s - clock.monotonic_s()))
    except Interrupted:
        return


def look(one_pass: Callable[[], Passed], clock: Clock) -> Looked:
    """One pass, whatever becomes of it."""
    started_at = clock.now()
    try:
        passed = one_pass()
    except RentrollError as failure:
        passed, is_whole = Passed(done=(), failure=failure), False
    except Exception as bug:  # noqa: BLE001 - the next pass may do better, and what has expired must not wait for us
        passed, is_whole = Passed(done=(), failure=failure_of(bug)), False
    else:
        is_whole = True
    return Looked(
        started_at=started_at,
        finished_at=clock.now(),
        done=passed.done,
        failure=passed.failure,
        is_whole=is_whole,
    )


class Change(Struct, frozen=True, kw_only=True):
    """A trouble that began, with its failure, or one that is over, without. `slugs` are its leases, if any."""

    code: str
    slugs: tuple[str, ...]
    failure: RentrollError | None


class Troubles:
    """What is wrong now, so that it is told once while it lasts, and again when it is over.

    A trouble belongs to the whole pass or to a lease. A lease's is over when something was done for it that did not
    fail, or when nothing is left of it; what only waits for its date is not.
    """

    def __init__(self) -> None:
        self._lasting: dict[str, tuple[str, str]] = {}

    def changes(self, looked: Looked) -> list[Change]:
        """What has changed with this pass, the leases of one kind of trouble together."""
        begun: dict[str, Change] = {}
        over: dict[str, Change] = {}
        if looked.is_whole:
            self._end(self._gone(looked), over)
        if looked.failure is None:
            self._end([WHOLE_PASS], over)
        else:
            self._begin(WHOLE_PASS, "", looked.failure, begun)
        for done in looked.done:
            if done.error is not None:
                self._begin(done.action.lease_id, done.action.slug, done.error, begun)
        return [*over.values(), *begun.values()]

    def _gone(self, looked: Looked) -> list[str]:
        """The leases whose trouble is over."""
        lasting = {
            done.action.lease_id
            for done in looked.done
            if done.error is not None or done.action.action == "none" or done.result == NOT_BEGUN
        }
        return [lease_id for lease_id in self._lasting if lease_id not in (*lasting, WHOLE_PASS)]

    def _begin(self, lease_id: str, slug: str, failure: RentrollError, begun: dict[str, Change]) -> None:
        if self._lasting.get(lease_id, ("",))[0] != failure.code:
            _gather(begun, failure.code if lease_id else WHOLE_PASS, failure.code, slug, failure)
        self._lasting[lease_id] = (failure.code, slug)

    def _end(self, lease_ids: Sequence[str], over: dict[str, Change]) -> None:
        for lease_id in lease_ids:
            if lease_id in self._lasting:
                code, slug = self._lasting.pop(lease_id)
                _gather(over, code if lease_id else WHOLE_PASS, code, slug, None)


def _gather(changes: dict[str, Change], key: str, code: str, slug: str, failure: RentrollError | None) -> None:
    before = changes.get(key)
    slugs = (*before.slugs, slug) if before is not None else (slug,) if slug else ()
    changes[key] = Change(code=code, slugs=slugs, failure=before.failure if before is not None else failure)
