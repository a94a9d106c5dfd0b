"""From flags and settings to one acquisition: what `warmup` and `run` share."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from cli.leases import with_our_flags
from cli.progress import Progress
from cli.render import note
from cli.settings import CURRENCY, RATES
from ledger.domain import events as e
from ledger.domain import names
from ledger.domain.errors import Interrupted, RentrollError, UsageFailure
from ledger.domain.ports import CallFailed
from ledger.domain.state import Lease
from ledger.domain.units import after_ms, parse_duration_ms, parse_money, parse_time
from ledger.flows.acquire import Wanted, acquire
from ledger.flows.give_back import give_back
from ledger.flows.phases import Phases
from ledger.flows.ready import ADDRESS
from ledger.flows.services import Stage
from providers import registry

if TYPE_CHECKING:
    from cli.app import App
    from ledger.domain.ports import LeaseLock

RUN = "run"
"""The purpose of a lease that ends with the run that made it."""
TOO_MANY_REQUESTS = 429
RETRY_S = 15
NEXT_PART = {"bound": "boot", ADDRESS: "ssh", "ready": None}
"""What an acquisition is at after each of these stages."""


class Ask(Struct, frozen=True, kw_only=True):
    """The flags of `warmup` and `run`, as text."""

    provider: str
    instance_type: str | None
    sector: str | None
    user: str | None
    work_root: str | None
    slug: str | None
    ttl: str | None
    idle_timeout: str | None
    keep: bool
    keep_until: str | None
    reason: str | None
    max_cost: str | None
    timeout: str
    wait: str | None
    api_url: str | None


def ask_of(flags: Mapping[str, Any]) -> Ask:
    """Picks the lease's flags out of a command's."""
    return Ask(**{name: flags[name] for name in Ask.__struct_fields__})


def wanted(app: "App", ask: Ask, *, purpose: str) -> Wanted:
    """Judges flags and settings before anything is made. Raises `UsageFailure`."""
    if ask.max_cost is not None:
        raise UsageFailure("--max-cost is not built yet", hint="it comes with a later release; nothing was leased")
    registry.canonical_name(ask.provider)
    if ask.wait is not None:
        parse_duration_ms(ask.wait)
    app.use_flags(
        fal_api_url=ask.api_url,
        fal_instance_type=ask.instance_type,
        fal_user=ask.user,
        fal_work_root=ask.work_root,
        ttl=ask.ttl,
        idle_timeout=ask.idle_timeout,
    )
    settings = app.valid_settings
    instance_type = registry.require_type(settings["fal.instance_type"].value)
    lease_id = app.new_lease_id()
    slug = names.normalise_slug(ask.slug) if ask.slug is not None else names.generated_slug(lease_id)
    return Wanted(
        lease_id=lease_id,
        slug=slug,
        slug_is_explicit=ask.slug is not None,
        instance_type=instance_type,
        sector=_sector(app, ask, instance_type),
        ttl_ms=parse_duration_ms(settings["ttl"].value),
        idle_timeout_ms=parse_duration_ms(settings["idle_timeout"].value),
        keep=_keep(app, ask),
        timeout_ms=parse_duration_ms(ask.timeout),
        purpose=purpose,
        acquirer=app.random_token(),
        rate=rate_of(app, instance_type),
        repository=app.repository,
        ssh_user=settings["fal.user"].value,
        ssh_port=int(settings["fal.ssh_port"].value),
        work_root=settings["fal.work_root"].value.rstrip("/"),
    )


def rate_of(app: "App", instance_type: str) -> e.Rate | None:
    """The configured rate of a type; fal publishes none, so there may be none."""
    setting = app.settings.get(f"{RATES}{instance_type}")
    if setting is None:
        return None
    return e.Rate(per_hour=parse_money(setting.value), currency=CURRENCY, source=f"settings: {setting.source}")


class Leasing:
    """One wish for a box. The lease that it comes to is known before anything is made, so that it can be undone.

    A lease for the purpose `run` ends with its client: others see that it lives by a lock, from before anything is
    made until `leave`, or until the process ends however it ends.
    """

    def __init__(self, app: "App", ask: Ask, *, purpose: str, phases: Phases | None = None) -> None:
        self.want = wanted(app, ask, purpose=purpose)
        self._phases = phases or Phases(time.monotonic)
        self._app = app
        self._ask = ask
        self._client: LeaseLock | None = None

    def leave(self) -> None:
        """Nobody here wants the lease any more: it is given back, or it is somebody's whom a policy named."""
        client, self._client = self._client, None
        if client is not None:
            client.release()

    def hand_over(self, lease: Lease, reason: str) -> None:
        """Appends that a ready lease ends with no run any more, and why; from then on it is a person's."""
        if lease.purpose != RUN:
            return
        fact = e.ClaimMoved(repository=lease.repository, host=self._app.host, reason=reason)
        try:
            self._app.book.record(lease.lease_id, fact)
        except RentrollError as failure:
            note(f"{lease.slug}: that it stays could not be recorded, so `recover` gives it back: {failure.message}")

    def _attend(self) -> None:
        self.leave()
        if self.want.purpose == RUN:
            client = self._app.client_lock(self.want.lease_id)
            client.acquire(timeout_s=0)
            self._client = client

    def acquire(self) -> Lease:
        """Acquires with progress; under `--wait`, tries again as a new lease while fal asks to come back later."""
        app, ask = self._app, self._ask
        rate = self.want.rate.per_hour if self.want.rate else None
        patience_ms = parse_duration_ms(ask.wait) if ask.wait is not None else 0
        give_up_at = after_ms(app.now(), patience_ms)
        with Progress(app, rate_per_hour=rate) as progress, _phased(progress.tell, self._phases) as tell:
            services = app.services(tell, ask.provider)
            while True:
                self._attend()
                try:
                    return acquire(services, self.want)
                except RentrollError as failure:
                    pause_s = failure.retry_after_s or RETRY_S
                    later = after_ms(app.now(), pause_s * 1000)
                    asked_back = isinstance(failure, CallFailed) and failure.status == TOO_MANY_REQUESTS
                    if not asked_back or later > give_up_at:
                        with_our_flags(app, failure)
                        raise
                    note(f"fal asks to come back: trying again as a new lease in {pause_s} s")
                    services.clock.sleep(pause_s)
                    self.want = wanted(app, ask, purpose=self.want.purpose)

    def undo(self, late: Interrupted | RentrollError) -> None:
        """Gives a box back that became ready but that nobody was told of; raises `late` with what that has left."""
        if isinstance(late, Interrupted) and late.left is not None:
            return  # it came while the box was made: the acquisition itself has undone what there was
        with Progress(self._app) as progress:
            services = self._app.services(progress.tell, self._ask.provider)
            give_back(services, self.want.lease_id, late, keep=self.want.keep, acquirer=self.want.acquirer)


