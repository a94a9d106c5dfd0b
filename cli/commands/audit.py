"""`rentroll audit`: what the account has against what the ledger says, both ways; for people, cron and CI."""

from typing import TYPE_CHECKING, Any

import click
from msgspec import to_builtins

from cli.app import App
from cli.options import as_json, endpoint
from cli.render import clock, emit, money, note, say, span, table
from ledger.domain.claim import moment
from ledger.domain.errors import Differences

if TYPE_CHECKING:
    from collections.abc import Callable

    from ledger.domain.audited import Audit, Foreign, InDoubt, Overdue, Owned

Row = tuple[str, str, str, str]
UNTRIED = "not tried yet"


@click.command(name="audit")
@click.option("--allow-foreign", is_flag=True, help="Boxes that this ledger did not lease are no difference.")
@endpoint
@as_json
@click.pass_obj
def command(app: App, allow_foreign: bool, api_url: str | None, as_json: bool) -> int:
    """Compare what the account has with what the ledger says.

    One complete inventory is read and kept in the ledger as evidence; nothing else is changed. Ends with 10 where
    anything is not an open lease's box inside its time.
    """
    from cli.around import around_of
    from ledger.flows.observe import record
    from ledger.reports.audit import audit

    app.use_flags(fal_api_url=api_url)
    app.purpose = "audit"
    with app.provider() as provider:
        inventory = provider.inventory()  # before a ledger is made: nothing is, where the account cannot be asked
    position = record(app.services(lambda _stage: None), inventory)
    found = audit(app.register, position, around_of(app, expires=True))
    differences = found.differences(allow_foreign=allow_foreign)
    if as_json:
        emit("audit", {**to_builtins(found), "complete": True, "differences": differences})
    else:
        _show(found, differences)
    return Differences.exit_code if differences else 0


def _show(found: "Audit", differences: int) -> None:
    rows = _rows(found)
    if rows:
        table(("STATE", "LEASE", "INSTANCE", "DETAIL"), rows)
    listed = len(found.owned) + len(found.overdue) + len(found.returned) + len(found.foreign) + _candidates(found)
    told = "as it should be" if not differences else _counted(differences, "difference")
    say(f"{listed} listed, {_counted(_open(found), 'open lease')} at {clock(found.begun_at)}: {told}")
    for advice in _advice(found):
        note(advice)


def _rows(found: "Audit") -> list[Row]:
    now = moment(found.as_of)

    def ago(time: str) -> str:
        return span(max(0.0, (now - moment(time)).total_seconds()))

    def cost(late: "Overdue") -> str:
        return f"{ago(late.expires_at)} past its end, {money(late.accrued, late.currency)} so far"

    return [
        *(("owned", held.slug, held.instance_id or "-", _told_of_owned(held)) for held in found.owned),
        *(("overdue", late.slug, late.instance_id or "-", cost(late)) for late in found.overdue),
        *(
            ("gone", gone.slug, gone.instance_id or "-", f"last seen {ago(gone.last_seen_at or found.as_of)} ago")
            for gone in found.gone
        ),
        *(("returned", b.slug, b.instance_id, f"was released {ago(b.released_at)} ago") for b in found.returned),
        *(row for doubt in found.in_doubt for row in _doubt_rows(doubt)),
        *(("foreign", "-", box.instance_id, _told_of_foreign(box, ago)) for box in found.foreign),
        *(
            ("elsewhere", other.slug, other.instance_id or "-", f"of another {other.differs}, {other.phase}")
            for other in found.elsewhere
        ),
        *(("unsent", lease.slug, "-", lease.reason) for lease in found.unsent),
    ]


def _told_of_owned(held: "Owned") -> str:
    return f"{held.reason}{', made with another key' if held.is_other_key else ''}"


def _doubt_rows(doubt: "InDoubt") -> list[Row]:
    if not doubt.candidates:
        return [("in doubt", doubt.slug, "-", "no listed box could be its own")]
    return [
        ("in doubt", doubt.slug, f"{box.instance_id}?", f"its key: {box.verdict or UNTRIED}")
        for box in doubt.candidates
    ]


def _told_of_foreign(box: "Foreign", ago: "Callable[[str], str]") -> str:
    """Whose it is, and how long it has been there: at least, and where an earlier inventory tells, at most."""
    by = f"by {box.creator}, " if box.creator else ""
    at_most = f" to {ago(box.absent_at)}" if box.absent_at else " or longer"
    return f"{by}up {ago(box.first_seen_at)}{at_most}"


def _candidates(found: "Audit") -> int:
    return len({box.instance_id for doubt in found.in_doubt for box in doubt.candidates})


def _open(found: "Audit") -> int:
    places: list[Any] = [found.owned, found.overdue, found.gone, found.in_doubt, found.elsewhere, found.unsent]
    return sum(map(len, places))


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _advice(found: "Audit") -> list[str]:
    """What a person types about each kind of difference."""
    told = []
    if found.gone or found.in_doubt or any(lease.is_difference for lease in (*found.owned, *found.unsent)):
        told.append("gone, in doubt or unfinished: `rentroll recover` looks closer, and goes on where it can")
    if found.returned:
        told.append("returned: `rentroll recover` opens their leases again and deletes them")
    if any(box.could_be_of for box in found.foreign):
        told.append("foreign, but perhaps ours: `rentroll recover` offers them the keys of leases that ended unproven")
    if found.elsewhere:
        leases = _counted(len(found.elsewhere), "open lease")
        told.append(f"elsewhere: {leases} of another key or endpoint: look with that one")
    return told
