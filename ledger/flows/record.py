"""What the ledger is told of one run: that it starts, and how it ended or that nobody follows it any more."""

from typing import Protocol

from ledger.domain import events as e
from ledger.domain.errors import Conflict, RentrollError
from ledger.domain.ports import Sink
from ledger.domain.state import Lease
from ledger.flows.follow import Counted, Followed
from ledger.flows.phases import Phases
from ledger.flows.places import place_of
from ledger.flows.services import Services, Stage

LOST = "what watched it on the box is gone, as after a restart"


class Recorded(Protocol):
    """What is recorded of a job (`ledger.flows.work.Job`)."""

    @property
    def run_id(self) -> str: ...
    @property
    def command(self) -> tuple[str, ...]: ...
    @property
    def kind(self) -> str: ...
    @property
    def repository(self) -> e.Repository | None: ...
    @property
    def commit(self) -> str | None: ...
    @property
    def on_stdout(self) -> Sink: ...
    @property
    def on_stderr(self) -> Sink: ...


class Record:
    """What the ledger is told of one run."""

    def __init__(self, services: Services, lease: Lease, job: Recorded, phases: Phases) -> None:
        self.stdout, self.stderr = Counted(job.on_stdout), Counted(job.on_stderr)
        self._services, self._lease, self._job, self._phases = services, lease, job, phases
        self._began_s = services.clock.monotonic_s()

    def started(self, *, fence: int | None = None, digest: str | None = None, dirty: bool | None = None) -> None:
        job, lease = self._job, self._lease
        started = e.RunStarted(
            run_id=job.run_id,
            command=job.command,
            work_dir=f"{place_of(lease).root}/{lease.lease_id}",
            repository=job.repository,
            host=self._services.host,
            pid=self._services.pid,
            kind=job.kind,
            commit=job.commit,
            dirty=dirty,
            manifest_digest=digest,
            fence=fence,
        )
        if not self._services.book.record(lease.lease_id, started).appended:
            raise Conflict(f"run {job.run_id} is started already", lease_id=lease.lease_id)
        self._began_s = self._services.clock.monotonic_s()

    def tell(self, sentence: str) -> None:
        self._services.tell(
            Stage(lease_id=self._lease.lease_id, slug=self._lease.slug, name="connection", detail=sentence)
        )

    def ended(self, followed: Followed, *, goes_on: bool = True) -> None:
        """The end, or that nobody follows it any more; `goes_on` says that a job outlives its connection there."""
        ended = followed.ended
        lasted_ms = round((self._services.clock.monotonic_s() - self._began_s) * 1000)
        finished = e.RunFinished(
            run_id=self._job.run_id,
            exit_code=ended.exit_code if ended else None,
            signal=ended.signal if ended else None,
            duration_ms=ended.duration_ms if ended and ended.known else lasted_ms,
            stdout_bytes=ended.stdout_bytes if ended and ended.known else self.stdout.bytes,
            stderr_bytes=ended.stderr_bytes if ended and ended.known else self.stderr.bytes,
            detached=followed.may_go_on and goes_on,
            phases=self._phases.in_ms(),
            failure=followed.failure or (LOST if ended and not ended.known else None),
        )
        record_end(self._services, self._lease, finished)


def record_end(services: Services, lease: Lease, finished: e.RunFinished) -> None:
    """The command is over whatever the ledger says: a failure to record it is told, and takes nothing else away."""
    with services.interrupts.shielded():
        try:
            services.book.record(lease.lease_id, finished)
        except RentrollError as failure:
            services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name="run not recorded", detail=str(failure)))
