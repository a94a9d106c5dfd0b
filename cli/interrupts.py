"""SIGINT, SIGTERM and SIGHUP: the first one gives back in order, the second one ends the process at once."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

from ledger.domain.errors import Interrupted, RentrollError

STDERR = 2


class SignalInterrupts:
    """Turns the first stop signal into `Interrupted` where the work stands, or when its shield ends.

    `stop_command` is what a person types if this process does not finish; it is printed before anything else.
    `doing` is what a first SIGINT does where that is neither giving back nor stopping. `asked_at_s` is when the first
    signal came, by `monotonic_s`; None while there is none.
    """

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.stop_command: str | None = None
        self.doing: str | None = None
        self.asked_at_s: float | None = None
        self._monotonic_s = monotonic_s
        self._shields = 0
        self._received: int | None = None
        self._pending = False
        self._repeats = False

    def install(self) -> None:
        """Takes the signals over for the rest of the process."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup it stays ignored
            signal.signal(signal.SIGHUP, self._handle)

    @property
    def is_asked(self) -> bool:
        """Whether a stop signal has come."""
        return self._received is not None

    @contextlib.contextmanager
    def shielded(self) -> Iterator[None]:
        """Holds the first signal back until the block ends."""
        self._shields += 1
        try:
            yield
        except RentrollError as failure:
            self._shields -= 1
            self._raise_pending(failure)
            raise
        except BaseException:
            self._shields -= 1
            raise
        self._shields -= 1
        self._raise_pending(None)

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """While the block lasts a further signal raises `Interrupted` as well."""
        self._repeats = True
        try:
            yield
        finally:
            self._repeats = False

    def _raise_pending(self, failure: RentrollError | None) -> None:
        """The signal that was held back, with the state that a failure in the shield has left."""
        if not self._pending or self._shields:
            return
        self._pending = False
        interrupted = Interrupted(self._received or signal.SIGINT)
        if failure is not None:
            interrupted.left, interrupted.lease_id = failure.message, failure.lease_id
        raise interrupted from failure

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._repeats and not self._shields:
            raise Interrupted(number)
        if self._received is not None:
            self._say("left at once: the ledger knows what is open")
            os._exit(Interrupted(number).exit_code)
        self._received, self.asked_at_s = number, self._monotonic_s()
        leaving = "giving back (once more to leave at once)" if self.stop_command else "stopping"
        self._say(self.doing if self.doing and number == signal.SIGINT else leaving)
        if self._shields:
            self._pending = True
        else:
            raise Interrupted(number)

    def _say(self, what: str) -> None:
        then = f"; to finish by hand: {self.stop_command}" if self.stop_command else ""
        with contextlib.suppress(OSError):  # nobody may be reading any more, and the work has to be given back
            os.write(STDERR, f"\nrentroll: {what}{then}\n".encode())
