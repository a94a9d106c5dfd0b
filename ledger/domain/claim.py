"""A claim: what the projection says of a lease now, as the one row that lists, status and reports are read from.

Every field is what a database column holds (text, integer or null), so that a claim is read without building the
lease. It must stay cheap to import: `rentroll list` loads nothing else of the domain.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple


class Claim(NamedTuple):
    """One row of the projection. Times are RFC 3339 text, durations whole milliseconds, money decimal text.

    `contradiction` is set where an index could not hold (two leases claim one box): the fact stands, a person looks.
    `billed_from` and `billed_until` bound the time in which evidence says that a box existed. `sent` is 1 where a
    create may have made one, `suspect` 1 where a box of it may exist that no lease is bound to. Nothing is tried again
    before `retry_at` unless a person asks for it.
    """

    lease_id: str
    sequence: int
    position: int
    is_open: int
    phase: str
    outcome: str | None
    slug: str
    provider: str
    scope: str
    purpose: str
    actor: str
    host: str
    repository: str | None
    instance_id: str | None
    instance_type: str
    sector: str | None
    region: str | None
    provider_status: str | None
    ssh_host: str | None
    ssh_port: int | None
    ssh_user: str
    host_key_fingerprint: str | None
    work_root: str
    keep_until: str | None
    keep_reason: str | None
    created_at: str
    ready_at: str | None
    touched_at: str | None
    expires_at: str
    released_at: str | None
    acquire_deadline: str
    ttl_ms: int
    idle_timeout_ms: int
    rate_per_hour: str | None
    currency: str | None
    rate_source: str | None
    billed_from: str | None
    billed_until: str | None
    sent: int
    suspect: int
    failure_stage: str | None
    failure_cause: str | None
    stop_reason: str | None
    delete_cause: str | None
    retry_at: str | None
    credential_binding: str
    contradiction: str | None


def moment(text: str) -> datetime:
    """The time that a stored text stands for."""
    return datetime.fromisoformat(text)


def short_time(text: str) -> str:
    """A stored time for JSON and people: RFC 3339 without fractions that are zero."""
    return text.replace(".000000Z", "Z")


def is_overdue(claim: Claim, now: datetime) -> bool:
    """Whether its own time is over while something of it may still cost money."""
    return bool(claim.is_open) and moment(claim.expires_at) <= now


def accrued(claim: Claim, now: datetime) -> str | None:
    """What the box has cost until now as decimal text, or None where that is not known.

    A create whose outcome is unknown has an unknown cost, never zero; a lease that made nothing has cost 0.00.
    """
    if claim.billed_from is None:
        return "0.00" if not claim.sent or claim.outcome in ("rejected", "cancelled", "never-created") else None
    if claim.rate_per_hour is None or claim.outcome == "written-off":
        return None
    from decimal import Decimal

    from ledger.domain.money import cost_of

    end = moment(claim.billed_until) if claim.billed_until else now
    elapsed_ms = max(0, (end - moment(claim.billed_from)) // timedelta(milliseconds=1))
    return str(cost_of(Decimal(claim.rate_per_hour), elapsed_ms))


def attention(claim: Claim, now: datetime) -> str | None:
    """One sentence saying what a person has to do, or None."""
    stop = f"run `rentroll stop {claim.slug}`"
    if claim.contradiction:
        return f"{claim.contradiction}: look at both before anything is deleted"
    if not claim.is_open:
        return None
    if claim.billed_until:
        return f"its box is gone and only its record is open: {stop}"
    if claim.delete_cause:
        return f"its deletion failed ({claim.delete_cause}) and the box may still bill: {stop}"
    if claim.phase == "provisioning" and claim.failure_stage:
        until = short_time(claim.keep_until or claim.expires_at)
        return f"its acquire failed at {claim.failure_stage} and the box was kept until {until}: {stop}"
    if claim.phase == "ready":
        if claim.stop_reason is not None:
            return f"it was to be given back ({claim.stop_reason}) and still bills: {stop}"
        overdue = f"its time ended at {short_time(claim.expires_at)} and it still bills: {stop}"
        return overdue if is_overdue(claim, now) else None
    if claim.phase == "in-doubt" and claim.stop_reason is not None:
        settles = f"`rentroll watch` settles it, or `rentroll recover --only {claim.slug}`"
        return (
            f"nobody wants it, but whether a box was made is unknown: {settles}; what nothing settles, --write-off ends"
        )
    if claim.phase in ("rolling-back", "deleting") and claim.instance_id:
        return f"its box is to be deleted and may still bill: {stop}"
    if moment(claim.acquire_deadline) < now:
        what = "may have made a box that bills" if claim.phase == "in-doubt" else "was left unfinished"
        return f"its create {what}: {stop}"
    return None


def lease_object(claim: Claim, now: datetime, keys_root: str) -> dict[str, Any]:
    """The lease object of the command-line contract. `keys_root` is the folder that holds each lease's keys."""
    released = claim.released_at is not None

    def time(text: str | None) -> str | None:
        return None if text is None else short_time(text)

    return {
        "lease_id": claim.lease_id,
        "slug": claim.slug,
        "provider": claim.provider,
        "phase": claim.phase,
        "outcome": claim.outcome,
        "instance_id": claim.instance_id,
        "instance_type": claim.instance_type,
        "sector": claim.sector,
        "region": claim.region,
        "provider_status": None if released else claim.provider_status,
        "ssh": {
            "host": claim.ssh_host,
            "port": claim.ssh_port,
            "user": claim.ssh_user,
            "key_path": None if released else f"{keys_root}/{claim.lease_id}/id_ed25519",
            "host_key_fingerprint": claim.host_key_fingerprint,
        },
        "keep": {"until": time(claim.keep_until), "reason": claim.keep_reason} if claim.keep_until else None,
        "created_at": time(claim.created_at),
        "ready_at": time(claim.ready_at),
        "last_touched_at": time(claim.touched_at),
        "expires_at": time(claim.expires_at),
        "released_at": time(claim.released_at),
        "ttl_seconds": json_seconds(claim.ttl_ms),
        "idle_timeout_seconds": json_seconds(claim.idle_timeout_ms),
        "repo": claim.repository,
        "actor": claim.actor,
        "cost": {
            "rate_per_hour": claim.rate_per_hour,
            "accrued": accrued(claim, now),
            "currency": claim.currency,
            "source": claim.rate_source,
        },
        "attention": attention(claim, now),
        "sequence": claim.sequence,
        "position": claim.position,
    }


def json_seconds(milliseconds: int) -> int | float:
    """A duration for a `*_seconds` field: an integer where it is whole."""
    return milliseconds // 1000 if milliseconds % 1000 == 0 else milliseconds / 1000


def newest_first(claims: list[Claim]) -> list[Claim]:
    """The order of every list."""
    return sorted(claims, key=lambda claim: (claim.created_at, claim.position), reverse=True)
