"""`rentroll warmup`: leases a box and waits until it is ready."""

import contextlib
import sys
import textwrap
from typing import Any

import click

from cli.app import App
from cli.leasing import Leasing, ask_of, worst_case
from cli.options import as_json, endpoint, lease_limits
from cli.outcome import told
from cli.render import WIDTH, emit, money, note, say, short_type
from cli.watched import who_stops
from ledger.domain.claim import Claim, json_seconds, lease_object, short_time
from ledger.domain.errors import Interrupted, RentrollError, UsageFailure
from ledger.domain.state import Lease
from ledger.domain.units import format_duration, format_time
from ledger.flows.acquire import Wanted
from ledger.flows.places import endpoint_of


@click.command(name="warmup")
@lease_limits
@endpoint
@click.option("--dry-run", is_flag=True, help="Show the request, the limits and the worst-case cost; lease nothing.")
@as_json
@click.pass_obj
def command(app: App, /, dry_run: bool, as_json: bool, **flags: Any) -> None:
    """Lease a box and wait until it is ready."""
    leasing = Leasing(app, ask_of(flags), purpose="warmup")
    if dry_run:
        _show_plan(app, leasing.want, as_json=as_json)
        return
    try:
        lease = leasing.acquire()
        _report(app, app.book.claim(lease.lease_id), as_json=as_json)
        sys.stdout.flush()
        app.interrupts.stop_command = None  # from here on the box is somebody's: no signal gives it back
    except Interrupted as late:
        leasing.undo(late)
        raise
    except OSError as unheard:  # nobody was told of the box (RBK-17)
        why = unheard.strerror or str(unheard)
        leasing.undo(UsageFailure(f"the lease could not be told: {why.lower()}", hint="nothing was kept but the log"))
    else:
        _warm(app, lease)


def _warm(app: App, lease: Lease) -> None:
    """Leaves a connection open for the next command. A courtesy: the lease was told, and nothing here undoes that."""
    with contextlib.suppress(RentrollError, OSError, Interrupted):
        app.services(told, with_provider=False).box.warm(endpoint_of(lease))


def _report(app: App, claim: Claim, *, as_json: bool) -> None:
    stops = who_stops(app, claim, app.now())
    if as_json:
        emit("warmup", lease_object(claim, app.now(), app.keys_root))
        note(stops)
        return
    say(f"{claim.slug} is ready: {claim.ssh_user}@{claim.ssh_host}:{claim.ssh_port} ({claim.instance_id})")
    for row in textwrap.wrap(stops, WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False):
        say(row)
    say(f"  {app.stop_command(claim.slug)}")


def _show_plan(app: App, want: Wanted, *, as_json: bool) -> None:
    cost = worst_case(want, app.now())
    plan: dict[str, Any] = {
        "provider": "fal",
        "api_url": app.settings["fal.api_url"].value,
        "request": {"instance_type": want.instance_type, "sector": want.sector, "ssh_key": "made for this lease"},
        "slug": want.slug,
        "ttl_seconds": json_seconds(want.ttl_ms),
        "idle_timeout_seconds": json_seconds(want.idle_timeout_ms),
        "timeout_seconds": json_seconds(want.timeout_ms),
        "keep": {"until": short_time(format_time(want.keep.until)), "reason": want.keep.reason} if want.keep else None,
        "worst_case_cost": None if cost is None else str(cost),
        "currency": want.rate.currency if want.rate else None,
    }
    if as_json:
        emit("warmup-plan", plan)
        return
    say(f"would lease {short_type(want.instance_type)} {want.sector or ''}".rstrip() + f" as {want.slug}")
    say(f"  for {format_duration(want.ttl_ms)} at most, {format_duration(want.idle_timeout_ms)} idle")
    say(
        f"  at most {money(plan['worst_case_cost'], plan['currency'])}"
        if cost
        else "  at an unknown cost: no rate is set"
    )
