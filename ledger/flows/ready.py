"""From a bound box to a ready one: the provider's status, then SSH stage by stage, inside the lease's own time."""

from ledger.domain import events as e
from ledger.domain.errors import ProviderFailure, SshFailure
from ledger.domain.ports import CallFailed, Endpoint, Instance, KeyRejected
from ledger.domain.state import Lease
from ledger.domain.units import milliseconds_between
from ledger.flows.services import Services, Stage
from ledger.flows.waiting import CALL_TIMEOUT_S, pause, time_left_s

DEFINITIVE_STAGES = ("host-key",)
SSH_RETRY_S = 1.0
TERMINAL_STATUSES = ("stopped",)
ADDRESS = "address"
"""The stage that tells of the box's address: from here on it is its SSH server that is waited for."""


def wait_until_ready(services: Services, lease_id: str, *, stop_at_s: float) -> Lease:
    """Polls the bound instance, then its SSH server, and appends `ready` with the endpoint and the pinned host key.

    Tolerates faults within the limit, which is `stop_at_s` (monotonic) or the lease's own end, whichever is first.
    Raises `ProviderFailure` or `SshFailure` naming the stage that was reached.
    """
    lease = services.book.load(lease_id)
    limit_s = min(stop_at_s, _own_end_s(services, lease))
    instance = _wait_for_address(services, lease, limit_s)
    return _wait_for_ssh(services, lease, instance, limit_s)


def _own_end_s(services: Services, lease: Lease) -> float:
    """The lease's own end on the monotonic clock (W-18)."""
    if lease.expires_at is None or lease.request is None:
        raise ValueError("a requested lease has an end")
    keep = lease.request.keep
    end = min(lease.expires_at, keep.until) if keep is not None else lease.expires_at
    left_ms = milliseconds_between(services.clock.now(), end)
    return services.clock.monotonic_s() + left_ms / 1000


def _wait_for_address(services: Services, lease: Lease, limit_s: float) -> Instance:
    instance_id = lease.instance_id or ""
    last = "not seen yet"
    while True:
        left_s = limit_s - services.clock.monotonic_s()
        if left_s <= 0:
            over = TimeoutError("deadline exceeded")
            raise ProviderFailure(f"timed out waiting for instance {instance_id} to be ready; last: {last}") from over
        try:
            instance = services.provider.get(instance_id, timeout_s=min(CALL_TIMEOUT_S, left_s))
        except KeyRejected:
            raise
        except CallFailed as failure:
            last = failure.message
        else:
            last = instance.status
            if instance.status == "ready" and instance.ip:
                return instance
            if instance.status in TERMINAL_STATUSES:
                raise ProviderFailure(f"instance {instance_id} is {instance.status} and will not become ready")
        services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name="booting", detail=last))
        left_s = limit_s - services.clock.monotonic_s()
        pause(services, lease.lease_id, min(services.poll_interval_s, left_s))


def _wait_for_ssh(services: Services, lease: Lease, instance: Instance, limit_s: float) -> Lease:
    request = lease.request
    if request is None or instance.ip is None:
        raise ValueError("a bound lease was requested and a ready instance has an address")
    endpoint = Endpoint(
        lease_id=lease.lease_id, host=instance.ip, port=request.ssh_port, user=request.ssh_user, host_key=None
    )
    ports = tuple(dict.fromkeys((request.ssh_port, 22)))
    services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name=ADDRESS, detail=instance.ip))
    while True:
        try:
            facts = services.box.check(endpoint, ports=ports, timeout_s=time_left_s(services, limit_s))
        except SshFailure as failure:
            if failure.stage in DEFINITIVE_STAGES:
                raise
            _wait_for_next_try(services, lease, failure, limit_s)
        else:
            break
    fact = e.Ready(
        acquirer=lease.acquirer,
        instance=instance,
        host=instance.ip,
        port=facts.port,
        user=request.ssh_user,
        host_key=facts.host_key,
        host_key_fingerprint=facts.host_key_fingerprint,
        tools=facts.tools,
    )
    ready = services.book.insist(lease.lease_id, fact).lease  # RDY-11
    services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name="ready", detail=instance.id))
    return ready


def _wait_for_next_try(services: Services, lease: Lease, failure: SshFailure, limit_s: float) -> None:
    services.tell(Stage(lease_id=lease.lease_id, slug=lease.slug, name=f"ssh {failure.stage}", detail=failure.message))
    if services.clock.monotonic_s() + SSH_RETRY_S >= limit_s:
        raise SshFailure(
            f"timed out waiting for SSH: {failure.message}", stage=failure.stage, hint=failure.hint
        ) from None
    pause(services, lease.lease_id, SSH_RETRY_S)
