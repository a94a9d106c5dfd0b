"""One `rentroll run`, from its flags to its exit code: lease, sync, command, downloads, release."""

import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from cli.alive import FIRST_WARNING, signs_of_life
from cli.asked import Asked, Download
from cli.belonging import require_ours
from cli.chosen import RUN, existing
from cli.failures import tell_failure
from cli.leases import about, name_who_tells
from cli.outcome import exit_code, sink, told
from cli.render import note
from cli.staying import Policy
from ledger.domain.errors import Interrupted, RentrollError, SshFailure, SyncFailure
from ledger.domain.ports import Ended, NoAgent, WorkspaceBusy
from ledger.flows.phases import Phases
from ledger.flows.work import Job, Left, run

if TYPE_CHECKING:
    from cli.app import App
    from cli.leasing import Leasing
    from cli.sync_progress import SyncProgress
    from cli.terminal import PassedThrough
    from cli.trees import Trees
    from ledger.domain.ports import Running, Tty, Workspace
    from ledger.domain.state import Lease
    from ledger.flows.services import Services

ALL = timedelta(days=36_500)
GOES = "its box goes, and what it holds with it"
KEEPS = "--keep-on-failure keeps it where the command or a download fails"
GONE = "the box was given back"


class Wish(NamedTuple):
    """What the flags of one run come to. Without a `job` only the tree is copied, and without `trees` no tree is."""

    flags: dict[str, Any]
    policy: Policy
    job: Asked | None
    env: dict[str, str]
    downloads: list[Download]
    trees: "Trees | None"
    has_tty: bool
    lock_timeout_s: float
    as_json: bool


