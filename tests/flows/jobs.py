"""A box that keeps jobs, without one: what its workspace is asked, and jobs that do as a test says."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from ledger.domain.errors import Interrupted
from ledger.domain.ports import Ended, Holder, JobSpec, Sink

Step = Callable[["FakeRunning"], Ended | None]


def ended(exit_code: int | None = 0, signal: str | None = None, *, known: bool = True) -> Ended:
    return Ended(exit_code=exit_code, signal=signal, stdout_bytes=40, stderr_bytes=2, duration_ms=1_234, known=known)


class FakeRunning:
    """A job: each `wait` does the next of its steps, which gives its end, raises, or gives None for a time-out."""

    dropped = (0, 0)

    def __init__(self, steps: Sequence[Step], on_stdout: Sink) -> None:
        self.seen: list[str] = []
        self.out = on_stdout
        self._steps = iter(steps)

    def wait(self, timeout_s: float | None = None) -> Ended:
        self.seen.append("wait" if timeout_s is None else f"wait {timeout_s:g}")
        result = next(self._steps)(self)
        if result is None:
            raise TimeoutError
        return result

    def signal(self, name: str) -> None:
        self.seen.append(name)

    def resize(self, rows: int, columns: int) -> None:
        self.seen.append(f"{rows}x{columns}")

    def detach(self) -> None:
        self.seen.append("detach")


class FakeWorkspace:
    """What `Box.open` gives: a lock with a token, and a job."""

    token = 7

    def __init__(self, *steps: Step) -> None:
        self.holder: Holder | None = None
        self.job: JobSpec | None = None
        self.running: FakeRunning | None = None
        self.is_open = False
        self._steps = steps

    def opened(self, _endpoint: Any, _place: Any, holder: Holder, *, wait_s: float, waiting: Any) -> Any:
        self.holder, self.is_open = holder, True
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.is_open = False

    def start(self, job: JobSpec, on_stdout: Sink, on_stderr: Sink, *, told: Any = None) -> FakeRunning:
        self.job, self.running = job, FakeRunning(self._steps, on_stdout)
        return self.running

    @property
    def seen(self) -> list[str]:
        """What the job was told, in order."""
        return self.running.seen if self.running is not None else []


def ends(exit_code: int | None = 0, signal: str | None = None, *, known: bool = True) -> Step:
    return lambda _running: ended(exit_code, signal, known=known)


def goes_on(_running: FakeRunning) -> None:
    """It has not ended in time."""


def interrupts(number: int) -> Step:
    def interrupt(_running: FakeRunning) -> Ended:
        raise Interrupted(number)

    return interrupt


def fails(failure: BaseException) -> Step:
    def fail(_running: FakeRunning) -> Ended:
        raise failure

    return fail


@contextmanager
def no_signs_of_life(_lease_id: str) -> Iterator[None]:
    yield
