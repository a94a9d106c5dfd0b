"""`rentroll live-smoke`: the guarded proof against the real fal. Off unless RENTROLL_LIVE=1; it costs money."""

import os
import threading
from decimal import Decimal
from queue import Empty, SimpleQueue

import click
from msgspec.structs import replace

from cli.app import App
from cli.leasing import Ask, wanted, worst_case
from cli.options import as_json, endpoint
from cli.progress import Progress
from cli.render import note
from cli.settings import DEFAULTS
from cli.smoke_report import NAME, Outcome, Target, note_step, safe, show
from cli.watched import watched
from ledger.domain.errors import RentrollError, SshFailure
from ledger.domain.ports import Box, Endpoint, RemoteCommand, RemoteExit
from ledger.domain.smoke import NotFit, ending_of
from ledger.domain.state import Lease
from ledger.domain.units import parse_duration_ms, parse_money
from ledger.flows.acquire import Wanted
from ledger.flows.services import Services
from ledger.flows.smoke import Smoke, Told, smoke

ENABLED_BY = "RENTROLL_LIVE"
TTL, IDLE_TIMEOUT = "20m", "5m"
"""What bounds the money if this process and its cleanup die: `watch` ends the lease by then."""
COMMAND_S = 60.0


@click.command(name="live-smoke")
@click.option("--type", "instance_type", metavar="TYPE", help="The instance type.")
@click.option("--max-cost", metavar="USD", default="5", show_default=True, help="What the lease may cost at most.")
@click.option("--timeout", metavar="TIME", default="15m", show_default=True, help="Limit until the box is ready.")
@click.option("--against-emulator", is_flag=True, help="Rehearse on this machine's emulator: proves nothing of fal.")
@endpoint
@as_json
@click.pass_obj
def command(
    app: App,
    instance_type: str | None,
    max_cost: str,
    timeout: str,
    against_emulator: bool,
    api_url: str | None,
    as_json: bool,
) -> int:
    """Lease a real box, run a command on it, give it back, and prove that nothing is left.

    Off unless RENTROLL_LIVE=1, since it costs money: at most --max-cost by the configured rate of the type. What is
    blocked (environment, capacity, billing) proves nothing and ends with 0; the last line is the classification.
    """
    app.purpose = NAME
    app.use_flags(fal_api_url=api_url, fal_instance_type=instance_type)
    limit = parse_money(max_cost)
    parse_duration_ms(timeout)
    target: Target | None = None
    want: Wanted | None = None
    try:
        _require_enabled()
        target = _target(app, against_emulator=against_emulator)
        _require_key(app)
        want = wanted(app, _ask(app, instance_type, api_url, timeout), purpose=NAME)
        _require_affordable(app, want, limit)
    except NotFit as unfit:
        told = _nothing_done(unfit, want.lease_id if want else "")
    else:
        told = _carry_out(app, want, target)
    ending = ending_of(told.failure, told.left, told.lease, balance=told.balance)
    outcome = Outcome(ending=ending, told=told, target=target, want=want, max_cost=limit)
    show(app, outcome, as_json=as_json)
    return ending.exit_code


def _require_enabled() -> None:
    if os.environ.get(ENABLED_BY) != "1":
        raise NotFit("not-enabled", "the live smoke costs money, and is off", hint=f"set {ENABLED_BY}=1 to allow it")


def _target(app: App, *, against_emulator: bool) -> Target:
    """The endpoint, where it is one that this smoke may go to."""
    from providers.fal.endpoint import endpoint_scope, parse_endpoint

    url = app.settings["fal.api_url"]
    scope = endpoint_scope(url.value)
    is_live = scope == endpoint_scope(DEFAULTS["fal.api_url"])
    if not against_emulator and not is_live:
        raise NotFit(
            "other-endpoint",
            f"the API's URL is not fal's own (from {url.origin})",
            hint="leave fal.api_url out; --against-emulator rehearses on this machine",
        )
    if against_emulator and not parse_endpoint(url.value).loopback:
        raise NotFit(
            "no-emulator",
            f"the API's URL is not this machine's (from {url.origin})",
            hint="`rentroll emulator serve` starts one",
        )
    return Target(scope=scope, is_live=is_live)


