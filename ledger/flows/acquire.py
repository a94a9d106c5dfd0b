"""Leasing a box, told top to bottom: key, pre-flight, intent, create, bind, wait, ready; or back the way we came."""

from datetime import datetime
from typing import NoReturn

from msgspec import Struct

from ledger.domain import events as e
from ledger.domain.credentials import request_digest
from ledger.domain.errors import Interrupted, ProviderFailure, RentrollError
from ledger.domain.ports import CallFailed, LeaseLock
from ledger.domain.state import Lease
from ledger.domain.units import after_ms
from ledger.flows.create import create_box
from ledger.flows.give_back import give_back
from ledger.flows.ready import wait_until_ready
from ledger.flows.search import search
from ledger.flows.services import Services, Stage
from ledger.flows.waiting import CALL_TIMEOUT_S, time_left_s

DEADLINE_MARGIN_MS = 120_000
"""An acquire's own deadline is its time limit and two minutes."""
CLOCK_SKEW_MAX_S = 60


class Wanted(Struct, frozen=True, kw_only=True):
    """What somebody wants to lease. `acquirer` is this process's random token; `timeout_ms` bounds the acquisition."""

    lease_id: str
    slug: str
    slug_is_explicit: bool
    instance_type: str
    sector: str | None
    ttl_ms: int
    idle_timeout_ms: int
    keep: e.Keep | None
    timeout_ms: int
    purpose: str
    acquirer: str
    rate: e.Rate | None
    repository: e.Repository | None
    ssh_user: str
    ssh_port: int
    work_root: str


def acquire(services: Services, wanted: Wanted) -> Lease:
    """Leases one box and waits until it is ready.

    Raises `InDoubt` where the create's outcome is unknown (the claim stays open), `ProviderFailure` or `SshFailure`
    where the box did not become ready (it was rolled back, or kept where `wanted.keep` says so), and whatever
    refused it before anything was made.
    """
    lock = services.locks(wanted.lease_id)
    lock.acquire(timeout_s=0)
    try:
        try:
            return _lease(services, wanted, lock)
        except (Exception, Interrupted) as failure:  # noqa: BLE001 - not even a bug of ours may leave a box behind
            _give_back(services, wanted, failure)
    except Interrupted as late:
        # It came in the instant before the give-back was shielded: there is no other one to lose.
        if late.left is None:
            _give_back(services, wanted, late)
        raise
    finally:
        lock.release()


def _give_back(services: Services, wanted: Wanted, failure: Exception | Interrupted) -> NoReturn:
    give_back(services, wanted.lease_id, failure, keep=wanted.keep, acquirer=wanted.acquirer)


def _lease(services: Services, wanted: Wanted, lock: LeaseLock) -> Lease:
    stop_at_s = services.clock.monotonic_s() + wanted.timeout_ms / 1000
    lease = _request(services, wanted, stop_at_s)
    create_box(services, lease, lock, stop_at_s=stop_at_s)
    ready = wait_until_ready(services, lease.lease_id, stop_at_s=stop_at_s)
    if ready.is_suspect:
        _look_for_a_second_box(services, ready)
    return ready


def _look_for_a_second_box(services: Services, lease: Lease) -> None:
    """After several attempts there may be one (W-14); `recover` and `watch` go on looking."""
    try:
        search(services, lease.lease_id)
    except RentrollError as failure:
        services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name="not searched", detail=str(failure)))


def _request(services: Services, wanted: Wanted, stop_at_s: float) -> Lease:
    """Key, pre-flight and intent."""
    public_key = services.keys.make(wanted.lease_id)
    ids_before, account_name = _preflight(services, stop_at_s)
    deadline = after_ms(services.clock.now(), wanted.timeout_ms + DEADLINE_MARGIN_MS)

    def intent(slug: str) -> e.CreateRequested:
        return e.CreateRequested(
            provider=services.provider.name,
            scope=services.provider.scope,
            slug=slug,
            instance_type=wanted.instance_type,
            sector=wanted.sector,
            public_key=public_key,
            request_digest=request_digest(wanted.instance_type, wanted.sector, public_key),
            credential_binding=services.credential_binding,
            account_name=account_name,
            ids_before=ids_before,
            ssh_user=wanted.ssh_user,
            ssh_port=wanted.ssh_port,
            work_root=wanted.work_root,
            ttl_ms=wanted.ttl_ms,
            idle_timeout_ms=wanted.idle_timeout_ms,
            keep=wanted.keep,
            acquirer=wanted.acquirer,
            deadline=deadline,
            host=services.host,
            pid=services.pid,
            purpose=wanted.purpose,
            rate=wanted.rate,
            repository=wanted.repository,
        )

    lease = services.book.request(wanted.lease_id, wanted.slug, intent, slug_is_explicit=wanted.slug_is_explicit)
    services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name="requested", detail=_in_words(services, wanted)))
    return lease


def _preflight(services: Services, stop_at_s: float) -> tuple[tuple[str, ...], str | None]:
    """The ids that were there before and the account's name; proves the key and the clock before anything is made."""
    inventory = services.provider.inventory(timeout_s=min(CALL_TIMEOUT_S, time_left_s(services, stop_at_s)))
    _require_agreeing_clock(services.provider.server_date, services.clock.now())
    try:
        account = services.provider.account(timeout_s=min(CALL_TIMEOUT_S, time_left_s(services, stop_at_s)))
        account_name = account.username
    except CallFailed:
        account_name = None  # the key need not be allowed to read it
    return tuple(instance.id for instance in inventory.instances), account_name


def _require_agreeing_clock(server_date: datetime | None, now: datetime) -> None:
    if server_date is not None and abs((now - server_date).total_seconds()) > CLOCK_SKEW_MAX_S:
        raise ProviderFailure(
            f"this machine's clock and the provider's differ by {abs((now - server_date).total_seconds()):.0f} s",
            hint="set the clock: every safety window depends on it; nothing was made",
        )


def _in_words(services: Services, wanted: Wanted) -> str:
    """What is about to be leased, for the line before the create (scenario REL-15)."""
    sector = f" in {wanted.sector}" if wanted.sector else ""
    keep = ", kept" if wanted.keep else ""
    return f"{wanted.instance_type}{sector} from {services.provider.name}{keep}"
