"""`rentroll status LEASE`: one lease, from the ledger alone."""

import time
from datetime import datetime
from typing import TYPE_CHECKING

import click

from cli.app import App
from cli.leases import find
from cli.options import LeaseName, as_json
from cli.render import clock, emit, money, note, say, span, until
from ledger.domain.claim import Claim, accrued, attention, lease_object, moment

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT_LOOK_S = 0.5
DEFAULT_WAIT = "15m"


@click.command(name="status")
@click.argument("lease", type=LeaseName())
@click.option("--refresh", is_flag=True, help="Ask the provider what it shows of the box.")
@click.option("--wait", is_flag=True, help="Wait until it is ready, or can no longer become so.")
@click.option("--timeout", metavar="TIME", default=DEFAULT_WAIT, show_default=True, help="Limit of --wait.")
@click.option("--api-url", metavar="URL", help="Where fal's API is, for --refresh.")
@as_json
@click.pass_obj
def command(app: App, lease: str, refresh: bool, wait: bool, timeout: str, api_url: str | None, as_json: bool) -> None:
    """Show one lease."""
    claim = find(app, lease)
    if wait:
        claim = _wait(app, claim, timeout)
    if refresh:
        from cli.refresh import refreshed

        app.use_flags(fal_api_url=api_url)
        claim = refreshed(app, [claim])[0]
    failed = wait and claim.phase != "ready"
    if as_json and not failed:
        emit("status", lease_object(claim, app.now(), app.keys_root))
    elif not as_json:
        show(claim, app.now())
        app.overdue_told = frozenset((claim.lease_id,))
    if failed:
        from ledger.domain.errors import ProviderFailure

        raise ProviderFailure(f"lease {claim.slug} is {claim.phase} and will not become ready", lease_id=claim.lease_id)


def _wait(app: App, claim: Claim, timeout: str) -> Claim:
    """Looks at the ledger until the lease is ready or ending. Raises `ProviderFailure` when the time is over."""
    from ledger.domain.errors import ProviderFailure
    from ledger.domain.units import parse_duration_ms

    stop_at_s = time.monotonic() + parse_duration_ms(timeout) / 1000
    while claim.phase in ("requested", "in-doubt", "provisioning"):
        if time.monotonic() >= stop_at_s:
            raise ProviderFailure(
                f"lease {claim.slug} is still {claim.phase} after {timeout}",
                next_step=f"rentroll stop {claim.slug}",
                lease_id=claim.lease_id,
            )
        time.sleep(WAIT_LOOK_S)
        claim = find(app, claim.lease_id)
    return claim


def show(claim: Claim, now: datetime) -> None:
    """One fact a line; what is not known is not shown."""
    for name, value in _facts(claim, now):
        if value:
            say(f"{name:<10}{value}")
    wanted = attention(claim, now)
    if wanted:
        note(wanted)


def _facts(claim: Claim, now: datetime) -> "Iterator[tuple[str, str | None]]":
    yield "lease", f"{claim.slug}  {claim.lease_id}"
    yield "phase", f"{claim.phase}{f' ({claim.outcome})' if claim.outcome else ''}"
    yield "box", claim.instance_id and f"{claim.instance_id}  {claim.instance_type}  {claim.region or ''}".rstrip()
    yield "status", claim.provider_status if claim.is_open else None
    yield "ssh", claim.ssh_host and f"{claim.ssh_user}@{claim.ssh_host}:{claim.ssh_port}  {claim.host_key_fingerprint}"
    yield "created", f"{clock(claim.created_at)}  ({span((now - moment(claim.created_at)).total_seconds())} ago)"
    yield (
        "ends",
        None if not claim.is_open else f"{clock(claim.expires_at)}  (in {until(moment(claim.expires_at), now)})",
    )
    yield "released", claim.released_at and clock(claim.released_at)
    yield "keep", claim.keep_until and f"until {clock(claim.keep_until)}: {claim.keep_reason}"
    yield "failed", claim.failure_stage and f"at {claim.failure_stage}: {claim.failure_cause}"
    yield "cost", _cost(claim, now)
    yield "repo", claim.repository


def _cost(claim: Claim, now: datetime) -> str:
    cost = accrued(claim, now)
    if cost is None:
        return "not known" if claim.rate_per_hour else "not known: no rate is set for this type"
    if claim.rate_per_hour is None:
        return money(cost, claim.currency)
    return f"{money(cost, claim.currency)} at {money(claim.rate_per_hour, claim.currency)}/h ({claim.rate_source})"
