"""The claim that a lease's state comes to."""

from datetime import datetime

from ledger.domain.claim import Claim
from ledger.domain.state import Lease
from ledger.domain.units import format_time


def claim_of(lease: Lease, position: int) -> Claim:
    """The row for a lease whose newest fact stands at `position`. The lease must have been requested."""
    request = lease.request
    if request is None or lease.phase is None:
        raise ValueError(f"lease {lease.lease_id} was never requested")
    instance, ready, rate = lease.instance, lease.ready, request.rate
    return Claim(
        lease_id=lease.lease_id,
        sequence=lease.sequence,
        position=position,
        is_open=int(lease.is_open),
        phase=str(lease.phase),
        outcome=_text(lease.outcome),
        slug=lease.slug,
        provider=request.provider,
        scope=request.scope,
        purpose=lease.purpose,
        actor=lease.actor,
        host=lease.host,
        repository=(lease.repository.origin or lease.repository.path) if lease.repository else None,
        instance_id=lease.instance_id,
        instance_type=request.instance_type,
        sector=(instance.sector if instance else None) or request.sector,
        region=instance.region if instance else None,
        provider_status=instance.status if instance else None,
        ssh_host=ready.host if ready else None,
        ssh_port=ready.port if ready else request.ssh_port,
        ssh_user=ready.user if ready else request.ssh_user,
        host_key_fingerprint=ready.host_key_fingerprint if ready else None,
        work_root=request.work_root,
        keep_until=_time(lease.keep.until) if lease.keep else None,
        keep_reason=lease.keep.reason if lease.keep else None,
        created_at=_known(lease.created_at),
        ready_at=_time(lease.ready_at),
        touched_at=_time(lease.touched_at),
        expires_at=_known(lease.expires_at),
        released_at=_time(lease.released_at),
        acquire_deadline=_known(lease.acquire_deadline),
        ttl_ms=lease.ttl_ms,
        idle_timeout_ms=lease.idle_timeout_ms,
        rate_per_hour=str(rate.per_hour) if rate else None,
        currency=rate.currency if rate else None,
        rate_source=rate.source if rate else None,
        billed_from=_time(lease.bound_at),
        billed_until=_time(lease.confirmed_at),
        sent=int(not (lease.nothing_sent or lease.rejected)),
        suspect=int(lease.is_suspect),
        failure_stage=lease.failure.stage if lease.failure else None,
        failure_cause=lease.failure.cause if lease.failure else None,
        stop_reason=lease.stop_reason,
        delete_cause=lease.delete_cause if lease.delete_result == "deferred" else None,
        retry_at=_time(lease.retry_at),
        credential_binding=lease.credential_binding,
        contradiction=None,
    )


def _text(value: str | None) -> str | None:
    return None if value is None else str(value)


def _time(value: datetime | None) -> str | None:
    return None if value is None else format_time(value)


def _known(value: datetime | None) -> str:
    if value is None:
        raise ValueError("a requested lease has this time")
    return format_time(value)
