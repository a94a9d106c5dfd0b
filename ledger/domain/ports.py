"""What the flows need from the outside world, as protocols: the provider, the box, the keys and the clock.

The flows know only these. `providers/` implements them over HTTP and SSH; tests may implement them over the
emulator's pure state. Nothing here does I/O.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from ledger.domain.errors import CredentialsFailure, ProviderFailure
from ledger.domain.instance import Account as Account
from ledger.domain.instance import Instance as Instance
from ledger.domain.instance import Inventory as Inventory
from ledger.domain.working import Begun as Begun
from ledger.domain.working import Committed as Committed
from ledger.domain.working import Ended as Ended
from ledger.domain.working import Entry as Entry
from ledger.domain.working import Holder as Holder
from ledger.domain.working import JobSpec as JobSpec
from ledger.domain.working import NoAgent as NoAgent
from ledger.domain.working import NoAnswer as NoAnswer
from ledger.domain.working import Place as Place
from ledger.domain.working import PlaceFailure as PlaceFailure
from ledger.domain.working import Progress as Progress
from ledger.domain.working import RemoteRun as RemoteRun
from ledger.domain.working import Running as Running
from ledger.domain.working import Sink as Sink
from ledger.domain.working import Survey as Survey
from ledger.domain.working import Tty as Tty
from ledger.domain.working import UnknownRun as UnknownRun
from ledger.domain.working import Workspace as Workspace
from ledger.domain.working import WorkspaceBusy as WorkspaceBusy


class CreateRequest(Struct, frozen=True, kw_only=True):
    """The body of a create, already trimmed: what a replay must repeat byte for byte."""

    instance_type: str
    ssh_key: str
    sector: str | None = None


class CallFailed(ProviderFailure):
    """A call to the provider did not succeed; what is known of how far it came.

    `sent` is False only when no byte of the request left this machine. `answered` is True when a complete status
    line came back. `status`, `error_type` and `request_id` are the provider's; `settles` says that the provider
    understood and refused (a 4xx with its own error object, other than 408 and 409), so that on a first attempt
    nothing was made.
    """

    def __init__(
        self,
        message: str,
        *,
        sent: bool = True,
        answered: bool = False,
        settles: bool = False,
        status: int | None = None,
        error_type: str | None = None,
        request_id: str | None = None,
        retry_after_s: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, retry_after_s=retry_after_s)
        self.sent = sent
        self.answered = answered
        self.settles = settles
        self.status = status
        self.error_type = error_type
        self.request_id = request_id


class KeyRejected(CallFailed, CredentialsFailure):
    """401 or 403: the provider does not accept this API key for this call. Exit code 3."""

    code = CredentialsFailure.code
    exit_code = CredentialsFailure.exit_code
    remedy = CredentialsFailure.remedy


class InstanceAbsent(CallFailed):
    """404 with the provider's error object: this key sees no such instance. On its own it proves nothing."""


