"""Running a command on a ready box, with its start, its signs of life and its end in the ledger."""

import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager

from msgspec import Struct

from ledger.domain import events as e
from ledger.domain.errors import Conflict, Interrupted, RentrollError, SshFailure
from ledger.domain.ports import Endpoint, RemoteCommand, RemoteExit
from ledger.domain.refusals import Refused
from ledger.domain.state import Lease, Phase
from ledger.flows.services import Services, Stage

SIGN_OF_LIFE_S = 60.0


class Job(Struct, frozen=True, kw_only=True):
    """One command for the box of one lease. `command` is argv as it was given; `line` is what the box's sh runs."""

    run_id: str
    lease_id: str
    command: tuple[str, ...]
    line: str
    repository: e.Repository | None
    stdin: int | None
    on_stdout: Callable[[bytes], None]
    on_stderr: Callable[[bytes], None]


def remote_line(lease: Lease, run_id: str, command: str) -> str:
    """The line that runs a command in the lease's work folder, made if missing, with the variables a job may read.

    `command` is already quoted for sh. `~/` at the start of the work root is the login's home.
    """
    request = lease.request
    if request is None:
        raise ValueError("a ready lease was requested")
    variables = {
        "RENTROLL_LEASE_ID": lease.lease_id,
        "RENTROLL_RUN_ID": run_id,
        "RENTROLL_INSTANCE_ID": lease.instance_id or "",
    }
    exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    folder = work_dir(lease)
    return f"mkdir -p {folder} && cd {folder} && export {exports} && exec {command}"


def work_dir(lease: Lease) -> str:
    """The lease's work folder on the box, quoted for sh."""
    if lease.request is None:
        raise ValueError("a ready lease was requested")
    root = lease.request.work_root.rstrip("/")
    if root.startswith("~/"):
        return f'"$HOME"/{shlex.quote(f"{root[2:]}/{lease.lease_id}")}'
    return shlex.quote(f"{root}/{lease.lease_id}")


def endpoint_of(lease: Lease) -> Endpoint:
    """Where the box of a ready lease answers, as it was recorded: never from today's settings (scenario SSH-01)."""
    if lease.phase is not Phase.READY or lease.ready is None:
        raise Refused(lease, "not-ready", f"it is {lease.phase}, not ready")
    ready = lease.ready
    return Endpoint(lease_id=lease.lease_id, host=ready.host, port=ready.port, user=ready.user, host_key=ready.host_key)


def run(services: Services, job: Job, alive: Callable[[str], AbstractContextManager[None]]) -> RemoteExit:
    """Runs the job to its end. `alive(lease_id)` keeps signs of life coming while its block lasts.

    Raises `SshFailure` where the connection was lost; the ledger then has the run's end as not known.
    """
    lease = services.book.load(job.lease_id)
    endpoint = endpoint_of(lease)
    started = e.RunStarted(
        run_id=job.run_id,
        command=job.command,
        work_dir=f"{lease.request.work_root if lease.request else ''}/{lease.lease_id}",
        repository=job.repository,
        host=services.host,
        pid=services.pid,
    )
    if not services.book.record(job.lease_id, started).appended:
        raise Conflict(f"run {job.run_id} is started already", lease_id=job.lease_id)
    began_s = services.clock.monotonic_s()
    counted = _Counted(job)
    remote: RemoteExit | None = None
    failure: str | None = None
    try:
        with alive(job.lease_id):
            remote = services.box.run(endpoint, counted.command)
    except SshFailure as lost:
        failure = lost.message
        raise
    except Interrupted as interrupted:
        failure = str(interrupted)
        raise
    finally:
        finished = e.RunFinished(
            run_id=job.run_id,
            exit_code=remote.exit_code if remote else None,
            signal=remote.signal if remote else None,
            duration_ms=round((services.clock.monotonic_s() - began_s) * 1000),
            stdout_bytes=counted.stdout_bytes,
            stderr_bytes=counted.stderr_bytes,
            failure=failure,
        )
        _record_end(services, lease, finished)
    return remote


def _record_end(services: Services, lease: Lease, finished: e.RunFinished) -> None:
    """The command is over whatever the ledger says: a failure to record it is told, and takes nothing else away."""
    with services.interrupts.shielded():
        try:
            services.book.record(lease.lease_id, finished)
        except RentrollError as failure:
            services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name="run not recorded", detail=str(failure)))


class _Counted:
    """A job's command whose sinks count the bytes that pass."""

    def __init__(self, job: Job) -> None:
        self.stdout_bytes = 0
        self.stderr_bytes = 0
        self._job = job
        self.command = RemoteCommand(line=job.line, stdin=job.stdin, on_stdout=self._stdout, on_stderr=self._stderr)

    def _stdout(self, chunk: bytes) -> None:
        self.stdout_bytes += len(chunk)
        self._job.on_stdout(chunk)

    def _stderr(self, chunk: bytes) -> None:
        self.stderr_bytes += len(chunk)
        self._job.on_stderr(chunk)


def must_release(*, policy: str | None, is_ours: bool, keep: bool, keep_on_failure: bool, failed: bool) -> bool:
    """Whether a run gives its box back (scenario REL-14).

    By default it does if this run leased it and neither keep applies; an explicit policy (success, failure, always,
    never) overrides.
    """
    match policy:
        case "always":
            return True
        case "never":
            return False
        case "success":
            return not failed
        case "failure":
            return failed
        case _:
            return is_ours and not keep and not (keep_on_failure and failed)
