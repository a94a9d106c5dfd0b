"""`rentroll stop LEASE…`: gives boxes back and proves it."""

from typing import Any

import click

from cli.app import App
from cli.failures import error_object, tell_failure
from cli.leases import find, find_or_only, with_our_flags
from cli.options import LeaseName, as_json, endpoint
from cli.progress import Progress
from cli.render import emit, say
from ledger.domain.claim import Claim
from ledger.domain.errors import NotFound, RentrollError, UsageFailure
from ledger.domain.units import parse_duration_ms


@click.command(name="stop")
@click.argument("leases", nargs=-1, type=LeaseName(), metavar="[LEASE]...")
@click.option("--all", "every", is_flag=True, help="Every open lease of this ledger.")
@click.option("--reason", metavar="TEXT", default="stop", help="Why, for the log.")
@click.option("--timeout", metavar="TIME", default="60s", show_default=True, help="Limit for each lease.")
@endpoint
@as_json
@click.pass_obj
def command(
    app: App, leases: tuple[str, ...], every: bool, reason: str, timeout: str, api_url: str | None, as_json: bool
) -> int:
    """Delete the box, confirm that it is gone, release the lease.

    Without LEASE it is the only open lease of this repository.
    """
    timeout_s = parse_duration_ms(timeout) / 1000
    app.use_flags(fal_api_url=api_url)
    if every and leases:
        raise UsageFailure("name leases or use --all, not both")
    actions: list[dict[str, Any]] = []
    code = 0
    names: list[str | None] = [claim.lease_id for claim in _open(app)] if every else [*dict.fromkeys(leases)] or [None]
    for name in names:
        action, failed = _stop_one(app, name, reason, timeout_s, alone=len(names) == 1 and not as_json)
        actions.append(action)
        if not failed and not as_json:
            say(_told(action))
        code = code or failed
    if not names and not as_json:
        say("no open leases")
    if as_json:
        emit("stop", {"dry_run": False, "actions": actions})
    return code


def _told(action: dict[str, Any]) -> str:
    if action["action"] == "none":
        return f"{action['slug']} {action['lease_id']} was released before; nothing was done"
    gone = f": {action['instance_id']} is gone" if action["instance_id"] else ""
    return f"{action['slug']} is released ({action['result']}){gone}"


def _open(app: App) -> list[Claim]:
    with app.reader() as reader:
        return reader.claims()


def _stop_one(app: App, name: str | None, reason: str, timeout_s: float, *, alone: bool) -> tuple[dict[str, Any], int]:
    claim: Claim | None = None
    try:
        claim = _target(app, name)
        if not claim.is_open:
            return _action(claim, "none", reason, "released"), 0
        lease = _give_back(app, claim, reason, timeout_s)
    except RentrollError as failure:
        with_our_flags(app, failure)
        if alone:
            raise
        tell_failure(claim.slug if claim else name or "stop", failure)
        return _action(claim, "stop", reason, "failed", failure, name), failure.exit_code
    return _action(app.book.claim(claim.lease_id), "stop", reason, str(lease.outcome)), 0


def _target(app: App, name: str | None) -> Claim:
    """The lease that is meant; a released one only by its id or its box: its slug is free again."""
    claim = find(app, name) if name is not None else find_or_only(app, None)
    if not claim.is_open and name is not None and name.strip() not in (claim.lease_id, claim.instance_id):
        raise NotFound(f"no open lease {name.strip()!r} in this ledger", next_step="rentroll list --all")
    return claim


def _give_back(app: App, claim: Claim, reason: str, timeout_s: float) -> Any:
    from ledger.flows.stop import Stop, stop

    with Progress(app) as progress:
        services = app.services(progress.tell, key_required=False)
        return stop(
            services,
            Stop(lease_id=claim.lease_id, reason=reason, token=app.random_token(), timeout_s=timeout_s),
        )


def _action(
    claim: Claim | None,
    action: str,
    reason: str,
    result: str,
    failure: RentrollError | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    done: dict[str, Any] = {
        "lease_id": claim.lease_id if claim else None,
        "slug": claim.slug if claim else name,
        "instance_id": claim.instance_id if claim else None,
        "action": action,
        "reason": reason,
        "result": result,
    }
    if failure is not None:
        done["error"] = error_object(failure)["error"]
    return done
