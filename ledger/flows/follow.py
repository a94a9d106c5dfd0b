"""Following a job to its end, and what stop signals make of it: one stops the job, two leave it to itself."""

import signal
from collections.abc import Callable

from msgspec import Struct

from ledger.domain.errors import Interrupted, RentrollError, SshFailure
from ledger.domain.ports import Ended, Interrupts, Running, Sink, UnknownRun

STEPS: dict[int, tuple[tuple[str, float], ...]] = {
    signal.SIGINT: (("INT", 10.0), ("TERM", 10.0), ("KILL", 5.0)),
    signal.SIGTERM: (("TERM", 0.5),),
    signal.SIGHUP: (("HUP", 0.5),),
}
"""What a job is sent after a stop signal of ours, and how many seconds it then has to end.

After SIGTERM the box's DELETE has to leave within two seconds.
"""
HANG_UP: tuple[tuple[str, float], ...] = (("HUP", 2.0), ("TERM", 2.0))
"""What a job is sent whose output nobody takes any more, as by a terminal that goes away."""


class Followed(Struct, frozen=True, kw_only=True):
    """What came of following a job. `ended` is None where it may still run; `failure` is what broke it off, if any.

    `by` is what is to be raised in the end; `left` says that a person left the job to itself.
    """

    ended: Ended | None
    by: BaseException | None = None
    left: bool = False

    @property
    def failure(self) -> str | None:
        return None if self.by is None else str(self.by)

    @property
    def may_go_on(self) -> bool:
        """Whether it may still run: not one that has ended, or that the box does not know."""
        return self.ended is None and not isinstance(self.by, UnknownRun)


def follow(begin: Callable[[], Running], interrupts: Interrupts) -> Followed:
    """Begins to follow a job and waits for its end; what breaks the wait off comes back with the end that it had.

    A stop signal that comes while it begins is held back until there is a job to tell. A first SIGINT stops the job
    (INT, TERM after ten seconds, KILL after ten more) and a second one meanwhile leaves it to itself; SIGTERM and
    SIGHUP tell it once, and do not wait long. Raises what `begin` raises, and `Interrupted` before there is a job.
    """
    running: Running | None = None
    try:
        with interrupts.shielded():
            running = begin()
        return _wait(running)
    except Interrupted as first:
        if running is None:
            raise
        with interrupts.again():
            return _stop(running, first, interrupts)


def _wait(running: Running) -> Followed:
    try:
        return Followed(ended=running.wait())
    except SshFailure as failure:
        running.detach()
        return Followed(ended=None, by=failure)
    except Exception as failure:  # noqa: BLE001 - whatever a sink raised, or the input: the job is no use any more
        return Followed(ended=_send(running, HANG_UP), by=failure)


def _stop(running: Running, first: Interrupted, interrupts: Interrupts) -> Followed:
    try:
        return Followed(ended=_send(running, STEPS[first.signal_number]), by=first)
    except Interrupted as second:
        is_left = second.signal_number == signal.SIGINT
        if not is_left:
            running.signal(STEPS[second.signal_number][0][0])
        with interrupts.shielded():  # one more ends this process: it must not make a failure of what was left
            running.detach()
        return Followed(ended=None, by=second, left=is_left)


def _send(running: Running, steps: tuple[tuple[str, float], ...]) -> Ended | None:
    """The job's end after the first of these signals that ended it in time; None where none did, and it is left."""
    for name, patience_s in steps:
        try:
            running.signal(name)
            return running.wait(patience_s)
        except TimeoutError:
            continue
        except RentrollError:
            break
    running.detach()
    return None


class Counted:
    """A sink that counts what passes. After it has failed the rest is dropped, so that the job can be waited for."""

    def __init__(self, sink: Sink) -> None:
        self.bytes = 0
        self._sink: Sink | None = sink

    def __call__(self, chunk: bytes) -> None:
        self.bytes += len(chunk)
        if self._sink is None:
            return
        try:
            self._sink(chunk)
        except BaseException:
            self._sink = None
            raise