class Provider(Protocol):
    """The four Compute calls and the account, under one API key at one URL.

    Every call raises `CallFailed` or a subclass, and `UsageFailure` for an id or key that is no such thing. `timeout_s`
    bounds a call in seconds, and None leaves it to the implementation's own limit. `scope` is the canonical endpoint
    identity that is recorded with each lease. `server_date` is the `Date` header of the newest answer that the calling
    thread was given, None where that sent none: what another thread was told meanwhile judges nothing here.
    """

    @property
    def name(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def server_date(self) -> datetime | None: ...
    def create(self, request: CreateRequest, *, idempotency_key: str, timeout_s: float) -> Instance: ...
    def get(self, instance_id: str, *, timeout_s: float | None = None) -> Instance: ...
    def inventory(self, *, timeout_s: float | None = None) -> Inventory: ...
    def delete(self, instance_id: str, *, timeout_s: float | None = None) -> None: ...
    def account(self, *, timeout_s: float | None = None) -> Account: ...


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where a box answers SSH, and who may log in. `host_key` is the pinned public key line, once known."""

    lease_id: str
    host: str
    port: int
    user: str
    host_key: str | None = None


class BoxFacts(Struct, frozen=True, kw_only=True):
    """What the staged readiness check learnt: the pinned host key and which tools the box has."""

    port: int
    host_key: str
    host_key_fingerprint: str
    tools: dict[str, bool]


class Probe(Struct, frozen=True, kw_only=True):
    """What the SSH server at an address said to a lease's public key, which stands in no other create.

    `verdict` is `accepted` (the box is ours), `refused` (a clean authentication failure), `unproven` (it lets others
    in too, so that its answer proves nothing) or `no-answer` (anything else: it refuses nothing). `host_key` is the
    one public host key line that every connection showed, None where none was seen; `detail` is a sentence.
    """

    verdict: str
    host_key: str | None
    detail: str


class RemoteExit(Struct, frozen=True, kw_only=True):
    """How a remote command ended: its exit code, or the name of the signal that ended it (`TERM`)."""

    exit_code: int | None
    signal: str | None = None


class RemoteCommand(Struct, frozen=True, kw_only=True):
    """One command for a box: a line for its `sh`, and what feeds and drains it.

    `stdin` is a readable binary file descriptor, or None for no input; the sinks take each chunk as it comes.
    """

    line: str
    stdin: int | None
    on_stdout: Callable[[bytes], None]
    on_stderr: Callable[[bytes], None]


class Box(Protocol):
    """The SSH side of one provider. Every method raises `SshFailure` naming the stage it failed at."""

    def check(self, endpoint: Endpoint, *, ports: Sequence[int], timeout_s: float | None = None) -> BoxFacts:
        """One staged attempt: TCP, host key (pinned at first contact), authentication, tools.

        `timeout_s` bounds it in seconds, over all ports and stages; each stage has a limit of its own too.
        """
        ...

    def run(self, endpoint: Endpoint, command: RemoteCommand) -> RemoteExit:
        """Runs one command to its end, streaming both outputs as they come."""
        ...

    def probe(self, endpoint: Endpoint, public_key: str) -> Probe:
        """Whether a box that may be a lease's accepts its key: no fault raises, and nothing is pinned."""
        ...

    def open(
        self,
        endpoint: Endpoint,
        place: Place,
        holder: Holder,
        *,
        wait_s: float,
        waiting: Callable[[Holder], None] = ...,
    ) -> Workspace:
        """Takes the lock of a workspace. `waiting` is told once who holds it, where it has to be waited for.

        Raises WorkspaceBusy after `wait_s` seconds, NoAgent where the box has no python3.
        """
        ...

    def attach(
        self,
        endpoint: Endpoint,
        place: Place,
        run_id: str,
        *,
        from_stdout: int = 0,
        from_stderr: int = 0,
        stdin: int | None = None,
        on_stdout: Sink,
        on_stderr: Sink,
        told: Callable[[str], None] = ...,
    ) -> Running:
        """Follows a run from these offsets, one that has ended as well. Raises UnknownRun."""
        ...

    def runs(self, endpoint: Endpoint, place: Place) -> list[RemoteRun]:
        """The runs that the box remembers of this lease."""
        ...

    def stop_run(self, endpoint: Endpoint, place: Place, run_id: str, *, grace_s: float) -> Ended:
        """Ends a run: INT, TERM after the grace, then KILL. One that has ended is left as it is. Raises UnknownRun."""
        ...

    def warm(self, endpoint: Endpoint) -> None:
        """Begins in the background to keep a connection open for the commands to come. Takes no time, never fails."""
        ...


class KeyStore(Protocol):
    """Each lease's own key pair on this machine: `keys/<lease_id>/`, 0700 and 0600."""

    def make(self, lease_id: str) -> str:
        """Makes the pair durably and gives its public key line."""
        ...

    def destroy(self, lease_id: str) -> None:
        """Removes the lease's folder; does nothing where it is gone already."""
        ...

    def private_path(self, lease_id: str) -> Path: ...


class Boot(Struct, frozen=True, kw_only=True):
    """One boot of one machine and how long it has run, through sleep (`CLOCK_BOOTTIME`)."""

    boot_id: str
    uptime_ms: int


class Clock(Protocol):
    """Time as a parameter. `now` is wall-clock UTC; `monotonic_s` never goes back; `boot` counts through sleep."""

    def now(self) -> datetime: ...
    def monotonic_s(self) -> float: ...
    def boot(self) -> Boot: ...
    def sleep(self, seconds: float) -> None: ...


class LeaseLock(Protocol):
    """The exclusive lock of one lease; its holder's death frees it."""

    def acquire(self, *, timeout_s: float) -> None:
        """Waits for the lock; raises `Conflict` naming the holder when the time is over."""
        ...

    def try_acquire(self) -> bool: ...
    def release(self) -> None: ...
    @property
    def is_held(self) -> bool:
        """Whether this process holds it still: looked at again before each POST."""
        ...


class Interrupts(Protocol):
    """Terminal stop signals. Outside a shield the first one raises `Interrupted` where the work stands."""

    @property
    def asked_at_s(self) -> float | None:
        """When the first one came, on the clock's monotonic seconds; None while there is none."""
        ...

    def shielded(self) -> AbstractContextManager[None]:
        """Holds the first signal back until the block ends; a second one still ends the process at once."""
        ...

    def again(self) -> AbstractContextManager[None]:
        """While the block lasts a further signal raises `Interrupted` where the work stands, as the first one did."""
        ...
