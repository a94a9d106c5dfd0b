"""`rentroll run -- CMD…`: leases or reuses a box, copies the tree, runs a command, streams, gives the box back."""

import os
from collections.abc import Callable
from typing import Any

import click

from cli.app import App
from cli.asked import asked_of, downloads, require_file, shown, variables
from cli.one_run import OneRun, Wish
from cli.options import as_json, endpoint, lease_limits
from cli.render import emit, note
from cli.staying import POLICIES, Policy
from ledger.domain.claim import lease_object
from ledger.domain.errors import RentrollError, UsageFailure
from ledger.domain.units import parse_duration_ms

ONLY_NEW = (
    "instance_type", "sector", "user", "work_root", "slug", "ttl", "idle_timeout", "keep", "keep_until", "reason",
    "wait",
)  # fmt: skip
"""Flags that say what to lease: a lease that exists is as it is."""
OF_SYNC = ("path", "with_git", "allow_mass_deletions", "force_large")
WRITTEN = ("timing_json", "junit")
OF_A_COMMAND = ("shell", "script", "env", "env_file", "download", "junit")


@click.command(name="run")
@lease_limits
@endpoint
@click.option("--id", "lease_name", metavar="LEASE", help="Work on this lease; only --stop-after gives it back.")
@click.option("--reuse", is_flag=True, help="With --slug: the open lease of that name, or a new one.")
@click.option("--reclaim", is_flag=True, help="Take the lease over from another repository.")
@click.option("--no-sync", is_flag=True, help="Do not copy the working tree.")
@click.option("--sync-only", is_flag=True, help="Copy the working tree, and run nothing.")
@click.option("--path", metavar="DIR", help="Copy this folder as it is, instead of what git says.")
@click.option("--with-git", is_flag=True, help="Copy the .git folder too.")
@click.option(
    "--allow-mass-deletions", is_flag=True, help="Copy a tree in which 200 or more tracked files are deleted."
)
@click.option("--force-large", is_flag=True, help="Copy 150,000 files or 20 GiB and more.")
@click.option("--shell", is_flag=True, help="Join the words to a line for sh.")
@click.option("--script", metavar="FILE", help="Run this file of ours, whatever its first line names.")
@click.option("--env", metavar="NAME", multiple=True, help="Give the command our variable; may be repeated.")
@click.option("--env-file", metavar="FILE", help="Give it the variables of a file of KEY=VALUE lines.")
@click.option(
    "--download", metavar="REMOTE[=LOCAL]", multiple=True, help="Fetch this afterwards, also when the command failed."
)
@click.option("-t/ ", "--tty/--no-tty", default=None, help="Give it a terminal; by default where both ends are one.")
@click.option("--lock-timeout", metavar="TIME", default="10m", show_default=True, help="How long to wait for others.")
@click.option("--keep-on-failure", is_flag=True, help="Do not give the box back if the command fails.")
@click.option("--stop-after", type=click.Choice(POLICIES), help="When the box is given back.")
@click.option("--timing-json", metavar="FILE", help="Write the phases of the run to a file.")
@click.option("--junit", metavar="FILE", help="Write a JUnit summary of the run to a file.")
@as_json
@click.argument("remote", nargs=-1, type=click.UNPROCESSED, metavar="-- CMD…")
@click.pass_obj
def command(app: App, /, remote: tuple[str, ...], as_json: bool, **flags: Any) -> int:
    """Lease a box, copy the working tree to it, run a command there, give the box back.

    With --id, or where this repository has exactly one open lease and no flag asks for another, the command runs on
    that lease, which stays unless --stop-after says otherwise. The exit code is the command's own; 125 is a failure of
    rentroll itself. Ctrl-C stops the command, and once more leaves it running.
    """
    wish = _wish(app, remote, flags, as_json=as_json)
    app.purpose = "run"
    app.use_flags(fal_api_url=flags["api_url"])
    one = OneRun(app, wish)
    failure: BaseException | None = None
    try:
        code = one.go()
    except BaseException as raised:
        failure = raised
        raise
    finally:
        _write(flags["timing_json"], lambda: _timing(one), "the timing")
        _write(flags["junit"], lambda: _junit(one, wish, failure), "the summary")
    if as_json:
        _emit(app, one)
    return code


