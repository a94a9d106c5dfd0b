"""`rentroll run -- CMD…`: leases or reuses a box, runs a command on it, streams, gives the box back."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.app import App
from cli.failures import RUN_FAILED
from cli.leases import find, open_here
from cli.leasing import RUN, Leasing, ask_of
from cli.options import as_json, endpoint, lease_limits
from cli.progress import Progress
from cli.render import emit, note
from cli.staying import AFTERWARDS, POLICIES, Policy
from cli.watched import watched, who_stops
from ledger.domain import names
from ledger.domain.claim import lease_object
from ledger.domain.errors import Interrupted, RentrollError, UsageFailure
from ledger.domain.refusals import Refused

if TYPE_CHECKING:
    from ledger.domain.claim import Claim
    from ledger.domain.ports import RemoteExit
    from ledger.domain.state import Lease
    from ledger.flows.services import Stage

LATER = ("sync_only", "shell", "script", "env", "env_file", "download", "tty")
"""Flags of a later release: refused, never ignored."""
ONLY_NEW = (
    "instance_type", "sector", "user", "work_root", "slug", "ttl", "idle_timeout", "keep", "keep_until", "reason",
    "wait",
)  # fmt: skip
"""Flags that say what to lease: a lease that exists is as it is."""
SIGNALS = 128


@click.command(name="run")
@lease_limits
@endpoint
@click.option("--id", "lease_name", metavar="LEASE", help="Work on this lease; only --stop-after gives it back.")
@click.option("--reuse", is_flag=True, help="With --slug: the open lease of that name, or a new one.")
@click.option("--no-sync", is_flag=True, help="Do not copy the working tree.")
@click.option("--sync-only", is_flag=True, hidden=True)
@click.option("--shell", is_flag=True, hidden=True)
@click.option("--script", metavar="FILE", hidden=True)
@click.option("--env", metavar="NAME", multiple=True, hidden=True)
@click.option("--env-file", metavar="FILE", hidden=True)
@click.option("--download", metavar="REMOTE[=LOCAL]", multiple=True, hidden=True)
@click.option("-t/ ", "--tty/--no-tty", default=None, hidden=True)
@click.option("--keep-on-failure", is_flag=True, help="Do not give the box back if the command fails.")
@click.option("--stop-after", type=click.Choice(POLICIES), help="When the box is given back.")
@click.option("--timing-json", metavar="FILE", help="Write the phases of the run to a file.")
@as_json
@click.argument("remote", nargs=-1, type=click.UNPROCESSED, metavar="-- CMD…")
@click.pass_obj
def command(app: App, /, remote: tuple[str, ...], as_json: bool, **flags: Any) -> int:
    """Lease a box, run a command on it, give the box back.

    With --id, or where this repository has exactly one open lease and no flag asks for another, the command runs on
    that lease, which stays unless --stop-after says otherwise. The exit code is the command's own; 125 is a failure of
    rentroll itself.
    """
    _refuse_what_is_not_built(flags)
    if not remote:
        raise UsageFailure("no command to run", hint="rentroll run --no-sync -- CMD…")
    app.purpose = "run"
    return _Run(app, remote, flags).go(as_json=as_json)


def _refuse_what_is_not_built(flags: dict[str, Any]) -> None:
    if not flags["no_sync"]:
        raise UsageFailure("copying the working tree is not built yet", hint="say --no-sync")
    for name in LATER:
        if flags.get(name):
            raise UsageFailure(f"--{name.replace('_', '-')} is not built yet", hint="it comes with a later release")
    if flags["reuse"] and flags["slug"] is None:
        raise UsageFailure("--reuse goes with --slug", hint="the open lease of that name is used, or one is made")
    ignored = [name for name in ONLY_NEW if flags[name]]
    if flags["lease_name"] is not None and ignored:
        flag = "type" if ignored[0] == "instance_type" else ignored[0].replace("_", "-")
        raise UsageFailure(f"--{flag} goes with a new lease, not with --id", hint="leave one of them out")


class _Run:
    """One `rentroll run`, from its flags to its exit code."""

    def __init__(self, app: App, remote: tuple[str, ...], flags: dict[str, Any]) -> None:
        self._app = app
        self._remote = remote
        self._flags = flags
        self._policy = Policy(*(flags[name] for name in Policy._fields))
        self.run_id = app.new_run_id()
        self.phases: dict[str, float] = {}
        self._leasing: Leasing | None = None
        self._given: Lease | None = None
        self._is_settled = False

    def go(self, *, as_json: bool) -> int:
        """Lease, command, release; the remote code, or 125 where giving back failed after a remote 0."""
        try:
            try:
                with self._timed("lease"):
                    lease = self._lease()
                with self._timed("command"):
                    remote = self._work(lease, as_json=as_json)
                code = exit_code(remote)
                unreleased = self._give_back(failed=code != 0)
            except BaseException as failure:  # whatever it is, a bug or a reader that went away: the box must not stay
                self._give_back(failed=True, first=failure)
                raise
        except Interrupted as late:
            self._give_back(failed=True, first=late)  # it came in the instant before the give-back was shielded
            raise
        finally:
            if self._leasing is not None:
                self._leasing.leave()
            self._write_timing()
        if unreleased is not None and code == 0:
            raise unreleased
        if as_json:
            self._emit(lease, remote)
        return code

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.phases[f"{phase}_seconds"] = round(time.monotonic() - began_s, 3)

    def _lease(self) -> "Lease":
        """The lease that is named, or a new one that ends with this run."""
        flags, app = self._flags, self._app
        app.use_flags(fal_api_url=flags["api_url"])
        claim = self._existing()
        if claim is not None:
            self._given = app.register.load(claim.lease_id)
            return self._given
        purpose = RUN if self._policy.may_release() else "warmup"
        self._leasing = Leasing(app, ask_of(flags), purpose=purpose)
        lease = self._leasing.acquire()
        found = watched(app, app.now(), claims=[app.book.claim(lease.lease_id)])
        if not found.is_so:
            note(f"{found.sentence}: should this run be killed, nobody will stop {lease.slug} by itself")
        return lease

    def _existing(self) -> "Claim | None":
        """The lease that is named, or that this repository already has; None where a new one is wanted."""
        flags, app = self._flags, self._app
        if flags["lease_name"] is not None:
            return find(app, flags["lease_name"])
        if flags["reuse"]:
            with app.reader() as reader:
                held = [claim for claim in reader.find(names.normalise_slug(flags["slug"])) if claim.is_open]
            return held[0] if held else None
        if any(flags[name] for name in ONLY_NEW):
            return None
        ours = open_here(app)
        if len(ours) != 1 or ours[0].purpose == RUN:
            return None  # a lease that another run made for itself ends with that run
        (only,) = ours
        if only.phase != "ready":
            refusal = Refused(app.register.load(only.lease_id), "not-ready", f"it is {only.phase}, not ready")
            refusal.hint = "it is this repository's only open lease; to lease another box say --slug NAME"
            refusal.next_step = f"rentroll status {only.slug}"
            raise refusal
        note(f"on lease {only.slug}, the only one of this repository; {AFTERWARDS[flags['stop_after']]}")
        return only

    def _work(self, lease: "Lease", *, as_json: bool) -> "RemoteExit":
        from cli.alive import signs_of_life
        from cli.repository import here
        from ledger.flows.work import Job, remote_line, run
        from providers.ssh.openssh import quote_argv

        job = Job(
            run_id=self.run_id,
            lease_id=lease.lease_id,
            command=self._remote,
            line=remote_line(lease, self.run_id, quote_argv(self._remote)),
            repository=here(),
            stdin=sys.stdin.fileno() if sys.stdin is not None else None,
            on_stdout=_sink(2 if as_json else 1),
            on_stderr=_sink(2),
        )
        services = self._app.services(_told, key_required=False)
        return run(services, job, lambda lease_id: signs_of_life(self._app, lease_id, "run"))

    def _give_back(self, *, failed: bool, first: BaseException | None = None) -> RentrollError | None:
        """Releases once, as the policy says; a failure of it is told, and given to the caller to judge."""
        app = self._app
        try:
            with app.interrupts.shielded():
                lease = self._to_settle()
                if lease is None:
                    return None
                self._is_settled = True
                if self._policy.must_release(is_ours=self._leasing is not None, failed=failed):
                    return self._release(lease)
                if self._leasing is not None:
                    self._leasing.hand_over(lease, self._policy.why_it_stays())
                    told = who_stops(app, app.book.claim(lease.lease_id), app.now())
                    note(f"{lease.slug} stays and bills; {told}; `{app.stop_command(lease.slug)}` ends it")
                return None
        except Interrupted:
            if first is None:
                raise
            return None

    def _to_settle(self) -> "Lease | None":
        """The lease of which it is still to be settled whether it goes.

        An acquisition that failed has undone what it could: of ours, only a box that became ready is left to us.
        """
        if self._is_settled:
            return None
        if self._leasing is None:
            return self._given
        try:
            lease = self._app.book.load(self._leasing.want.lease_id)
        except RentrollError:
            return None  # there is no ledger in which it could have become ready
        return lease if lease.phase == "ready" else None

    def _release(self, lease: "Lease") -> RentrollError | None:
        from ledger.flows.stop import Stop, stop

        app = self._app
        wish = Stop(
            lease_id=lease.lease_id,
            reason="the run ended",
            cause="run-finished",
            token=app.random_token(),
            may_hurry=self._leasing is not None,
        )
        try:
            with self._timed("release"), Progress(app) as progress:
                stop(app.services(progress.tell), wish)
        except RentrollError as failure:
            note(f"{lease.slug} was not given back ({failure.code}): {failure.message}")
            failure.next_step = app.stop_command(lease.slug)
            return failure
        return None

    def _write_timing(self) -> None:
        path = self._flags["timing_json"]
        if path is None:
            return
        try:
            Path(path).write_text(
                json.dumps({"schema": "rentroll.timing/1", "run_id": self.run_id, **self.phases}) + "\n"
            )
        except OSError as failure:
            note(f"the timing could not be written to {path}: {failure.strerror}")

    def _emit(self, lease: "Lease", remote: "RemoteExit") -> None:
        claim = self._app.book.claim(lease.lease_id)
        outcome = {
            "run_id": self.run_id,
            "exit_code": exit_code(remote),
            "signal": remote.signal,
            "duration_seconds": self.phases["command_seconds"],
            "phases": self.phases,
        }
        emit("run", {"lease": lease_object(claim, self._app.now(), self._app.keys_root), "run": outcome})


def _told(stage: "Stage") -> None:
    """The command's own output is what people see while it runs; the flow speaks only where something is amiss."""
    note(f"{stage.slug}: {stage.name}: {stage.detail}")


def exit_code(remote: "RemoteExit") -> int:
    """The remote code as it is; 128+N for signal N."""
    if remote.exit_code is not None:
        return remote.exit_code
    number = signal.Signals.__members__.get(f"SIG{remote.signal}")
    return SIGNALS + number if number is not None else RUN_FAILED


def _sink(descriptor: int) -> Callable[[bytes], None]:
    """Writes every byte to one of our own streams, unbuffered, so that nothing waits and nothing is reordered."""

    def write(chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            view = view[os.write(descriptor, view) :]

    return write
