"""`rentroll touch LEASE`: a sign of life, or new limits. It asks no provider."""

import click

from cli.app import App
from cli.leases import find
from cli.options import LeaseName, as_json
from cli.render import clock, emit, say
from ledger.domain import events as e
from ledger.domain.claim import lease_object
from ledger.domain.errors import UsageFailure
from ledger.domain.units import parse_duration_ms


@click.command(name="touch")
@click.argument("lease", type=LeaseName())
@click.option("--ttl", metavar="TIME", help="A new limit, counted from when it was created.")
@click.option("--idle-timeout", metavar="TIME", help="A new idle limit.")
@click.option("--keep-until", metavar="TIME", help="Keep it until a time or for a duration; needs --reason.")
@click.option("--reason", metavar="TEXT", help="Why it is kept.")
@as_json
@click.pass_obj
def command(
    app: App,
    lease: str,
    ttl: str | None,
    idle_timeout: str | None,
    keep_until: str | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Renew a lease's idle time, or change its limits."""
    facts: list[e.LeaseEvent] = [
        e.Touched(
            cause="touch",
            ttl_ms=None if ttl is None else parse_duration_ms(ttl),
            idle_timeout_ms=None if idle_timeout is None else parse_duration_ms(idle_timeout),
        )
    ]
    if keep_until is not None:
        facts.append(_keep(app, keep_until, reason))
    elif reason is not None:
        raise UsageFailure("--reason goes with --keep-until")
    claim = find(app, lease)
    app.book.record(claim.lease_id, *facts)
    claim = app.book.claim(claim.lease_id)
    if as_json:
        emit("touch", lease_object(claim, app.now(), app.keys_root))
    else:
        say(f"{claim.slug} ends at {clock(claim.expires_at)}")


def _keep(app: App, keep_until: str, reason: str | None) -> e.KeepGranted:
    from cli.leasing import moment_or_duration

    if reason is None or not reason.strip():
        raise UsageFailure("--keep-until needs --reason", hint="say why the box must outlive its time")
    return e.KeepGranted(keep=e.Keep(until=moment_or_duration(app, keep_until), reason=reason.strip()), cause="user")