def _wish(app: App, remote: tuple[str, ...], flags: dict[str, Any], *, as_json: bool) -> Wish:
    """Judges the flags before anything is made. Raises `UsageFailure`."""
    _refuse_what_does_not_go_together(remote, flags)
    for name in WRITTEN:
        if flags[name] is not None:
            require_file(flags[name], f"--{_flag(name)}")
    policy = Policy(*(flags[name] for name in Policy._fields))
    job = None if flags["sync_only"] else asked_of(remote, shell=flags["shell"], script=flags["script"])
    trees = None
    if not flags["no_sync"]:
        from cli.trees import TreeFlags, Trees

        trees = Trees(
            TreeFlags(*(flags[name] for name in OF_SYNC)), private=app.state_dir, may_rsync=app.has_system_ssh
        )
    return Wish(
        flags={**flags, "wants_new": any(flags[name] for name in ONLY_NEW)},
        policy=policy,
        job=job,
        env=variables(flags["env"], flags["env_file"], app.variable) if flags["env"] or flags["env_file"] else {},
        downloads=downloads(flags["download"]),
        trees=trees,
        has_tty=_has_tty(flags["tty"], as_json=as_json),
        lock_timeout_s=parse_duration_ms(flags["lock_timeout"]) / 1000,
        as_json=as_json,
    )


def _has_tty(asked: bool | None, *, as_json: bool) -> bool:
    """Whether the command is given a terminal: as asked, else where stdin and stdout are terminals, without --json."""
    if asked is not None:
        return asked
    return not as_json and os.isatty(0) and os.isatty(1)


def _refuse_what_does_not_go_together(remote: tuple[str, ...], flags: dict[str, Any]) -> None:
    if flags["reuse"] and flags["slug"] is None:
        raise UsageFailure("--reuse goes with --slug", hint="the open lease of that name is used, or one is made")
    ignored = [name for name in ONLY_NEW if flags[name]]
    if flags["lease_name"] is not None and ignored:
        flag = "type" if ignored[0] == "instance_type" else ignored[0].replace("_", "-")
        raise UsageFailure(f"--{flag} goes with a new lease, not with --id", hint="leave one of them out")
    unused = next((name for name in OF_SYNC if flags[name]), None)
    if flags["no_sync"] and (flags["sync_only"] or unused):
        raise UsageFailure(f"--{_flag(unused or 'sync_only')} and --no-sync do not go together")
    beside = next((name for name in OF_A_COMMAND if flags[name]), None)
    if flags["sync_only"] and (remote or beside):
        raise UsageFailure(f"--sync-only runs nothing: leave {f'--{_flag(beside)}' if beside else 'the command'} out")


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _timing(one: OneRun) -> str:
    import json

    return json.dumps({"schema": "rentroll.timing/1", "run_id": one.run_id, **one.phases.in_seconds()}) + "\n"


def _junit(one: OneRun, wish: Wish, failure: BaseException | None) -> str:
    from cli.junit import Case, document

    error = failure.message if isinstance(failure, RentrollError) else None if failure is None else str(failure)
    failed = f"exit code {one.code}" if failure is None and one.code else None
    name = "sync" if wish.job is None else shown(wish.job.command, wish.job.kind)
    seconds = one.ended.duration_ms / 1000 if one.ended is not None else 0.0
    return document(Case(name, seconds, failure=failed, error=error))


def _write(path: str | None, text: Callable[[], str], what: str) -> None:
    if path is None:
        return
    try:
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib is not needed to run
            file.write(text())
    except OSError as failure:
        note(f"{what} could not be written to {path}: {failure.strerror}")


def _emit(app: App, one: OneRun) -> None:
    if one.lease is None:
        return
    claim = app.book.claim(one.lease.lease_id)
    ended = one.ended
    outcome = (
        None
        if ended is None
        else {
            "run_id": one.run_id,
            "exit_code": one.code,
            "signal": ended.signal,
            "duration_seconds": ended.duration_ms / 1000,
            "phases": one.phases.in_seconds(),
        }
    )
    emit("run", {"lease": lease_object(claim, app.now(), app.keys_root), "run": outcome})
