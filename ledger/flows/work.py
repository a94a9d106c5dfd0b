"""Running a command on a ready box, with its start, its signs of life and its end in the ledger."""

import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from msgspec import Struct

from ledger.domain import events as e
from ledger.domain.errors import Interrupted, RentrollError, SshFailure
from ledger.domain.ports import (
    Ended,
    Endpoint,
    Holder,
    JobSpec,
    NoAgent,
    RemoteCommand,
    Running,
    Sink,
    Tty,
    Workspace,
)
from ledger.domain.state import Lease, Phase
from ledger.domain.units import milliseconds_between
from ledger.flows.follow import Followed, follow
from ledger.flows.phases import Phases
from ledger.flows.places import endpoint_of as endpoint_of
from ledger.flows.places import holder_of as holder_of
from ledger.flows.places import in_words as in_words
from ledger.flows.places import place_of as place_of
from ledger.flows.places import work_dir as work_dir
from ledger.flows.record import LOST, Record
from ledger.flows.services import Services, Stage

SIGN_OF_LIFE_S = 60.0
LOCK_TIMEOUT_S = 600.0
"""How long a second client waits for the workspace."""
NO_SCRIPT = "a script and variables need python3 on the box, where neither shows to others"


class Job(Struct, frozen=True, kw_only=True):
    """One command for the box of one lease.

    `command` is argv as it was given; with `kind` `shell` its words are joined to a line for `sh -c`, with `script` it
    names the file whose bytes `script` is. `env` are the variables that a person asked for. A `plain` one leaves
    nothing on the box, and ends with its connection. `on_starting` is called just before it runs,
    and `on_running` is given the job just after.
    """

    run_id: str
    lease_id: str
    command: tuple[str, ...]
    repository: e.Repository | None
    stdin: int | None
    on_stdout: Sink
    on_stderr: Sink
    kind: str = "argv"
    script: bytes | None = None
    env: dict[str, str] = {}
    tty: Tty | None = None
    commit: str | None = None
    lock_timeout_s: float = LOCK_TIMEOUT_S
    plain: bool = False
    on_starting: Callable[[], None] | None = None
    on_running: Callable[[Running], None] | None = None


class Left(Interrupted):
    """A person left a job to itself: it goes on, and so does its box."""


def variables(lease: Lease, run_id: str) -> dict[str, str]:
    """What every job may read of itself."""
    return {
        "RENTROLL_LEASE_ID": lease.lease_id,
        "RENTROLL_RUN_ID": run_id,
        "RENTROLL_INSTANCE_ID": lease.instance_id or "",
    }


def run(
    services: Services,
    job: Job,
    alive: Callable[[str], AbstractContextManager[None]],
    *,
    phases: Phases | None = None,
    prepare: Callable[[Workspace], tuple[str, bool | None]] | None = None,
) -> Ended:
    """Runs the job to its end, under the workspace's lock, and gives how it ended.

    `alive(lease_id)` keeps signs of life coming while its block lasts. `prepare` is given the locked workspace before
    anything starts, copies the tree, and gives its digest and whether it differs from the commit. Raises
    `WorkspaceBusy`, and `SshFailure` where the connection was lost for too long: the ledger then has the end as not
    known. Raises `Interrupted` after the job was told, and `Left` where it was left to itself.
    """
    phases = phases or Phases(services.clock.monotonic_s)
    lease = services.book.load(job.lease_id)
    endpoint = endpoint_of(lease)
    with alive(job.lease_id):
        sign_where_due(services, lease)
        if job.plain:
            return _run_plain(services, lease, endpoint, job, phases)
        with ExitStack() as stack:
            try:
                opened = stack.enter_context(_opened(services, lease, endpoint, job, phases, prepare))
            except NoAgent as without:
                _require_plain(job, without, prepare is not None)
                services.tell(
                    Stage(
                        lease_id=lease.lease_id,
                        slug=lease.slug,
                        name="no python3 on the box",
                        detail="the command ends with the connection, and nothing else is kept of it there",
                    )
                )
                return _run_plain(services, lease, endpoint, job, phases)
            workspace, (digest, dirty) = opened
            return _run_kept(services, lease, workspace, job, phases, digest, dirty)


@contextmanager
def _opened(
    services: Services,
    lease: Lease,
    endpoint: Endpoint,
    job: Job,
    phases: Phases,
    prepare: Callable[[Workspace], tuple[str, bool | None]] | None,
) -> Iterator[tuple[Workspace, tuple[str | None, bool | None]]]:
    """The workspace under its lock, with the tree in it where there is one, and what `prepare` gave of that."""

    def opened() -> Workspace:
        with phases.timed("ssh"):
            return open_workspace(services, lease, endpoint, job)

    if prepare is None:
        with opened() as workspace:
            yield workspace, (None, None)
        return
    from ledger.flows.going_on import filled

    def fill(workspace: Workspace) -> tuple[str, bool | None]:
        with phases.timed("sync"):
            return prepare(workspace)

    with filled(opened, fill, clock=services.clock, lost=connection_lost(services, lease)) as both:
        yield both


def connection_lost(services: Services, lease: Lease) -> Callable[[str], None]:
    """Tells of a connection that was lost in the middle of a copy."""

    def lost(why: str) -> None:
        detail = f"{why.rstrip('.')}; going on"
        services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name="connection", detail=detail))

    return lost