class OneRun:
    """What has happened so far: `lease`, `ended` and `phases` are for the reports."""

    def __init__(self, app: "App", wish: Wish) -> None:
        self.run_id = app.new_run_id()
        self.phases = Phases(time.monotonic)
        self.lease: Lease | None = None
        self.ended: Ended | None = None
        self._app = app
        self._wish = wish
        self._leasing: Leasing | None = None
        self._terminal: PassedThrough | None = None
        self._is_settled = False

    def go(self) -> int:
        """The remote code, or 125 where giving back or a download failed after a remote 0."""
        try:
            try:
                self._acquire()
                self._work()
                late = self._download()
                unreleased = self._give_back(failed=self.code != 0 or late is not None)
            except BaseException as failure:  # whatever it is, a bug or a reader that went away: the box must not stay
                self._give_back(failed=True, first=failure)
                raise
        except Left:
            raise
        except Interrupted as interrupted:
            self._give_back(failed=True, first=interrupted)  # it came in the instant before the give-back was shielded
            raise
        finally:
            if self._leasing is not None:
                self._leasing.leave()
        first = unreleased or late
        if self.code == 0 and first is not None:
            raise first
        return self.code

    @property
    def code(self) -> int:
        """The exit code of the command; 0 where there is none."""
        return 0 if self.ended is None else exit_code(self.ended)

    def _acquire(self) -> None:
        """The lease that is named, or a new one that ends with this run."""
        app, flags = self._app, self._wish.flags
        with self.phases.timed("lease"):
            claim = existing(app, flags)
            if claim is not None:
                self.lease = require_ours(app, claim.lease_id, reclaim=flags["reclaim"])
                return
        from cli.leasing import Leasing, ask_of
        from cli.watched import watched

        if self._wish.trees is not None:
            with self.phases.timed("sync"):
                self._wish.trees.look()  # before anything is paid for
        purpose = RUN if self._wish.policy.may_release() else "warmup"
        self._leasing = Leasing(app, ask_of(flags), purpose=purpose, phases=self.phases)
        self.lease = self._leasing.acquire()
        found = watched(app, app.now(), claims=[app.book.claim(self.lease.lease_id)])
        if not found.is_so:
            note(f"{found.sentence}: should this run be killed, nobody will stop {self.lease.slug} by itself")

    def _work(self) -> None:
        lease = self.lease
        if lease is None:
            raise ValueError("there is a lease by now")
        with about(self._app, lease):
            self._work_on(lease)

    def _work_on(self, lease: "Lease") -> None:
        app, wish = self._app, self._wish
        services = app.services(told, with_provider=False)
        first = FIRST_WARNING if self._leasing is None else ALL
        trees = wish.trees
        if wish.job is None:
            if trees is not None:
                signs = signs_of_life(app, lease.lease_id, "run", warns=True, first=first)
                with signs, self.phases.timed("sync"), self._shown() as trees.progress:
                    trees.sync(services, lease, lock_timeout_s=wish.lock_timeout_s)
            return
        from cli.run_logs import RunLog

        code = app.code
        with RunLog(app.run_folder(self.run_id), keep_bytes=app.run_log_bytes, told=note) as log:
            job = Job(
                run_id=self.run_id,
                lease_id=lease.lease_id,
                command=wish.job.command,
                kind=wish.job.kind,
                script=wish.job.script,
                env=wish.env,
                tty=self._tty(),
                repository=code.repository if code is not None else None,
                commit=code.commit if code is not None else None,
                stdin=sys.stdin.fileno() if sys.stdin is not None else None,
                on_stdout=log.sink("stdout", sink(2 if wish.as_json else 1)),
                on_stderr=log.sink("stderr", sink(2)),
                lock_timeout_s=wish.lock_timeout_s,
                on_starting=self._starts,
                on_running=self._runs if wish.has_tty else None,
            )
            try:
                self.ended = run(
                    services,
                    job,
                    lambda lease_id: signs_of_life(app, lease_id, "run", warns=True, first=first),
                    phases=self.phases,
                    prepare=None if trees is None else self._putting(services, lease, trees),
                )
            finally:
                app.interrupts.doing = None
                if self._terminal is not None:
                    self._terminal.end()

    def _putting(
        self, services: "Services", lease: "Lease", trees: "Trees"
    ) -> "Callable[[Workspace], tuple[str, bool | None]]":
        """What copies the tree into a workspace. The tree is looked at from now on, while that is opened."""
        from ledger.flows.sync import Meanwhile

        looking, dirty = Meanwhile(trees.look, "scan"), Meanwhile(trees.is_dirty, "status")

        def put(workspace: "Workspace") -> "tuple[str, bool | None]":
            with self._shown() as trees.progress:
                return trees.put(services, lease, workspace, scan=looking.result), dirty.result()

        return put

    def _shown(self) -> "SyncProgress":
        from cli.sync_progress import SyncProgress

        app = self._app
        return SyncProgress(is_shown=app.is_terminal and not self._wish.as_json, color=app.options.color)

    def _tty(self) -> "Tty | None":
        if not self._wish.has_tty:
            return None
        from cli.terminal import terminal

        return terminal(self._app.variable("TERM") or "xterm")

    def _starts(self) -> None:
        """From here on Ctrl-C is the command's: as a key of its terminal, or as the signal that stops it."""
        self._app.interrupts.doing = "stopping the command (Ctrl-C once more leaves it running)"

    def _runs(self, running: "Running") -> None:
        from cli.terminal import PassedThrough

        self._terminal = PassedThrough(self._app.variable("TERM") or "xterm")
        self._terminal.begin(lambda tty: running.resize(tty.rows, tty.columns))

    def _download(self) -> RentrollError | None:
        """What was asked for, after the command however it ended; the first failure is for the caller to judge."""
        wish, lease = self._wish, self.lease
        if not wish.downloads or lease is None:
            return None
        from cli.downloads import fetch

        with self.phases.timed("download"), signs_of_life(self._app, lease.lease_id, "run"):
            outcomes = [fetch(self._app, lease, one, quiet=wish.as_json) for one in wish.downloads]
        failures = [failure for failure in outcomes if failure is not None]
        for wanted, failure in zip(wish.downloads, outcomes, strict=True):
            if failure is not None:
                self._say_what_is_left(lease, wanted, failure)
        for failure in failures if self.code != 0 else failures[1:]:
            tell_failure("not downloaded", failure)
        return failures[0] if failures else None

    def _say_what_is_left(self, lease: "Lease", wanted: "Download", failure: RentrollError) -> None:
        """Of a download that failed: whether it can be had yet."""
        failure.lease_id = lease.lease_id
        if self._wish.policy.must_release(is_ours=self._leasing is not None, failed=True):
            failure.hint = f"{GOES}; {KEEPS}" if self._wish.policy.stop_after is None else GOES
            return
        source = f"{lease.slug}:{os.fsdecode(wanted.remote)}"
        failure.next_step = self._app.command_line("cp", source, os.fsdecode(wanted.local or b"."))

    def _give_back(self, *, failed: bool, first: BaseException | None = None) -> RentrollError | None:
        """Releases once, as the policy says; a failure of it is told, and given to the caller to judge."""
        app = self._app
        try:
            with app.interrupts.shielded():
                lease = self._to_settle()
                if lease is None:
                    return None
                self._is_settled = True
                if isinstance(first, Left):
                    self._stay(lease, first)
                    return None
                is_ours = self._leasing is not None
                if isinstance(first, WorkspaceBusy) and not is_ours:
                    return None  # somebody else works there: it is not ours to end
                if self._wish.policy.must_release(is_ours=is_ours, failed=failed):
                    failure = self._release(lease)
                    if failure is None and first is not None:
                        _say_it_is_gone(first)
                    return failure
                if isinstance(first, Interrupted):
                    name_who_tells(app, first, lease.lease_id, self.run_id)
                if self._leasing is not None:
                    from cli.watched import who_stops

                    self._leasing.hand_over(lease, self._wish.policy.why_it_stays())
                    stops = who_stops(app, app.book.claim(lease.lease_id), app.now())
                    note(f"{lease.slug} stays and bills; {stops}; `{app.stop_command(lease.slug)}` ends it")
                return None
        except Interrupted:
            if first is None:
                raise
            return None

    def _stay(self, lease: "Lease", left: Left) -> None:
        app = self._app
        left.lease_id = lease.lease_id
        left.left = (
            f"{self.run_id} goes on on {lease.slug}, which bills: `{app.command_line('runs', 'attach', self.run_id)}` "
            f"follows it, `{app.command_line('runs', 'stop', self.run_id)}` ends it"
        )

    def _to_settle(self) -> "Lease | None":
        """The lease of which it is still to be settled whether it goes.

        An acquisition that failed has undone what it could: of ours, only a box that became ready is left to us.
        """
        if self._is_settled:
            return None
        if self._leasing is None:
            return self.lease
        try:
            lease = self._app.book.load(self._leasing.want.lease_id)
        except RentrollError:
            # Of one that became ready the release is tried, and says itself why it fails; before, none can be ours.
            return self.lease
        return lease if lease.phase == "ready" else None

    def _release(self, lease: "Lease") -> RentrollError | None:
        from cli.progress import Progress
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
            with self.phases.timed("release"), Progress(app) as progress:
                stop(app.services(progress.tell), wish)
        except RentrollError as failure:
            note(f"{lease.slug} was not given back ({failure.code}): {failure.message}")
            failure.next_step = app.stop_command(lease.slug)
            return failure
        return None


def _say_it_is_gone(first: BaseException) -> None:
    """What a failure says of its box does not hold once that is given back."""
    if isinstance(first, Interrupted):
        first.left = None
    elif isinstance(first, SyncFailure | SshFailure) and not isinstance(first, NoAgent):
        first.hint, first.next_step = f"{first.hint}; {GONE}" if first.hint else GONE, None
