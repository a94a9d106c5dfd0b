"""`rentroll watch`: recover and cleanup every interval, until stopped; for systemd, cron or a terminal."""

import json
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cli.app import App
from cli.failures import error_object, without_keys
from cli.options import endpoint
from cli.render import note, say
from ledger.domain.claim import short_time
from ledger.domain.errors import NotFound, RentrollError
from ledger.domain.units import format_time, parse_duration_ms

if TYPE_CHECKING:
    from cli.actions import Report
    from ledger.flows.watch import Change, Looked, Passed

WAITING = ("in-doubt", "conflict")
"""What a pass may end with although nothing is wrong with the watch."""
NAMED = 3
"""So many leases of one trouble are named; the others are counted."""


@click.command(name="watch")
@click.option("--interval", metavar="TIME", default="60s", show_default=True, help="From one pass to the next.")
@click.option("--once", is_flag=True, help="One pass, for a timer that comes every --interval.")
@endpoint
@click.option("--jsonl", is_flag=True, help="One JSON object a pass.")
@click.pass_obj
def command(app: App, interval: str, once: bool, api_url: str | None, jsonl: bool) -> int:
    """Finish what was left open and delete what has expired, every interval, until stopped.

    SIGTERM and SIGINT end it after the leases that it is at work on; a second one at once.
    """
    from cli.clock import SystemClock
    from ledger.flows.watch import look, watch
    from ledger.store.watch_file import WatchLock

    app.use_flags(fal_api_url=api_url)
    app.purpose = "watch"
    interval_s = parse_duration_ms(interval) / 1000
    watcher = _Watcher(app, interval_s, once=once, jsonl=jsonl)
    app.valid_settings  # noqa: B018 - judged before anything else
    with WatchLock(app.ledger_path):
        clock = SystemClock(app.random_token())
        if once:
            source = click.get_current_context().get_parameter_source("interval")
            watcher.comes_again = source is not ParameterSource.DEFAULT
            with app.interrupts.shielded():
                looked = look(watcher.one_pass, clock)
                watcher.told(looked)
            return watcher.exit_code(looked)
        note(f"watching {app.ledger_path} every {interval}")
        watch(watcher.one_pass, watcher.told, clock=clock, interrupts=app.interrupts, interval_s=interval_s)
        note("the watch has ended")
    return 0


class _Watcher:
    """The passes of one process, what is told of each, and the note that others read."""

    def __init__(self, app: App, interval_s: float, *, once: bool, jsonl: bool) -> None:
        from ledger.flows.watch import Troubles

        self._app = app
        self._interval_s = interval_s
        self._once = once
        self.comes_again = True
        """False for a single pass that nobody has said will come again: it leaves no note, so none relies on it."""
        self._jsonl = jsonl
        self._troubles = Troubles()
        self._report: Report | None = None
        self._side: tuple[str, str] | None = None
        self._is_noted = True

    def one_pass(self) -> "Passed":
        """One pass with everything opened anew: another ledger may stand in its place, other settings may hold."""
        from cli.around import own_side
        from cli.recovering import one_pass
        from ledger.flows.watch import Passed

        self._report = None
        app = self._app.anew()
        try:
            if not os.path.exists(app.ledger_path):  # noqa: PTH110 - as in cli/app.py
                raise NotFound(f"there is no ledger at {app.ledger_path} yet", hint="the first lease makes it")
            self._side = own_side(app)
            asked = partial(getattr, app.interrupts, "is_asked")
            self._report = one_pass(app, (), expires=True, waits=True, is_ending=asked)
        finally:
            app.close()
        return Passed(done=self._report.dones, failure=_missing_key() if self._side is None else None)

    def told(self, looked: "Looked") -> None:
        """Tells what was done and what has changed, and leaves the note."""
        for change in self._troubles.changes(looked):
            note(without_keys(_words(change)))
            if change.failure is not None and change.failure.hint:
                note(without_keys(f"  hint: {change.failure.hint}"))
        try:
            self._show(looked)
        except (OSError, ValueError):
            sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - nobody reads any more, and the work goes on
        if self.comes_again:
            self._leave_note(looked)

    def exit_code(self, looked: "Looked") -> int:
        """Of a single pass: as of `cleanup`, or of what made it impossible. No ledger yet is nothing to do."""
        if looked.failure is not None and not isinstance(looked.failure, NotFound):
            return looked.failure.exit_code
        return self._report.exit_code if self._report is not None else 0

    def _show(self, looked: "Looked") -> None:
        from cli.actions import NOTHING_DONE, action_object

        acted = [done for done in looked.done if done.error is not None or done.result not in NOTHING_DONE]
        at = _time(looked.finished_at)
        if self._jsonl:
            told: dict[str, Any] = {
                "schema": "rentroll.watch/1",
                "started_at": _time(looked.started_at),
                "finished_at": at,
                "actions": [action_object(done) for done in acted],
                "tally": self._report.tally._asdict() if self._report is not None else None,
            }
            if looked.failure is not None:
                told["failure"] = error_object(looked.failure)["error"]
            say(json.dumps(told))
        else:
            for done in acted:
                if done.error is None:
                    say(f"{at[:19]}Z {done.action.slug}: {done.action.action}: {done.result} ({done.action.reason})")
        sys.stdout.flush()

    def _leave_note(self, looked: "Looked") -> None:
        from ledger.store.watch_file import LastPass, write_last_pass

        last = LastPass(
            pid=os.getpid(),
            host=self._app.host,
            started_at=looked.started_at,
            finished_at=looked.finished_at,
            interval_seconds=self._interval_s,
            once=self._once,
            failure=_failure(looked),
            trouble=_trouble(looked),
            scope=self._side[0] if self._side else None,
            credential_binding=self._side[1] if self._side else None,
        )
        try:
            write_last_pass(self._app.ledger_path, last)
        except OSError as failure:
            if self._is_noted:
                note(f"this pass could not be noted: {(failure.strerror or str(failure)).lower()}")
            self._is_noted = False
        else:
            self._is_noted = True


def _missing_key() -> RentrollError:
    from providers.absent import missing_key

    return missing_key()


def _time(moment: Any) -> str:
    return short_time(format_time(moment))


def _failure(looked: "Looked") -> str | None:
    """Why a pass as a whole could not do its work, for who reads the note."""
    if looked.failure is None or isinstance(looked.failure, NotFound):
        return None
    return without_keys(f"{looked.failure.code}: {looked.failure.message}")


def _trouble(looked: "Looked") -> str | None:
    """What became of single leases; what only takes its time is no trouble."""
    failed = [done.error for done in looked.done if done.error is not None and done.error.code not in WAITING]
    if not failed:
        return None
    return without_keys(f"{len(failed)} of its leases failed, the first with {failed[0].code}: {failed[0].message}")


def _words(change: "Change") -> str:
    """A trouble in one line."""
    named = ", ".join(change.slugs[:NAMED])
    more = f" and {len(change.slugs) - NAMED} more" if len(change.slugs) > NAMED else ""
    whose = f"{named}{more}: " if named else ""
    if change.failure is None:
        return f"{whose}over: {change.code}"
    return f"{whose}{change.code}: {change.failure.message}"
