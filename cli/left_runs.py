"""Runs that nobody follows any more, on leases that end with their run: the box itself tells how they ended.

Only then can such a lease be given back before its time is over. What the run wrote is fetched first.
"""

from collections.abc import Iterable
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
    from ledger.domain.ports import Ended
    from ledger.domain.state import Lease

FETCH_S = 60.0
"""So long at most the box is listened to for the log of one run: it must not keep the box from being given back."""


def settle_left_runs(app: "App", claims: Iterable[Claim], *, expires: bool) -> None:
    """Asks the boxes of such leases, and records what they say. A box that does not answer is told, and left.

    One that is deleted whatever it says is not asked; `expires` is that of `ledger.domain.plan.Around`.
    """
    for claim in claims:
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
    is_fresh = lease.touched_at is not None and app.now() - lease.touched_at < ALIVE_ELSEWHERE
    settle_runs(
        app.services(told, with_provider=False),
        lease,
        may_be_beginning=is_fresh,
        keep_log=lambda run_id, ended: _keep_log(app, lease, run_id, ended),
    )


def _keep_log(app: "App", lease: "Lease", run_id: str, ended: "Ended") -> None:
    """Brings what is kept here of a run's streams to their end; a failure is told, and stops nothing."""
    from cli.run_logs import RunLog, is_followed
    from ledger.flows.work import endpoint_of, place_of

    folder, most = app.run_folder(run_id), app.run_log_bytes
    if most == 0 or is_followed(folder):
        return
    with RunLog(folder, keep_bytes=most, told=note) as log:
        begins = log.resume()
        ends = (ended.stdout_bytes, ended.stderr_bytes)
        skipped = [max(0, end - most - begin) for begin, end in zip(begins, ends, strict=True)]
        log.skip((skipped[0], skipped[1]))
        try:
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
        except (RentrollError, TimeoutError) as failure:
            note(f"{lease.slug}: the end of what {run_id} wrote could not be fetched: {failure}")


def _shows_nothing(_chunk: bytes) -> None:
    """What is fetched is kept, and shown to nobody."""
