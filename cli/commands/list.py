"""`rentroll list`: the open leases, from the ledger alone: instant, without a key, without the network."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from cli.app import App
from cli.options import as_json
from cli.render import emit, money, note, say, short_type, span, table, until
from ledger.domain.claim import Claim, accrued, attention, is_overdue, lease_object, moment

if TYPE_CHECKING:
    from ledger.domain.rows import Head


@click.command(name="list")
@click.option("--all", "include_released", is_flag=True, help="Released leases too.")
@click.option("--as-of", metavar="TIME|POSITION", help="As the ledger stood then.")
@click.option("--refresh", is_flag=True, help="Ask the provider what it shows of each box.")
@click.option("-q", "--quiet", is_flag=True, help="Print lease ids only.")
@click.option("--api-url", metavar="URL", help="Where fal's API is, for --refresh.")
@as_json
@click.pass_obj
def command(
    app: App, include_released: bool, as_of: str | None, refresh: bool, quiet: bool, api_url: str | None, as_json: bool
) -> None:
    """Show the open leases, newest first."""
    if refresh and as_of is not None:
        from ledger.domain.errors import UsageFailure

        raise UsageFailure("--refresh shows the present, --as-of the past", hint="leave one of them out")
    now, position, claims = _claims(app, include_released, as_of)
    if refresh:
        from cli.refresh import refreshed

        app.use_flags(fal_api_url=api_url)
        claims = refreshed(app, claims)
    if quiet:
        for claim in claims:
            say(claim.lease_id)
    elif as_json:
        leases = [lease_object(claim, now, app.keys_root) for claim in claims]
        emit(
            "list",
            {"as_of": _utc(now), "position": position, "leases": leases, "totals": totals(claims, now)},
        )
    else:
        show(claims, now, none="no leases" if include_released else "no open leases")
    is_shown = not (quiet or as_json)
    if as_of is None and (is_shown or not any(is_overdue(claim, now) for claim in claims)):
        app.overdue_told = None  # the ledger is not read a second time where the notes say it, or nothing is overdue


def _claims(app: App, include_released: bool, as_of: str | None) -> tuple[datetime, int, list[Claim]]:
    if as_of is not None:
        from cli.as_of import claims_as_of

        return claims_as_of(app, as_of, include_released=include_released)
    with app.reader() as reader:
        head: Head = reader.head()
        return app.now(), head.position, reader.claims(include_released=include_released)


def _utc(now: datetime) -> str:
    return now.isoformat(timespec="seconds").replace("+00:00", "Z")


def totals(claims: Sequence[Claim], now: datetime) -> dict[str, Any]:
    """Sums over the open leases. A cost that is not known is in no sum: `unpriced` says how many there are.

    Where no cost is known, or they are in several currencies, the sums are null.
    """
    billing = [claim for claim in claims if claim.is_open]
    costs = [(claim, cost) for claim in billing if (cost := accrued(claim, now)) is not None]
    currencies = {claim.currency for claim, _ in costs if claim.currency}
    is_known = len(currencies) <= 1 and (bool(costs) or not billing)
    rates = [claim.rate_per_hour for claim, _ in costs if claim.rate_per_hour and claim.instance_id]
    return {
        "open": len(billing),
        "rate_per_hour": _sum(rates) if is_known else None,
        "accrued": _sum(cost for _, cost in costs) if is_known else None,
        "currency": currencies.pop() if len(currencies) == 1 else None,
        "unpriced": len(billing) - len(costs),
    }


def _sum(amounts: Any) -> str:
    from decimal import Decimal

    return str(sum(map(Decimal, amounts), Decimal("0.00")))


def show(claims: Sequence[Claim], now: datetime, *, none: str) -> None:
    """The table, a line of totals, and what needs a person."""
    if not claims:
        say(none)
        return
    rows = [
        (
            claim.slug,
            claim.outcome or claim.phase,
            short_type(claim.instance_type),
            span((now - moment(claim.created_at)).total_seconds()),
            until(moment(claim.expires_at), now) if claim.is_open else "-",
            money(accrued(claim, now), claim.currency),
        )
        for claim in claims
    ]
    table(("LEASE", "PHASE", "TYPE", "AGE", "LEFT", "COST"), rows)
    sums = totals(claims, now)
    unpriced = f", {sums['unpriced']} of unknown cost" if sums["unpriced"] else ""
    least = " at least" if unpriced and sums["accrued"] is not None else ""
    rate, cost = (money(sums[name], sums["currency"]) for name in ("rate_per_hour", "accrued"))
    say(f"{sums['open']} open at {rate}/h{least}, {cost} so far{least}{unpriced}")
    for claim in claims:
        wanted = attention(claim, now)
        if wanted:
            note(f"{claim.slug}: {wanted}")
