"""Leasing a box, told top to bottom: key, pre-flight, intent, create, bind, wait, ready; or back the way we came."""

from datetime import datetime
from typing import NoReturn

from msgspec import Struct

from ledger.domain import events as e
from ledger.domain.credentials import request_digest
from ledger.domain.errors import InDoubt, Interrupted, ProviderFailure, RentrollError, SshFailure
from ledger.domain.lease import Refused
from ledger.domain.ports import CallFailed
from ledger.domain.state import Lease, Outcome, Phase
from ledger.domain.units import after_ms
from ledger.flows.create import create_box
from ledger.flows.ready import wait_until_ready
from ledger.flows.release import delete_box, finish
from ledger.flows.services import Services, Stage

DEADLINE_MARGIN_MS = 120_000
"""An acquire's own deadline is its time limit and two minutes (cli-contract: constants)."""
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
        lease = _request(services, wanted)
        stop_at_s = services.clock.monotonic_s() + wanted.timeout_ms / 1000
        try:
            create_box(services, lease, stop_at_s=stop_at_s)
            return wait_until_ready(services, lease.lease_id, stop_at_s=stop_at_s)
        except (RentrollError, Interrupted) as failure:
            return _give_back(services, wanted, failure)
    finally:
        lock.release()


def _request(services: Services, wanted: Wanted) -> Lease:
    """Key, pre-flight and intent. Whatever fails here leaves nothing behind."""
    public_key = services.keys.make(wanted.lease_id)
    try:
        ids_before, account_name = _preflight(services)
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
    except (RentrollError, Interrupted):
        if services.book.load(wanted.lease_id).phase is None:
            services.keys.destroy(wanted.lease_id)
        raise
    services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name="requested", detail=wanted.instance_type))
    return lease


def _preflight(services: Services) -> tuple[tuple[str, ...], str | None]:
    """The ids that were there before and the account's name; proves the key and the clock before anything is made."""
    inventory = services.provider.inventory()
    _require_agreeing_clock(services.provider.server_date, services.clock.now())
    try:
        account_name = services.provider.account().username
    except CallFailed:
        account_name = None  # the key need not be allowed to read it
    return tuple(instance.id for instance in inventory.instances), account_name


def _require_agreeing_clock(server_date: datetime | None, now: datetime) -> None:
    if server_date is not None and abs((now - server_date).total_seconds()) > CLOCK_SKEW_MAX_S:
        raise ProviderFailure(
            f"this machine's clock and the provider's differ by {abs((now - server_date).total_seconds()):.0f} s",
            hint="set the clock: every safety window depends on it; nothing was made",
        )


def _give_back(services: Services, wanted: Wanted, failure: RentrollError | Interrupted) -> NoReturn:
    """Undoes a failed acquisition as far as the facts allow, then raises the failure with the state it left."""
    with services.interrupts.shielded():
        lease = services.book.load(wanted.lease_id)
        try:
            if _may_keep(lease, wanted, failure) and _keep_failed(services, wanted, failure):
                _raise_with_state(failure, services.book.load(lease.lease_id))
            _undo(services, lease, failure)
        except RentrollError as second:
            if second is failure:
                raise
            _raise_with_state(failure, services.book.load(lease.lease_id), second)
        _raise_with_state(failure, services.book.load(lease.lease_id))


def _may_keep(lease: Lease, wanted: Wanted, failure: RentrollError | Interrupted) -> bool:
    """keep covers a box that did not become ready; an interrupt or a stop means that nobody wants it."""
    asked_to_end = isinstance(failure, Interrupted) or lease.stop_reason is not None
    return wanted.keep is not None and lease.phase is Phase.PROVISIONING and not asked_to_end


def _keep_failed(services: Services, wanted: Wanted, failure: RentrollError | Interrupted) -> bool:
    if wanted.keep is None:
        return False
    fact = e.KeepGranted(
        keep=wanted.keep,
        cause="failed-acquire",
        acquirer=wanted.acquirer,
        stage=stage_of(failure),
        failure=str(failure),
    )
    try:
        services.book.record(wanted.lease_id, fact)
    except RentrollError:
        return False  # without the fact there is no keep: the box is deleted instead (KEEP-02)
    return True


def _undo(services: Services, lease: Lease, failure: RentrollError | Interrupted) -> None:
    if lease.phase is Phase.PROVISIONING:
        services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name="rolling back", detail=str(failure)))
        fact = e.Rollback(stage=stage_of(failure), cause=str(failure), shown=lease.shown)
        services.book.record(lease.lease_id, fact)
    lease = services.book.load(lease.lease_id)
    if lease.phase in (Phase.ROLLING_BACK, Phase.DELETING) and lease.instance_id is not None:
        delete_box(services, lease.lease_id, reason="rollback")
    elif lease.is_open and lease.instance_id is None and (lease.rejected or lease.nothing_sent):
        finish(services, lease.lease_id)


def stage_of(failure: RentrollError | Interrupted) -> str:
    """The stage that a failure is recorded under."""
    match failure:
        case SshFailure():
            return failure.stage
        case Interrupted():
            return "interrupted"
        case Refused():
            return failure.name
        case _:
            return "provider"


def _raise_with_state(
    failure: RentrollError | Interrupted, lease: Lease, second: RentrollError | None = None
) -> NoReturn:
    """Raises the failure that began it, telling what state it left and what to type next."""
    left = _state_left(lease)
    if isinstance(failure, Interrupted):
        failure.left, failure.lease_id = left, lease.lease_id
        raise failure
    failure.lease_id = lease.lease_id
    also = f"; then: {second}" if second is not None else ""
    if lease.is_open:
        failure.next_step = f"rentroll stop {lease.slug}"
    if lease.phase is Phase.IN_DOUBT and not isinstance(failure, InDoubt):
        raise InDoubt(
            f"{failure.message}{also}; {left}", next_step=failure.next_step, lease_id=lease.lease_id
        ) from None
    failure.message = f"{failure.message}{also}; {left}"
    raise failure


def _state_left(lease: Lease) -> str:
    match lease.phase:
        case None:
            return "nothing was made"
        case Phase.RELEASED if lease.outcome is Outcome.ROLLED_BACK:
            return f"the box {lease.instance_id} was given back"
        case Phase.RELEASED:
            return f"nothing was made, lease {lease.slug} is closed as {lease.outcome}"
        case Phase.IN_DOUBT:
            return f"whether a box was made for lease {lease.slug} is unknown, and the lease stays open"
        case _ if lease.keep is not None:
            return f"the box {lease.instance_id} was kept and bills, as lease {lease.slug}"
        case _:
            return f"the box {lease.instance_id} of lease {lease.slug} may still bill, and the lease stays open"