@contextmanager
def _phased(tell: Callable[[Stage], None], phases: Phases) -> Iterator[Callable[[Stage], None]]:
    """A teller that takes the lengths of an acquisition's parts: the create, the boot, the wait for SSH."""
    part: str | None = "lease"
    began_s = time.monotonic()

    def end() -> None:
        nonlocal began_s
        if part is not None:
            phases.add(part, time.monotonic() - began_s)
        began_s = time.monotonic()

    def heard(stage: Stage) -> None:
        nonlocal part
        if stage.name in NEXT_PART:
            end()
            part = NEXT_PART[stage.name]
        if stage.name != ADDRESS:
            tell(stage)

    try:
        yield heard
    finally:
        end()


def _sector(app: "App", ask: Ask, instance_type: str) -> str | None:
    if ask.sector is not None:
        sector = registry.require_sector(ask.sector.strip())
        if not registry.takes_sector(instance_type):
            raise UsageFailure(
                f"--sector is only valid with the 8x type, not {instance_type}",
                hint="leave it out, or say --type gpu_8x_h100_sxm5",
            )
        return sector
    setting = app.settings["fal.sector"]
    if not setting.value:
        return None
    if not registry.takes_sector(instance_type):
        note(f"the sector of {setting.origin} is ignored: {instance_type} takes none")
        return None
    return registry.require_sector(setting.value)


def _keep(app: "App", ask: Ask) -> e.Keep | None:
    flag = "--keep-until" if ask.keep_until is not None else "--keep"
    if not ask.keep and ask.keep_until is None:
        if ask.reason is not None:
            raise UsageFailure("--reason goes with --keep or --keep-until")
        return None
    if ask.reason is None or not ask.reason.strip():
        raise UsageFailure(f"{flag} needs --reason", hint="say why the box must outlive its time")
    until = moment_or_duration(app, ask.keep_until) if ask.keep_until is not None else _end_of_ttl(app)
    return e.Keep(until=until, reason=ask.reason.strip())


def _end_of_ttl(app: "App") -> Any:
    """How long `--keep` alone keeps."""
    from ledger.domain.windows import KEEP_MAX_MS

    ttl = app.settings["ttl"]
    ttl_ms = parse_duration_ms(ttl.value)
    if ttl_ms > KEEP_MAX_MS:
        raise UsageFailure(
            f"--keep keeps for the TTL, but at most seven days: {ttl.value!r} of {ttl.origin}",
            hint="give --keep-until, or a shorter --ttl",
        )
    return after_ms(app.now(), ttl_ms)


def moment_or_duration(app: "App", text: str) -> Any:
    """A future time, at most seven days ahead, from a time or a duration. Raises `UsageFailure`."""
    from ledger.domain.windows import KEEP_MAX_MS

    now = app.now()
    moment = parse_time(text) if "T" in text or "-" in text else after_ms(now, parse_duration_ms(text))
    if not now < moment <= after_ms(now, KEEP_MAX_MS):
        raise UsageFailure(f"--keep-until is in the future, at most seven days ahead: {text!r}")
    return moment


def worst_case(want: Wanted, now: Any) -> Decimal | None:
    """What the lease can cost at most if somebody enforces its end; None without a rate."""
    from ledger.domain.money import cost_of
    from ledger.domain.units import milliseconds_between

    if want.rate is None:
        return None
    longest_ms = max(want.ttl_ms, milliseconds_between(now, want.keep.until) if want.keep else 0)
    return cost_of(want.rate.per_hour, longest_ms)
