"""Runs that nobody follows any more, on leases that end with their run: the box itself tells how they ended.

Only then can such a lease be given back before its time is over. What the run wrote is fetched first.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from cli.around import ALIVE_ELSEWHERE, is_attended_by_client
from cli.chosen import RUN
from cli.outcome import told
from cli.render import note
from ledger.domain.claim import Claim, is_overdue
from ledger.domain.errors import RentrollError
from ledger.flows.attach import settle_runs

if TYPE_CHECKING:
    from cli.app import App
    from cli.run_logs import RunLog
    from ledger.domain.ports import Ended
    from ledger.domain.state import Lease

FETCH_S = 60.0
"""So long at most the box is listened to for the log of one run: it must not keep the box from being given back."""


def settle_left_runs(app: "App", claims: Iterable[Claim], *, expires: bool, is_ending: Callable[[], bool]) -> None:
    """Asks the boxes of such leases, and records what they say. A box that does not answer is told, and left.

    One that is deleted whatever it says is not asked; `expires` is that of `ledger.domain.plan.Around`. `is_ending` is
    asked before each one.
    """
    for claim in claims:
        if is_ending():
            return
        if claim.purpose != RUN or claim.phase != "ready" or is_attended_by_client(app, claim, app.now()):
            continue
        if claim.stop_reason is not None or (expires and is_overdue(claim, app.now())):
            continue
        try:
            lease = app.register.load(claim.lease_id)
            if lease.open_runs:
                _settle(app, lease)
        except RentrollError as failure:
            note(f"{claim.slug}: whether its run goes on is not known: {failure.message}")


def _settle(app: "App", lease: "Lease") -> None:
    from cli.run_logs import is_followed

    is_fresh = lease.touched_at is not None and app.now() - lease.touched_at < ALIVE_ELSEWHERE
    settle_runs(
        app.services(told, with_provider=False),
        lease,
        may_be_beginning=is_fresh,
        is_followed=lambda run_id: is_followed(app.run_folder(run_id)),
        keep_log=lambda run_id, ended: _keep_log(app, lease, run_id, ended),
    )


def _keep_log(app: "App", lease: "Lease", run_id: str, ended: "Ended") -> None:
    """Brings what is kept here of a run's streams to their end; a failure is told, and stops nothing."""
    from cli.run_logs import RunLog

    try:
        most = app.run_log_bytes
        if most:
            with RunLog(app.run_folder(run_id), keep_bytes=most, told=note) as log:
                _fetch(app, lease, run_id, ended, log, most)
    except (RentrollError, OSError) as failure:
        why = f"its box did not send it within {FETCH_S:g} s" if isinstance(failure, TimeoutError) else failure
        note(f"{lease.slug}: the end of what {run_id} wrote could not be fetched: {why}")


def _fetch(app: "App", lease: "Lease", run_id: str, ended: "Ended", log: "RunLog", most: int) -> None:
    """Raises `TimeoutError` where it takes too long, and what `Box.attach` and `Running.wait` raise."""
    from ledger.flows.work import endpoint_of, place_of

    begins = log.resume()
    ends = (ended.stdout_bytes, ended.stderr_bytes)
    skipped = [max(0, end - most - begin) for begin, end in zip(begins, ends, strict=True)]
    log.skip((skipped[0], skipped[1]))
    running = app.services(told, with_provider=False).box.attach(
        endpoint_of(lease),
        place_of(lease),
        run_id,
        from_stdout=begins[0] + skipped[0],
        from_stderr=begins[1] + skipped[1],
        stdin=None,
        on_stdout=log.sink("stdout", _shows_nothing),
        on_stderr=log.sink("stderr", _shows_nothing),
    )
    try:
        log.skip(running.dropped)
        running.wait(FETCH_S)
    finally:
        running.detach()


def _shows_nothing(_chunk: bytes) -> None:
    """What is fetched is kept, and shown to nobody."""