def open_workspace(services: Services, lease: Lease, endpoint: Endpoint, job: Job) -> Workspace:
    """The workspace under its lock. Who has to wait is told once for whom."""

    def waiting(holder: Holder) -> None:
        services.tell(
            Stage(lease_id=lease.lease_id, slug=lease.slug, name="waiting", detail=f"the box is {in_words(holder)}")
        )

    holder = holder_of(services, "run", job.run_id)
    return services.box.open(endpoint, place_of(lease), holder, wait_s=job.lock_timeout_s, waiting=waiting)


def sign_where_due(services: Services, lease: Lease) -> None:
    """A sign of life before the box is touched, where its time could end before the next one comes by itself."""
    end = lease.expires_at
    if end is not None and milliseconds_between(services.clock.now(), end) < 2 * SIGN_OF_LIFE_S * 1000:
        services.book.record(lease.lease_id, e.Touched(cause="run"))


def _run_kept(
    services: Services,
    lease: Lease,
    workspace: Workspace,
    job: Job,
    phases: Phases,
    digest: str | None,
    dirty: bool | None,
) -> Ended:
    """Under the supervisor on the box: the job needs no connection."""
    record = Record(services, lease, job, phases)
    record.started(fence=workspace.token, digest=digest, dirty=dirty)
    spec = JobSpec(
        run_id=job.run_id,
        argv=job.command if job.kind == "argv" else None,
        shell=" ".join(job.command) if job.kind == "shell" else None,
        script=job.script,
        env=job.env | variables(lease, job.run_id) | {"RENTROLL_FENCE": str(workspace.token)},
        tty=job.tty,
        stdin=job.stdin,
    )

    def begin() -> Running:
        return workspace.start(spec, record.stdout, record.stderr, told=record.tell)

    try:
        with phases.timed("command"):
            if job.on_starting is not None:
                job.on_starting()
            gone = given_back(services, lease, job.run_id)
            followed = follow(begin, services.interrupts, gone=gone, on_running=job.on_running)
    except (RentrollError, Interrupted) as failure:
        # The box refused it (a connection that broke raises only later, in the wait); where a signal alone came, in an
        # instant in which nobody looked, it may run.
        is_refused = isinstance(failure, RentrollError) or isinstance(failure.__cause__, RentrollError)
        record.ended(Followed(ended=None, by=failure), goes_on=not is_refused)
        raise
    record.ended(followed)
    return end_of(followed, job.run_id)


def given_back(services: Services, lease: Lease, run_id: str) -> Callable[[], RentrollError | None]:
    """Asks whether somebody has given the box of a run back meanwhile, as `ledger.flows.follow.follow` wants it."""

    def gone() -> RentrollError | None:
        try:
            phase = services.book.claim(lease.lease_id).phase  # one row, however long the lease's stream is
        except RentrollError:
            return None  # a ledger that cannot be read just now says nothing
        if phase != Phase.RELEASED:
            return None
        return SshFailure(f"{lease.slug} was given back meanwhile, and {run_id} with it", stage="session")

    return gone


def end_of(followed: Followed, run_id: str) -> Ended:
    """The known end of a job that was followed; raises what broke it off, `Left`, or `SshFailure`."""
    if followed.left:
        raise Left(signal.SIGINT)
    if followed.by is not None:
        raise followed.by
    if followed.ended is None or not followed.ended.known:
        raise SshFailure(f"how {run_id} ended is not known: {LOST}", stage="session")
    return followed.ended


def _require_plain(job: Job, without: NoAgent, syncs: bool) -> None:
    """What a box without python3 cannot do is refused."""
    if job.script is not None or job.env or syncs:
        what = "the working tree cannot be copied" if syncs else NO_SCRIPT
        raise NoAgent(f"{without.message}: {what}", stage=without.stage, hint="install python3 on the box")


def _run_plain(services: Services, lease: Lease, endpoint: Endpoint, job: Job, phases: Phases) -> Ended:
    """In a session of SSH, which takes the command with it when it ends."""
    record = Record(services, lease, job, phases)
    record.started()
    words = ("sh", "-c", " ".join(job.command)) if job.kind == "shell" else job.command
    command = RemoteCommand(
        line=_plain_line(lease, job.run_id, shlex.join(words)),
        stdin=job.stdin,
        on_stdout=record.stdout,
        on_stderr=record.stderr,
    )
    followed = Followed(ended=None)
    began_s = services.clock.monotonic_s()
    try:
        with phases.timed("command"):
            remote = services.box.run(endpoint, command)
        ended = Ended(
            exit_code=remote.exit_code,
            signal=remote.signal,
            stdout_bytes=record.stdout.bytes,
            stderr_bytes=record.stderr.bytes,
            duration_ms=round((services.clock.monotonic_s() - began_s) * 1000),
        )
        followed = Followed(ended=ended)
    except (RentrollError, Interrupted) as failure:
        followed = Followed(ended=None, by=failure)
        raise
    finally:
        record.ended(followed, goes_on=False)
    return ended


def _plain_line(lease: Lease, run_id: str, command: str) -> str:
    """The line that runs a command in the lease's work folder, made if missing, with the variables a job may read.

    `command` is already quoted for sh. `~/` at the start of the work root is the login's home.
    """
    exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables(lease, run_id).items())
    folder = work_dir(lease)
    return f"mkdir -p {folder} && cd {folder} && export {exports} && exec {command}"


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
