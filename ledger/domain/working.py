"""Working on a box: a job, how it ended, who holds the workspace, what of a tree is there; passed on by `ports`.

The program on the box that keeps all this is `providers.agent`; what travels is described there.
"""

from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Protocol, Self

from msgspec import Struct

from ledger.domain.errors import Conflict, SshFailure, SyncFailure

Sink = Callable[[bytes], None]
"""Takes each chunk of a stream as it comes; what it raises comes out of `wait`."""


class Place(Struct, frozen=True, kw_only=True):
    """Where a lease's files are on its box: below `root`, which is absolute or begins with `~/`."""

    root: str
    lease_id: str


class Tty(Struct, frozen=True, kw_only=True):
    """The terminal that a job is given: its size and its name (`xterm-256color`)."""

    rows: int
    columns: int
    term: str


class JobSpec(Struct, frozen=True, kw_only=True):
    """One job: exactly one of `argv`, `shell` (a line for the login's shell) and `script` (a program's bytes).

    `env` travels over the connection only. `stdin` is a readable binary descriptor, or None for no input.
    """

    run_id: str
    argv: tuple[str, ...] | None = None
    shell: str | None = None
    script: bytes | None = None
    env: dict[str, str] = {}
    tty: Tty | None = None
    stdin: int | None = None


class Ended(Struct, frozen=True, kw_only=True):
    """How a job ended: its code, or the name of the signal that ended it (`TERM`).

    `known` is False where what watched it on the box died without saying (the box went down): then nothing else is.
    """

    exit_code: int | None
    signal: str | None = None
    stdout_bytes: int
    stderr_bytes: int
    duration_ms: int
    known: bool = True


class RemoteRun(Struct, frozen=True, kw_only=True):
    """One run that the box remembers. `ended` is None while it runs; `started_at` is the box's clock, Unix seconds."""

    run_id: str
    pid: int | None
    running: bool
    ended: Ended | None
    started_at: float | None = None


class Holder(Struct, frozen=True, kw_only=True):
    """Who holds a workspace: a client's host and process, and for what (`run`, `sync`)."""

    run_id: str | None
    host: str
    pid: int
    purpose: str


class WorkspaceBusy(Conflict):
    """Somebody else worked there for longer than we were to wait."""

    def __init__(self, message: str, *, holder: Holder, hint: str | None = None, lease_id: str | None = None) -> None:
        super().__init__(message, hint=hint, lease_id=lease_id)
        self.holder = holder


class NoAgent(SshFailure):
    """The box has no python3 (3.8 or newer) for the program that keeps jobs and trees there. Stage `tools`."""


class NoAnswer(SshFailure):
    """The connection is there, and the box has not said in time what it was asked. Stage `session`."""


class UnknownRun(SshFailure):
    """The box does not know this run: it was never begun there, or its folder is gone. Stage `session`."""


class PlaceFailure(SyncFailure):
    """The box could not do what it was asked with files; `stage` is its word for why.

    `disk-full`, `permission`, `not-a-folder`, `io`, `fenced` (another client has taken the lock since), `protocol`.
    """

    def __init__(self, message: str, *, stage: str, path: bytes | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.stage = stage
        self.path = path


class Entry(Protocol):
    """One entry of a tree (`providers.agent.manifest.Entry` is one).

    `kind` is `f`, `d` or `l`; `mode` the permission bits, 0 for links; `size` in bytes and `mtime_ns` are 0 but for
    files; `target` is a link's.
    """

    @property
    def path(self) -> bytes: ...
    @property
    def kind(self) -> str: ...
    @property
    def mode(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def target(self) -> bytes: ...


class Survey(Struct, frozen=True, kw_only=True):
    """What is on the box of what the last sync put: its digest, None where nothing was ever put.

    `pending` says that a sync was torn; `free_bytes` is the space of the box's disk.
    """

    digest: str | None
    pending: bool
    free_bytes: int


class Begun(Struct, frozen=True, kw_only=True):
    """What the box did before anything was sent: how much it deleted, and the folders it left as they held more."""

    deleted: int
    left: tuple[bytes, ...] = ()


class Committed(Struct, frozen=True, kw_only=True):
    """What the box found against the whole manifest: its digest, or the paths that differ."""

    digest: str | None
    differs: tuple[bytes, ...] = ()


Progress = Callable[[int, int], None]
"""Told of files and bytes sent so far."""


class Running(Protocol):
    """A job that this process follows; the job itself needs nobody.

    `dropped` is how many bytes of stdout and stderr were asked for and had been thrown away already (the box keeps a
    bounded log): of an attached run alone.
    """

    dropped: tuple[int, int]

    def wait(self, timeout_s: float | None = None) -> Ended:
        """Waits until the job has ended and both outputs are delivered.

        Connects again by itself when the connection tears, and goes on where it stopped. Raises SshFailure (stage
        `session`) when it could not for too long, TimeoutError after `timeout_s` seconds, whatever a sink raised, and
        UsageFailure when the local input could not be read. What a Python signal handler raises comes out at once, and
        `wait` may be called again.
        """
        ...

    def signal(self, name: str) -> None:
        """Sends a signal (`INT`) to the job's whole process group; kept for later while there is no connection."""
        ...

    def resize(self, rows: int, columns: int) -> None: ...

    def detach(self) -> None:
        """Leaves the job to itself; `wait` must not be called any more. Never fails."""
        ...


class Workspace(Protocol):
    """A workspace under its lock. Leaving it as a context manager frees the lock, unless a job runs.

    `token` grows by one with each lock. What concerns files raises PlaceFailure; everything raises SshFailure.
    """

    token: int

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def start(self, job: JobSpec, on_stdout: Sink, on_stderr: Sink, *, told: Callable[[str], None] = ...) -> Running:
        """Starts the job; the workspace then is the job's, and nothing else may be asked of it.

        `told` is given a sentence when the connection tears and when it is back. Raises `SshFailure` only where the
        box refused it, so that it never began; one that tears here is what waiting for the job finds out.
        """
        ...

    def survey(self) -> Survey: ...
    def listing(self) -> tuple[list[Entry], list[Entry]]:
        """What the last sync put (with what a torn one announced), and what of these is there now."""
        ...

    def look(self, paths: Iterable[bytes]) -> list[Entry]:
        """What is there now at these paths."""
        ...

    def begin(self, entries: Sequence[Entry], deletes: Sequence[bytes]) -> Begun:
        """Announces durably what is about to be put, and deletes."""
        ...

    def put(self, root: bytes, entries: Sequence[Entry], progress: Progress) -> None:
        """Sends these entries of the local folder `root` over this connection."""
        ...

    def rsync(self, root: bytes, paths: Sequence[bytes], progress: Progress) -> None:
        """Has the local rsync send these paths of the local folder `root`.

        Raises PlaceFailure (stage `rsync`) where it cannot: `put` can.
        """
        ...

    def commit(self, manifest: bytes) -> Committed:
        """Makes the encoded manifest the one of what was put, where the box finds just that."""
        ...
