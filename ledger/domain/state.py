"""What a lease is after some facts: the state that `evolve` folds and `decide` judges, and what follows from it."""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from ledger.domain.events import CreateRequested, Keep, LeaseEvent, Ready, Repository, SyncFinished
from ledger.domain.instance import Instance
from ledger.domain.units import after_ms


class Phase(StrEnum):
    """A lease's place in the lifecycle (docs/lifecycle.md)."""

    REQUESTED = "requested"
    IN_DOUBT = "in-doubt"
    PROVISIONING = "provisioning"
    READY = "ready"
    ROLLING_BACK = "rolling-back"
    DELETING = "deleting"
    RELEASED = "released"


class Outcome(StrEnum):
    """How a released lease ended."""

    COMPLETED = "completed"
    ROLLED_BACK = "rolled-back"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    NEVER_CREATED = "never-created"
    WRITTEN_OFF = "written-off"


class Recorded(Struct, frozen=True, kw_only=True):
    """A lease's fact as it stands in the ledger: its place in the stream, when, by whom."""

    stream: str
    sequence: int
    recorded_at: datetime
    actor: str
    event: LeaseEvent


class Attempt(Struct, frozen=True, kw_only=True):
    """One POST of a create. `result` is open, not-sent, unanswered, answered, rejected or bound."""

    number: int
    sent_at: datetime
    boot_id: str
    uptime_ms: int
    provider_date: datetime | None
    result: str = "open"


class Try(Struct, frozen=True, kw_only=True):
    """One offer of the lease's key to a box that could be its own; fields as in `candidate-tried`."""

    instance_id: str
    at: datetime
    host: str
    verdict: str
    host_key: str | None


class Failure(Struct, frozen=True, kw_only=True):
    """Where an acquisition failed and why."""

    stage: str
    cause: str


class Lease(Struct, frozen=True, kw_only=True):
    """Everything that its facts say of one lease. A lease nothing was said of yet has `sequence` 0 and no phase.

    `recorded_at` is the latest time of any of its facts: a clock that was set back does not make it earlier.
    `delete_answered` says that the provider answered a DELETE of its box in whatever way, so that one was sent.
    """

    lease_id: str
    sequence: int = 0
    recorded_at: datetime | None = None
    actor: str = ""
    phase: Phase | None = None
    outcome: Outcome | None = None
    slug: str = ""
    request: CreateRequested | None = None
    created_at: datetime | None = None
    acquirer: str = ""
    acquire_deadline: datetime | None = None
    attempts: tuple[Attempt, ...] = ()
    tries: tuple[Try, ...] = ()
    candidates_settled: bool = False
    rejected: bool = False
    credential_binding: str = ""
    account_name: str | None = None
    instance_id: str | None = None
    instance: Instance | None = None
    evidence: str | None = None
    bound_at: datetime | None = None
    shown: bool = False
    ready: Ready | None = None
    ready_at: datetime | None = None
    touched_at: datetime | None = None
    ttl_ms: int = 0
    idle_timeout_ms: int = 0
    keep: Keep | None = None
    keep_cause: str | None = None
    purpose: str = ""
    repository: Repository | None = None
    host: str = ""
    failure: Failure | None = None
    stop_reason: str | None = None
    deletes: int = 0
    delete_reason: str | None = None
    delete_result: str | None = None
    delete_accepted_at: datetime | None = None
    delete_answered: bool = False
    delete_cause: str | None = None
    retry_at: datetime | None = None
    confirmed_at: datetime | None = None
    released_at: datetime | None = None
    open_runs: tuple[str, ...] = ()
    finished_run: str | None = None
    last_sync: SyncFinished | None = None

    @property
    def is_open(self) -> bool:
        """Whether the lease exists and is not released: something may cost money or wait for a step."""
        return self.phase is not None and self.phase is not Phase.RELEASED

    @property
    def first_sent_at(self) -> datetime | None:
        """When the first POST was announced: the start of the replay window."""
        return self.attempts[0].sent_at if self.attempts else None

    @property
    def nothing_sent(self) -> bool:
        """Whether no byte of any create can have left: there was no attempt, or each is known not to have."""
        return all(attempt.result == "not-sent" for attempt in self.attempts)

    @property
    def is_suspect(self) -> bool:
        """Whether a box of it may exist that is bound to no lease, although the lease itself asks for nothing more.

        More than one POST may have made more than one box; a lease that ended without its outcome known, any.
        """
        if self.instance_id is not None:
            sent = [attempt for attempt in self.attempts if attempt.result != "not-sent"]
            return len(sent) > 1 and not self.candidates_settled
        return self.outcome in (Outcome.NEVER_CREATED, Outcome.WRITTEN_OFF)

    @property
    def is_taken_over(self) -> bool:
        """Whether the process that asked for the box was fenced: whoever goes on may only give it back."""
        return self.request is not None and self.acquirer != self.request.acquirer

    @property
    def is_acquiring(self) -> bool:
        """Whether an acquirer may still be at work: before `ready`, and not yet told to roll back or kept as failed."""
        return self.phase in (Phase.REQUESTED, Phase.IN_DOUBT, Phase.PROVISIONING) and self.failure is None

    @property
    def expires_at(self) -> datetime | None:
        """When anybody may delete it: the end of keep while kept, else min(created + TTL, touched + idle)."""
        if self.created_at is None:
            return None
        if self.keep is not None:
            return self.keep.until
        end = after_ms(self.created_at, self.ttl_ms)
        if self.touched_at is None:
            return end
        return min(end, after_ms(self.touched_at, self.idle_timeout_ms))
