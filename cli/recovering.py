"""`recover` and `cleanup`: one pass over the ledger, or its dry run, with its count and its exit code."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from cli.actions import (
    NOTHING_DONE,
    Report,
    Tally,
    Unknown,
    failed_object,
    report_object,
    show,
    tell_failures,
    told_once,
)
from cli.around import around_of, elsewhere
from cli.failures import tell_failure
from cli.leases import find, with_our_flags
from cli.render import emit
from ledger.domain.claim import Claim
from ledger.domain.errors import Differences, RentrollError
from ledger.domain.plan import Around, judge, looked_for_since, may_cost, plan
from ledger.domain.units import after_ms, format_time
from ledger.domain.windows import SUSPECT_MS
from ledger.flows.recover import Done, Pass, recover

if TYPE_CHECKING:
    from cli.app import App


class Wish(NamedTuple):
    """What a person asked for: the command by its name, the leases by theirs (none for all), and how."""

    command: str
    names: tuple[str, ...]
    expires: bool
    dry_run: bool
    as_json: bool


class Chosen(NamedTuple):
    """What a pass is to look at: claims to plan for, the ids that were named (None for all), and unknown names."""

    claims: list[Claim]
    only: frozenset[str] | None
    unknown: list[Unknown]


def carry_out(app: "App", wish: Wish) -> int:
    """A whole `recover` or `cleanup`: the pass or its dry run, and what is shown of it. Gives the exit code."""
    app.purpose = wish.command
    try:
        report = (planned if wish.dry_run else one_pass)(app, wish.names, expires=wish.expires)
    except RentrollError as failure:
        if not wish.as_json:
            raise
        with_our_flags(app, failure)
        failed = failed_object(failure, name=None, reason="the whole pass failed")
        emit(wish.command, {"dry_run": wish.dry_run, "actions": [failed], "tally": None})
        tell_failure(wish.command, failure)
        return failure.exit_code
    if wish.as_json:
        emit(wish.command, report_object(report, dry_run=wish.dry_run))
    else:
        show(report, dry_run=wish.dry_run)
    tell_failures(report)
    return report.exit_code


def planned(app: "App", names: Sequence[str], *, expires: bool) -> Report:
    """A dry run: what would be done, from the ledger alone. Its exit code is that of an unknown name, else 0."""
    chosen = _choose(app, names)
    around = around_of(app, expires=expires)(chosen.claims)
    actions = plan(chosen.claims, around)
    dones = [Done(action=a, result=NOTHING_DONE[0] if a.action == "none" else "not done: dry run") for a in actions]
    dones += _needing_nothing(chosen, dones, around)
    code = chosen.unknown[0].failure.exit_code if chosen.unknown else 0
    return Report(dones, chosen.unknown, _tally(app, chosen.claims, around, ()), code)


def one_pass(
    app: "App",
    names: Sequence[str],
    *,
    expires: bool,
    waits: bool = False,
    is_ending: Callable[[], bool] = lambda: False,
) -> Report:
    """Does what is to be done now. Raises only what makes the whole pass impossible.

    `waits` honours retry dates; `is_ending` is asked before each lease (`ledger.flows.recover.Pass`).
    """
    chosen = _choose(app, names)
    ask = around_of(app, expires=expires, waits=waits)
    dones: list[Done] = []
    if _is_anything_to_look_at(app, chosen):
        from cli.left_runs import settle_left_runs

        settle_left_runs(app, chosen.claims, expires=expires, is_ending=is_ending)
        wish = Pass(around=ask, token=app.random_token(), only=chosen.only, is_ending=is_ending)
        dones = [_told_in_full(app, done) for done in recover(app.services(told_once(), key_required=False), wish)]
    dones += _needing_nothing(chosen, dones, ask(chosen.claims))
    left, around = _left(app, chosen, ask)
    return Report(dones, chosen.unknown, _tally(app, left, around, dones), _exit_code(chosen, left, around, dones))


def _choose(app: "App", names: Sequence[str]) -> Chosen:
    """The open leases and the suspects; or those that are named, whatever their phase."""
    if not names:
        with app.reader() as reader:
            claims = {
                claim.lease_id: claim for claim in (*reader.suspects(looked_for_since(app.now())), *reader.claims())
            }
        return Chosen(list(claims.values()), None, [])
    named: dict[str, Claim] = {}
    unknown = []
    for name in names:
        try:
            claim = find(app, name)
        except RentrollError as failure:
            unknown.append(Unknown(name, failure))
        else:
            named[claim.lease_id] = claim
    return Chosen(list(named.values()), frozenset(named), unknown)


def _left(app: "App", chosen: Chosen, ask: Callable[[list[Claim]], Around]) -> tuple[list[Claim], Around]:
    """What is open now, and who is at work on it.

    Read once more after it was asked who: whoever gave a lock back in between had finished before.
    """
    before = [claim for claim in _choose(app, ()).claims if chosen.only is None or claim.lease_id in chosen.only]
    around, asked = ask(before), {claim.lease_id for claim in before}
    return [claim for claim in _choose(app, ()).claims if claim.lease_id in asked], around


def _is_anything_to_look_at(app: "App", chosen: Chosen) -> bool:
    """Whether the keys and the provider are needed at all: a box that was released lately may have come back."""
    if chosen.claims or chosen.only is not None:
        return bool(chosen.claims)
    with app.reader() as reader:
        lately = reader.released_since(format_time(after_ms(app.now(), -SUSPECT_MS)))
    spool = Path(app.spool_folder)
    return bool(lately) or (spool.is_dir() and any(spool.iterdir()))


def _told_in_full(app: "App", done: Done) -> Done:
    """The same with the box that was learnt on the way, and a next step that works here."""
    claim = app.register.claim(done.action.lease_id)
    if done.error is not None:
        with_our_flags(app, done.error)
    return done if claim is None else replace(done, action=replace(done.action, instance_id=claim.instance_id))


def _needing_nothing(chosen: Chosen, dones: Sequence[Done], around: Around) -> list[Done]:
    """Of what was named and needs nothing it is said so."""
    if chosen.only is None:
        return []
    seen = {done.action.lease_id for done in dones}
    released = [claim for claim in chosen.claims if claim.lease_id not in seen]
    return [Done(action=judge(claim, around), result=NOTHING_DONE[0]) for claim in released]


def _tally(app: "App", claims: Sequence[Claim], around: Around, dones: Sequence[Done]) -> Tally:
    failed = {done.action.lease_id for done in dones if done.error is not None}
    billable = {claim.lease_id for claim in claims if may_cost(claim, around)}
    with app.reader() as reader:
        others = elsewhere(app, reader.claims())
    return Tally(
        done=sum(done.error is None and done.result not in NOTHING_DONE for done in dones),
        failed=len(failed),
        kept=sum(claim.is_open and claim.lease_id not in failed | billable for claim in claims),
        still_billable=len(billable),
        elsewhere=None if others is None else len(others),
    )


def _exit_code(chosen: Chosen, claims: Sequence[Claim], around: Around, dones: Sequence[Done]) -> int:
    """10 where something that may cost money is left, or work that failed; else that of an unknown name; else 0."""
    failed = {done.action.lease_id for done in dones if done.error is not None}
    for claim in claims:
        if may_cost(claim, around) or (claim.lease_id in failed and judge(claim, around).action != "none"):
            return Differences.exit_code
    return chosen.unknown[0].failure.exit_code if chosen.unknown else 0