def _require_key(app: App) -> None:
    if app.api_key() is None:
        raise NotFit("key-missing", "no API key is set in the environment", hint="set RENTROLL_FAL_KEY")


def _require_affordable(app: App, want: Wanted, limit: Decimal) -> None:
    """Without a rate nobody can say what it may cost, so it does not begin."""
    worst = worst_case(want, app.now())
    if worst is None:
        raise NotFit("rate-missing", f"no rate is set for {want.instance_type}", hint=f"set rates.{want.instance_type}")
    if worst > limit:
        raise NotFit(
            "max-cost",
            f"{TTL} of {want.instance_type} may cost ${worst}, more than the ${limit} allowed",
            hint="raise --max-cost or choose another --type",
        )


def _ask(app: App, instance_type: str | None, api_url: str | None, timeout: str) -> Ask:
    """A box of its own under a name of its own, kept for nobody."""
    return Ask(
        provider="fal",
        instance_type=instance_type,
        sector=None,
        user=None,
        work_root=None,
        slug=f"{NAME}-{app.now():%Y%m%d-%H%M%S}-{app.random_token()[:4]}",
        ttl=TTL,
        idle_timeout=IDLE_TIMEOUT,
        keep=False,
        keep_until=None,
        reason=None,
        max_cost=None,
        timeout=timeout,
        wait=None,
        api_url=api_url,
    )


def _carry_out(app: App, want: Wanted, target: Target) -> Told:
    with Progress(app, rate_per_hour=want.rate.per_hour if want.rate else None) as progress:
        try:
            services = app.services(progress.tell)
            _require_same_endpoint(services, target)
        except RentrollError as failure:
            return _nothing_done(failure, want.lease_id)
        found = watched(app, app.now())
        alone = f": should this process die, the box bills until somebody types `{app.command_line('cleanup')}`"
        note(safe(f"{found.sentence}{'' if found.is_so else alone}"))
        wish = Smoke(wanted=want, run_id=app.new_run_id(), token=app.random_token(), on_step=note_step)
        return smoke(replace(services, box=_LimitedBox(services.box)), wish)


def _require_same_endpoint(services: Services, target: Target) -> None:
    """The guards judged one endpoint: what the client was made for is compared with it once more, since it costs."""
    if services.provider.scope != target.scope:
        raise NotFit("other-endpoint", f"the client was made for {services.provider.scope}, not for {target.scope}")


def _nothing_done(failure: RentrollError, lease_id: str) -> Told:
    return Told(steps=(), failure=failure, left=(), lease=Lease(lease_id=lease_id), balance=None)


class _LimitedBox:
    """A box whose commands have `COMMAND_S` seconds: a smoke ends. The connection of a late one goes with the box."""

    def __init__(self, box: Box) -> None:
        self.check = box.check
        self.probe = box.probe
        self.open, self.attach, self.runs, self.stop_run = box.open, box.attach, box.runs, box.stop_run
        self.warm = box.warm
        self._box = box

    def run(self, endpoint: Endpoint, command: RemoteCommand) -> RemoteExit:
        ended: SimpleQueue[RemoteExit | BaseException] = SimpleQueue()

        def work() -> None:
            try:
                ended.put(self._box.run(endpoint, command))
            except BaseException as failure:  # noqa: BLE001 - raised again where it is waited for
                ended.put(failure)

        threading.Thread(target=work, daemon=True).start()
        try:
            result = ended.get(timeout=COMMAND_S)
        except Empty:
            raise SshFailure(f"the command did not end within {COMMAND_S:g} s", stage="session") from None
        if isinstance(result, BaseException):
            raise result
        return result
