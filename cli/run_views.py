"""From a RUN argument to one run, and what is shown of runs."""

from typing import TYPE_CHECKING, Any, NamedTuple

from cli.asked import shown
from cli.chosen import RUN
from cli.outcome import exit_code_of
from cli.render import money, note, say, span, table
from cli.run_logs import is_followed
from ledger.domain.claim import moment
from ledger.domain.errors import NotFound, UsageFailure
from ledger.reports.runs import Run, cost, duration_ms, run_object, runs, state_of

if TYPE_CHECKING:
    from cli.app import App
    from ledger.domain.claim import Claim

LATEST = "latest"
PREFIX = "run_"


class Viewed(NamedTuple):
    """One run with its lease's claim and what it is at now."""

    run: Run
    claim: "Claim | None"
    state: str


def viewed(app: "App", found: list[Run]) -> list[Viewed]:
    """What is known of these runs now."""
    with app.reader() as reader:
        claims = {claim.lease_id: claim for claim in reader.claims(include_released=True)}
    now = app.now()

    def followed(run_id: str) -> bool:
        return is_followed(app.run_folder(run_id))

    def state(run: Run) -> str:
        return state_of(run, claims.get(run.lease_id), now, host=app.host, is_followed=followed)

    return [Viewed(run, claims.get(run.lease_id), state(run)) for run in found]


def all_runs(app: "App", lease_id: str | None = None) -> list[Run]:
    """The runs of a lease, or of the ledger; the newest first."""
    with app.reader() as reader:
        return runs(reader, lease_id)


def find_run(app: "App", name: str) -> Viewed:
    """The one run that a RUN argument means: its id, what its id begins with, or `latest`.

    Raises `NotFound`, or `UsageFailure` where it means several.
    """
    name = name.strip()
    known = all_runs(app)
    wanted = name if name.startswith(PREFIX) else PREFIX + name
    found = known[:1] if name == LATEST else [run for run in known if run.run_id.startswith(wanted)]
    found = [run for run in found if run.run_id == wanted] or found
    if not found or not name:
        raise NotFound(f"no run {name!r} in this ledger", next_step="rentroll runs --all")
    if len(found) > 1:
        raise UsageFailure(f"{name!r} means {len(found)} runs", hint="type more of its id")
    return viewed(app, found)[0]


def object_of(app: "App", one: Viewed) -> dict[str, Any]:
    """One run in JSON."""
    return run_object(one.run, one.claim, app.now(), one.state, exit_code_of)


def show(app: "App", found: list[Viewed]) -> None:
    """The table, and what to do about runs that nobody follows."""
    if not found:
        say("no runs")
        return
    now = app.now()
    rows = []
    for run, claim, state in found:
        lasted_ms = duration_ms(run, state, now)
        rows.append(
            (
                run.run_id[: len(PREFIX) + 8],
                claim.slug if claim is not None else "?",
                _end(run, state),
                span((now - moment(run.started_at)).total_seconds()),
                "?" if lasted_ms is None else span(lasted_ms / 1000),
                money(cost(claim, lasted_ms), claim.currency if claim is not None else None),
                shown(tuple(run.started["command"]), run.started["kind"]),
            )
        )
    table(("RUN", "LEASE", "END", "AGE", "TOOK", "COST", "COMMAND"), rows)
    for run, claim, state in found:
        if state == "unknown" and run.is_open and claim is not None and claim.phase == "ready":
            tells = app.command_line("runs", "attach", run.run_id)
            note(f"{run.run_id}: its client is gone, and whether it still runs is not known here: `{tells}` tells")


def _end(run: Run, state: str) -> str:
    finished = run.finished
    if state != "finished" or finished is None:
        return state
    return finished["signal"] or str(finished["exit_code"])


def tell_what_stays(app: "App", lease_id: str) -> None:
    """Of a lease that ends with its run: that it bills until somebody gives it back, once nothing runs there."""
    lease = app.book.load(lease_id)
    if lease.purpose == RUN and lease.is_open and not lease.open_runs:
        note(
            f"{lease.slug} was leased for this run alone: `{app.stop_command(lease.slug)}` ends it now, or a `recover`"
        )
