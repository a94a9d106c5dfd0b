"""Every fact the ledger can hold, as frozen, versioned structs: the stored names and fields are for ever.

A fact is what has happened or what is about to be tried, in the payload's own words; who, when and where in the
ledger stand beside it in the row. The stored name is `TYPE`, never a Python path. A change of fields is a new
`VERSION` and an upcast in `ledger/store/codec.py`; `tests/contract/golden` holds one stored event of each.

Units: `*_ms` are whole milliseconds, times are UTC, money is Decimal. There are no floats.
"""

from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from msgspec import Struct

from ledger.domain.instance import Instance


class Event(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all facts."""

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1


class Keep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A promise not to delete until a moment, and why."""

    until: datetime
    reason: str


class Repository(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a lease was asked for: git origin and root commit; the path is only a hint."""

    origin: str | None = None
    root_commit: str | None = None
    path: str | None = None


class Rate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An hourly price and where it was read from. fal publishes none, so there may be no rate at all."""

    per_hour: Decimal
    currency: str
    source: str


class Observation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One read that an absence rests on: `get-404`, or `inventory` that was complete and lacked the id."""

    kind: str
    at: datetime


class CreateRequested(Event, frozen=True, kw_only=True):
    """We are about to ask the provider for a box; from here on everything needed to finish is durable.

    `acquirer` names the process that may go on; it is replaced by `acquire-fenced`. `purpose` is the command it is
    for: a lease that `run` made for itself ends with that run. `ids_before` are all ids in the inventory before.
    """

    TYPE = "create-requested"
    provider: str
    scope: str
    slug: str
    instance_type: str
    sector: str | None
    public_key: str
    request_digest: str
    credential_binding: str
    account_name: str | None
    ids_before: tuple[str, ...]
    ssh_user: str
    ssh_port: int
    work_root: str
    ttl_ms: int
    idle_timeout_ms: int
    keep: Keep | None
    acquirer: str
    deadline: datetime
    host: str
    pid: int
    purpose: str
    rate: Rate | None
    repository: Repository | None
    twin_of: str | None = None


class CreateSent(Event, frozen=True, kw_only=True):
    """Attempt `attempt` (from 1) of the create is about to leave; a box may exist from here on.

    It goes out under the key and with the body of the request, as `credential_binding` and `request_digest` say.
    `boot_id` and `uptime_ms` are the clock through sleep; `provider_date` is the provider's newest `Date`.
    """

    TYPE = "create-sent"
    attempt: int
    acquirer: str
    credential_binding: str
    request_digest: str
    boot_id: str
    uptime_ms: int
    provider_date: datetime | None


class CreateRejected(Event, frozen=True, kw_only=True):
    """The provider understood the first attempt and refused it: nothing was made."""

    TYPE = "create-rejected"
    attempt: int
    status: int
    error_type: str
    message: str
    request_id: str | None


class CreateInDoubt(Event, frozen=True, kw_only=True):
    """An attempt ended without an outcome we can rely on.

    `sent` is False only when no byte of it left; `answered` is True when an answer came, so that the request is
    over. `answer_instance_id` is an id that was answered but may not be bound, for the evidence.
    """

    TYPE = "create-in-doubt"
    attempt: int
    cause: str
    sent: bool
    answered: bool
    status: int | None
    request_id: str | None
    answer_instance_id: str | None = None


class CandidateTried(Event, frozen=True, kw_only=True):
    """A box that could be this lease's was offered its key (design: the key proof).

    `verdict` is accepted, refused, unproven or no-answer, over every login and port that was tried at `host`;
    `host_key` is the one host key that all of them showed. `detail` is a sentence.
    """

    TYPE = "candidate-tried"
    instance_id: str
    host: str
    verdict: str
    host_key: str | None
    detail: str


class CandidatesSettled(Event, frozen=True, kw_only=True):
    """No second box of this lease is left: each that was new is bound, has refused its key or is gone.

    `inventories` are the positions of the `inventory-observed` events that this rests on.
    """

    TYPE = "candidates-settled"
    inventories: tuple[int, ...]


class InstanceIdBound(Event, frozen=True, kw_only=True):
    """The box of this lease is known, appended before anything else is tried.

    `evidence` is `create-answer` (a 201 to our own request), `key-proof` or `spool`.
    """

    TYPE = "instance-id-bound"
    instance_id: str
    evidence: str
    acquirer: str
    attempt: int | None
    instance: Instance | None


class Ready(Event, frozen=True, kw_only=True):
    """The box answers SSH with the lease's key under a host key that is pinned from now on."""

    TYPE = "ready"
    acquirer: str
    instance: Instance
    host: str
    port: int
    user: str
    host_key: str
    host_key_fingerprint: str
    tools: dict[str, bool]


class Touched(Event, frozen=True, kw_only=True):
    """A sign of life, or new limits; it can change nothing else. `cause` is `touch`, `run`, `ssh` and so on."""

    TYPE = "touched"
    cause: str
    ttl_ms: int | None = None
    idle_timeout_ms: int | None = None


class KeepGranted(Event, frozen=True, kw_only=True):
    """The box is not to be deleted for expiry until `keep.until`.

    `cause` is `user`, or `failed-acquire` with the stage and failure of an acquisition that was kept.
    """

    TYPE = "keep-granted"
    keep: Keep
    cause: str
    acquirer: str | None = None
    stage: str | None = None
    failure: str | None = None


class KeepEnded(Event, frozen=True, kw_only=True):
    """The promise of `keep-granted` is over."""

    TYPE = "keep-ended"
    reason: str


class SyncFinished(Event, frozen=True, kw_only=True):
    """A working tree was copied to the box."""

    TYPE = "sync-finished"
    files: int
    sent_files: int
    sent_bytes: int
    deleted_files: int
    duration_ms: int
    manifest_digest: str


class RunStarted(Event, frozen=True, kw_only=True):
    """A command is about to start on the box; also a sign of life.

    `command` is argv, the words of a line for the shell, or the name of a script, as `kind` says (argv, shell, script).
    `commit` is what was checked out here, and `dirty` whether the tree differed from it, where somebody looked;
    `manifest_digest` is that of the tree that was copied for it, null where nothing was. `fence` is the token of the
    workspace's lock on the box, null where the box keeps none.
    """

    TYPE = "run-started"
    run_id: str
    command: tuple[str, ...]
    work_dir: str
    repository: Repository | None
    host: str
    pid: int
    kind: str = "argv"
    commit: str | None = None
    dirty: bool | None = None
    manifest_digest: str | None = None
    fence: int | None = None


class RunFinished(Event, frozen=True, kw_only=True):
    """A command ended: with an exit code, by a signal, or (both null) in a way that is not known.

    Where `detached` is true it may still run, and only nobody follows it any more; a later one then tells its end.
    `phases` are the lengths in milliseconds of what came before and of the command itself, by name.
    """

    TYPE = "run-finished"
    run_id: str
    exit_code: int | None
    signal: str | None
    duration_ms: int
    stdout_bytes: int
    stderr_bytes: int
    detached: bool = False
    phases: dict[str, int] = {}
    failure: str | None = None


class ClaimMoved(Event, frozen=True, kw_only=True):
    """The lease is now held by a repository on a host, because a person asked for it; it ends with no run any more."""

    TYPE = "claim-moved"
    repository: Repository | None
    host: str
    reason: str


class CredentialRebound(Event, frozen=True, kw_only=True):
    """Another key of the owning account was proven, and counts from now on. `evidence` says how."""

    TYPE = "credential-rebound"
    credential_binding: str
    account_name: str | None
    evidence: str


class AcquireFenced(Event, frozen=True, kw_only=True):
    """Another process has taken over: later decisions of the former acquirer are refused.

    `evidence` is `lock-free` (its process is dead) or `deadline-passed`.
    """

    TYPE = "acquire-fenced"
    acquirer: str
    deadline: datetime
    evidence: str
    host: str
    pid: int


class StopRequested(Event, frozen=True, kw_only=True):
    """Somebody wants the box gone while it is still being acquired; the acquirer meets this at its next step."""

    TYPE = "stop-requested"
    reason: str


class Rollback(Event, frozen=True, kw_only=True):
    """The acquisition failed at `stage`; the box will be deleted. `shown` says that a read has shown the box."""

    TYPE = "rollback"
    stage: str
    cause: str
    shown: bool


class DeleteRequested(Event, frozen=True, kw_only=True):
    """DELETE number `attempt` (from 1) of this id is about to be sent.

    `reason` is stop, expired, run-finished or rollback; `shown` says that a read has shown the box.
    Where a look just before finds a box gone that was shown once, its absence is confirmed and no DELETE is sent.
    """

    TYPE = "delete-requested"
    instance_id: str
    attempt: int
    reason: str
    shown: bool


class DeleteAccepted(Event, frozen=True, kw_only=True):
    """The provider answered DELETE number `attempt` with success. The box may still run."""

    TYPE = "delete-accepted"
    instance_id: str
    attempt: int


class DeleteDeferred(Event, frozen=True, kw_only=True):
    """DELETE number `attempt` failed or its outcome is unknown; it is tried again, not before `retry_at`."""

    TYPE = "delete-deferred"
    instance_id: str
    attempt: int
    cause: str
    status: int | None
    retry_at: datetime | None


class DeletionConfirmed(Event, frozen=True, kw_only=True):
    """The box is gone: GET 404, a complete inventory without it, GET 404, all under the key of the owning account."""

    TYPE = "deletion-confirmed"
    instance_id: str
    credential_binding: str
    evidence: tuple[Observation, ...]


class Released(Event, frozen=True, kw_only=True):
    """The lease is over. `outcome` is completed, rolled-back, rejected, cancelled, never-created or written-off.

    `inventories` are the positions of the `inventory-observed` events that `never-created` rests on.
    """

    TYPE = "released"
    outcome: str
    reason: str | None = None
    inventories: tuple[int, ...] = ()


class Reopened(Event, frozen=True, kw_only=True):
    """A released box showed up again: the lease is open under `slug` and its box will be deleted."""

    TYPE = "reopened"
    instance_id: str
    credential_binding: str
    slug: str
    evidence: tuple[Observation, ...]


class InventoryObserved(Event, frozen=True, kw_only=True):
    """A complete inventory of the account: the evidence that absences and candidates rest on."""

    TYPE = "inventory-observed"
    scope: str
    credential_binding: str
    begun_at: datetime
    instances: tuple[Instance, ...]


class BalanceObserved(Event, frozen=True, kw_only=True):
    """The account's credit balance at a moment."""

    TYPE = "balance-observed"
    scope: str
    username: str
    balance: Decimal
    currency: str


class RateRecorded(Event, frozen=True, kw_only=True):
    """The price of an instance type, from now on."""

    TYPE = "rate-recorded"
    instance_type: str
    rate: Rate


class BillImported(Event, frozen=True, kw_only=True):
    """A bill was read: its digest, period and total."""

    TYPE = "bill-imported"
    sha256: str
    source: str
    period_start: datetime
    period_end: datetime
    rows: int
    total: Decimal
    currency: str


class Reconciled(Event, frozen=True, kw_only=True):
    """A bill was compared with the ledger."""

    TYPE = "reconciled"
    run_id: str
    bill_sha256: str
    ledger_position: int
    exit_code: int
    unexplained: Decimal
    currency: str


LeaseEvent = (
    CreateRequested
    | CreateSent
    | CreateRejected
    | CreateInDoubt
    | CandidateTried
    | CandidatesSettled
    | InstanceIdBound
    | Ready
    | Touched
    | KeepGranted
    | KeepEnded
    | SyncFinished
    | RunStarted
    | RunFinished
    | ClaimMoved
    | CredentialRebound
    | AcquireFenced
    | StopRequested
    | Rollback
    | DeleteRequested
    | DeleteAccepted
    | DeleteDeferred
    | DeletionConfirmed
    | Released
    | Reopened
)
AccountEvent = InventoryObserved | BalanceObserved | RateRecorded | BillImported | Reconciled

ACCOUNT_STREAM = "account"
EVENT_TYPES: dict[str, type[Event]] = {kind.TYPE: kind for kind in (*LeaseEvent.__args__, *AccountEvent.__args__)}
