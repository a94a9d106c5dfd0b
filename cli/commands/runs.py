"""`rentroll runs`: what was run, how it ended, what it wrote; following and stopping what still runs."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from cli.alive import signs_of_life
from cli.app import App
from cli.leases import about, find, name_who_tells
from cli.options import LeaseName, as_json
from cli.outcome import exit_code_of, sink, told
from cli.render import emit, note, say
from cli.run_logs import STREAMS, RunLog, is_followed, read_from
from cli.run_views import Viewed, all_runs, find_run, object_of, show, tell_what_stays, viewed
from ledger.domain.errors import Conflict, Interrupted, NotFound, UsageFailure
from ledger.flows.attach import Attachment, attach, stop_run
from ledger.flows.work import Left

SHOWN = 20
LOOK_S = 0.2
QUIET_S = 0.5
"""A stream that says nothing for so long has said what the box keeps of it."""
KEPT_S = 5.0
"""After so long one that does not fall silent has said that as well: the rest is for --follow."""


@click.group(name="runs", invoke_without_command=True)
@click.option("--id", "lease_name", metavar="LEASE", type=LeaseName(), help="Only the runs on this lease.")
@click.option("--all", "everything", is_flag=True, help=f"All of them, not the newest {SHOWN}.")
@as_json
@click.pass_context
def command(ctx: click.Context, lease_name: str | None, everything: bool, as_json: bool) -> None:
    """Show what was run, the newest first.

    A RUN is named by its id, by what its id begins with, or as `latest`.
    """
    if ctx.invoked_subcommand is not None:
        return
    app: App = ctx.obj
    found = all_runs(app, find(app, lease_name).lease_id if lease_name is not None else None)
    shown = viewed(app, found if everything else found[:SHOWN])
    if as_json:
        emit("runs", {"runs": [object_of(app, one) for one in shown]})
        return
    show(app, shown)
    if len(shown) < len(found):
        say(f"{len(found) - len(shown)} older: --all shows them")


@command.command(name="logs")
@click.argument("run")
@click.option("--follow", is_flag=True, help="Go on until it ends.")
@click.option("--stdout", "only", flag_value="stdout", help="Only what it wrote to stdout.")
@click.option("--stderr", "only", flag_value="stderr", help="Only what it wrote to stderr.")
@click.option("--jsonl", is_flag=True, help="One JSON object for each piece.")
@click.pass_obj
def logs(app: App, run: str, follow: bool, only: str | None, jsonl: bool) -> None:
    """Show what a run wrote, each stream on our own one, as it is kept here; else as its box keeps it."""
    one = find_run(app, run)
    printer = _Printer(one.run.run_id, only, jsonl=jsonl)
    folder = app.run_folder(one.run.run_id)
    if not os.path.isdir(folder) and one.state not in ("running", "detached", "unknown"):  # noqa: PTH112
        raise NotFound(f"nothing of {one.run.run_id} is kept here", hint="it was run from another machine, or is old")
    while True:
        is_going_on = follow and is_followed(folder)
        for name in STREAMS:
            printer.take(name, *read_from(folder, name, printer.position[name]))
        if not is_going_on:
            break
        sys.stdout.flush()
        time.sleep(LOOK_S)
    one = find_run(app, one.run.run_id)
    if one.run.is_open and one.claim is not None and one.claim.phase == "ready" and not is_followed(folder):
        with about(app, one.claim):
            _from_the_box(app, one, printer, to_the_end=follow)


class _Printer:
    """Writes pieces of streams as they were asked for. `position` is how far each stream has been shown."""

    def __init__(self, run_id: str, only: str | None, *, jsonl: bool) -> None:
        self.position = dict.fromkeys(STREAMS, 0)
        self.pieces = 0
        self._run_id, self._only, self._jsonl = run_id, only, jsonl

    def take(self, name: str, begin: int, data: bytes) -> None:
        """`data` is what the stream has from `begin` on; what it had before that is gone."""
        self.position[name] = begin + len(data)
        if not data:
            return
        self.pieces += 1
        if self._only not in (None, name):
            return
        if self._jsonl:
            told = {"run_id": self._run_id, "stream": name, "offset": begin, "text": data.decode(errors="replace")}
            say(json.dumps(told))
        else:
            sys.stdout.flush()
            sink(2 if name == "stderr" and self._only is None else 1)(data)

    def sink(self, name: str) -> Callable[[bytes], None]:
        return lambda chunk: self.take(name, self.position[name], chunk)

    def skip(self, counts: tuple[int, int]) -> None:
        for name, count in zip(STREAMS, counts, strict=True):
            self.position[name] += count


def _from_the_box(app: App, one: Viewed, printer: _Printer, *, to_the_end: bool) -> None:
    """Shows what the box has beyond what is known here, and with `to_the_end` goes on until the run ends."""
    from ledger.flows.work import endpoint_of, place_of

    services, lease = app.services(told, with_provider=False), app.book.load(one.run.lease_id)
    running = services.box.attach(
        endpoint_of(lease),
        place_of(lease),
        one.run.run_id,
        from_stdout=printer.position["stdout"],
        from_stderr=printer.position["stderr"],
        on_stdout=printer.sink("stdout"),
        on_stderr=printer.sink("stderr"),
    )
    printer.skip(running.dropped)
    before, end_s = -1, time.monotonic() + KEPT_S
    try:
        while to_the_end or (before != printer.pieces and time.monotonic() < end_s):
            before = printer.pieces
            with contextlib.suppress(TimeoutError):
                running.wait(QUIET_S)
                return
    finally:
        running.detach()


@command.command(name="attach")
@click.argument("run")
@click.pass_obj
def attach_command(app: App, run: str) -> int:
    """Follow a run: its streams from where they were last seen, its exit code as our own.

    Ctrl-C stops it, and once more leaves it running, as in `run`.
    """
    app.purpose = "runs attach"
    one = find_run(app, run)
    run_id, lease_id = one.run.run_id, one.run.lease_id
    if not one.run.is_open:
        return _already_ended(one)
    folder = app.run_folder(run_id)
    if is_followed(folder):
        raise Conflict(
            f"{run_id} is followed by another process of this machine",
            hint=f"`{app.command_line('runs', 'logs', run_id, '--follow')}` shows what it writes",
            lease_id=lease_id,
        )
    with RunLog(folder, keep_bytes=app.run_log_bytes, told=note) as log:
        from_stdout, from_stderr = log.resume()

        def begins(running: Any) -> None:
            log.skip(running.dropped)
            for name, count in zip(STREAMS, running.dropped, strict=True):
                if count:
                    note(f"{count} bytes of its {name} are not kept any more")

        wish = Attachment(
            run_id=run_id,
            lease_id=lease_id,
            stdin=None,
            from_stdout=from_stdout,
            from_stderr=from_stderr,
            on_stdout=log.sink("stdout", sink(1)),
            on_stderr=log.sink("stderr", sink(2)),
            on_running=begins,
        )
        app.interrupts.doing = "stopping the command (Ctrl-C once more leaves it running)"
        try:
            with _about(app, one):
                ended = attach(
                    app.services(told, with_provider=False),
                    wish,
                    lambda lease: signs_of_life(app, lease, "run", warns=True),
                )
        except Left as left:
            left.lease_id, left.left = lease_id, f"{run_id} goes on"
            raise
        except Interrupted as interrupted:
            name_who_tells(app, interrupted, lease_id, run_id)
            raise
        finally:
            app.interrupts.doing = None
    tell_what_stays(app, lease_id)
    return exit_code_of(ended.exit_code, ended.signal)


def _about(app: App, one: Viewed) -> "contextlib.AbstractContextManager[None]":
    return contextlib.nullcontext() if one.claim is None else about(app, one.claim)


def _already_ended(one: Viewed) -> int:
    finished = one.run.finished or {}
    if not one.run.has_known_end:
        raise NotFound(f"how {one.run.run_id} ended is not known: {finished.get('failure') or 'nobody saw it'}")
    note(f"it has ended; `rentroll runs logs {one.run.run_id}` shows what it wrote")
    return exit_code_of(finished["exit_code"], finished["signal"])


@command.command(name="stop")
@click.argument("run")
@as_json
@click.pass_obj
def stop(app: App, run: str, as_json: bool) -> None:
    """Stop a run: INT, TERM after ten seconds, then KILL. Its box stays."""
    app.purpose = "runs stop"
    one = find_run(app, run)
    run_id, lease_id = one.run.run_id, one.run.lease_id
    if one.run.is_open and (one.claim is None or one.claim.phase != "ready"):
        raise UsageFailure(
            f"{run_id} has no box any more: its lease is {one.claim.phase if one.claim else 'unknown'}",
            hint="nothing of it runs once its box is gone",
            lease_id=lease_id,
        )
    if one.run.is_open:
        services = app.services(told, with_provider=False)
        with _about(app, one):
            stop_run(services, lease_id, run_id, records=not is_followed(app.run_folder(run_id)))
        tell_what_stays(app, lease_id)
    one = find_run(app, run_id)
    if as_json:
        emit("runs-stop", {"run": object_of(app, one)})
    else:
        show(app, [one])
