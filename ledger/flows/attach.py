"""A run that somebody else began, or left: following it, stopping it, and telling the ledger how it ended."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from msgspec import Struct

from ledger.domain import events as e
from ledger.domain.errors import Interrupted
from ledger.domain.ports import Ended, NoAgent, Running, Sink, UnknownRun
from ledger.domain.state import Lease
from ledger.flows.follow import Counted, Followed, follow
from ledger.flows.places import endpoint_of, place_of
from ledger.flows.record import LOST, record_end
from ledger.flows.services import Services, Stage
from ledger.flows.work import end_of, given_back

NEVER_BEGUN = "the box does not know it: it never began there, or the box was made anew"
PLAIN = "the box has no python3: the command ended with its connection"
STOP_GRACE_S = 10.0


class Attachment(Struct, frozen=True, kw_only=True):
    """One run to follow, from these bytes of its streams on. `on_running` is given the job with what was dropped."""

    run_id: str
    lease_id: str
    stdin: int | None
    on_stdout: Sink
    on_stderr: Sink
    from_stdout: int = 0
    from_stderr: int = 0
    on_running: Callable[[Running], None] = lambda _running: None


def attach(services: Services, wish: Attachment, alive: Callable[[str], AbstractContextManager[None]]) -> Ended:
    """Follows a run to its end and records that where it is not on record yet.

    Raises `UnknownRun`, and what `work.run` raises.
    """
    lease = services.book.load(wish.lease_id)
    endpoint = endpoint_of(lease)
    stdout, stderr = Counted(wish.on_stdout), Counted(wish.on_stderr)
    with alive(wish.lease_id):
        began_s = services.clock.monotonic_s()

        began: list[Running] = []

        def begin() -> Running:
            running = services.box.attach(
                endpoint,
                place_of(lease),
                wish.run_id,
                from_stdout=wish.from_stdout,
                from_stderr=wish.from_stderr,
                stdin=wish.stdin,
                on_stdout=stdout,
                on_stderr=stderr,
                told=lambda words: services.tell(
                    Stage(lease_id=lease.lease_id, slug=lease.slug, name="connection", detail=words)
                ),
            )
            began.append(running)
            return running

        try:
            gone = given_back(services, lease, wish.run_id)
            followed = follow(begin, services.interrupts, gone=gone, on_running=wish.on_running)
        except (UnknownRun, Interrupted) as failure:
            if isinstance(failure, UnknownRun) or isinstance(failure.__cause__, UnknownRun):
                _record(services, lease, wish.run_id, _nothing(0, 0, 0), failure=NEVER_BEGUN)
            raise
        lasted_ms = round((services.clock.monotonic_s() - began_s) * 1000)
        lost = began[0].dropped if began else (0, 0)
        seen = _nothing(wish.from_stdout + lost[0] + stdout.bytes, wish.from_stderr + lost[1] + stderr.bytes, lasted_ms)
        record_followed(services, lease, wish.run_id, followed, seen)
    return end_of(followed, wish.run_id)


def record_followed(services: Services, lease: Lease, run_id: str, followed: Followed, seen: Ended) -> None:
    """Records the end that a followed run had, or that nobody follows it any more; `seen` is what is known besides."""
    ended = followed.ended
    _record(
        services,
        lease,
        run_id,
        ended if ended is not None and ended.known else seen,
        failure=followed.failure or (LOST if ended is not None and not ended.known else None),
        detached=followed.may_go_on,
    )


def stop_run(services: Services, lease_id: str, run_id: str, *, records: bool) -> Ended:
    """Ends a run on the box. With `records` nobody follows it, and its end is recorded here. Raises `UnknownRun`."""
    lease = services.book.load(lease_id)
    endpoint, place = endpoint_of(lease), place_of(lease)
    try:
        ended = services.box.stop_run(endpoint, place, run_id, grace_s=STOP_GRACE_S)
    except UnknownRun:
        if records:
            _record(services, lease, run_id, _nothing(0, 0, 0), failure=NEVER_BEGUN)
        raise
    if records:
        record_followed(services, lease, run_id, Followed(ended=ended), _nothing(0, 0, 0))
    return end_of(Followed(ended=ended), run_id)


def settle_runs(
    services: Services,
    lease: Lease,
    *,
    may_be_beginning: bool,
    is_followed: Callable[[str], bool],
    keep_log: Callable[[str, Ended], None],
) -> None:
    """Asks the box how the open runs of a lease ended, and records it; of one that is followed its follower does.

    `keep_log` is given each one that has ended with its end, before that is on record: from then on the box may go, and
    what the run wrote with it. One that the box does not know never began there, unless somebody is just beginning it.
    A box without python3 keeps no runs: theirs ended with their client. Raises `SshFailure` where the box cannot say.
    """
    left = [run_id for run_id in lease.open_runs if not is_followed(run_id)]
    if not left:
        return
    try:
        told = {run.run_id: run for run in services.box.runs(endpoint_of(lease), place_of(lease))}
    except NoAgent:
        if may_be_beginning:
            raise
        for run_id in left:
            _record(services, lease, run_id, _nothing(0, 0, 0), failure=PLAIN)
        return
    for run_id in left:
        run = told.get(run_id)
        if run.running if run is not None else may_be_beginning:
            continue
        ended = run.ended if run is not None else None
        lost = LOST if run is not None else NEVER_BEGUN
        known = ended is not None and ended.known
        if ended is not None:
            keep_log(run_id, ended)
        _record(
            services, lease, run_id, ended if ended and known else _nothing(0, 0, 0), failure=None if known else lost
        )


def _nothing(stdout_bytes: int, stderr_bytes: int, duration_ms: int) -> Ended:
    return Ended(
        exit_code=None,
        signal=None,
        stdout_bytes=stdout_bytes,
        stderr_bytes=stderr_bytes,
        duration_ms=duration_ms,
        known=False,
    )


def _record(
    services: Services, lease: Lease, run_id: str, ended: Ended, *, failure: str | None, detached: bool = False
) -> None:
    if run_id not in services.book.load(lease.lease_id).open_runs:
        return
    finished = e.RunFinished(
        run_id=run_id,
        exit_code=ended.exit_code,
        signal=ended.signal,
        duration_ms=ended.duration_ms,
        stdout_bytes=ended.stdout_bytes,
        stderr_bytes=ended.stderr_bytes,
        detached=detached,
        failure=failure,
    )
    record_end(services, lease, finished)
