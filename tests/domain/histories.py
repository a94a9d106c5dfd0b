"""Facts, pasts and wishes for the tests of the lease's rules: builders with sensible values, and named histories.

A past is a tuple of steps `(seconds since START, fact)`; each is accepted by `decide` when it is told.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import HealthCheck, settings

from ledger.domain import events as e
from ledger.domain.evolve import evolve
from ledger.domain.instance import Instance
from ledger.domain.lease import decide
from ledger.domain.refusals import Refused
from ledger.domain.state import Lease, Recorded

EXAMPLES = settings(
    max_examples=350,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
"""The same examples on every machine, so that a red run is red for everybody."""

START = datetime(2026, 9, 20, 2, 0, tzinfo=UTC)
LEASE_ID = "rl_0123456789abcdefghjkmnpqrs"
ACTOR = "ada@desk"
ACQUIRER, RIVAL = "acquirer-1", "acquirer-2"
BOOT, OTHER_BOOT = "boot-1", "boot-2"
BOX, OTHER_BOX, OLD_BOX = "i-1", "i-2", "i-old"
DEADLINE_S = 1020
TTL_MS, IDLE_MS = 90 * 60_000, 30 * 60_000

Step = tuple[float, e.LeaseEvent]
Past = tuple[Step, ...]

RECORDED, NOTHING = "recorded", "nothing"


def at(seconds: float) -> datetime:
    """The moment so many seconds after START."""
    return START + timedelta(seconds=seconds)


def tell(past: Iterable[Step], lease: Lease | None = None) -> Lease:
    """The lease after a past of which every step is accepted."""
    lease = lease or Lease(lease_id=LEASE_ID)
    for seconds, fact in past:
        assert decide(lease, fact, at(seconds)) == [fact], f"step {fact} at {seconds} s"
        lease = evolve(lease, recorded(lease, fact, at(seconds)))
    return lease


def recorded(lease: Lease, fact: e.LeaseEvent, when: datetime) -> Recorded:
    """The fact as the next one of this lease."""
    return Recorded(stream=lease.lease_id, sequence=lease.sequence + 1, recorded_at=when, actor=ACTOR, event=fact)


def verdict(lease: Lease, fact: e.LeaseEvent, when: datetime) -> str:
    """`recorded`, `nothing`, or the name of the refusal; the fact itself is the only one that ever follows."""
    try:
        follows = decide(lease, fact, when)
    except Refused as refusal:
        return refusal.name
    assert follows in ([], [fact])
    return RECORDED if follows else NOTHING


def instance(instance_id: str = BOX, *, status: str = "pending", ip: str | None = None) -> Instance:
    return Instance(id=instance_id, instance_type="gpu_1x_h100_sxm5", region="us-west", status=status, ip=ip)


def keep(until_s: float = 86_400, reason: str = "training overnight") -> e.Keep:
    return e.Keep(until=at(until_s), reason=reason)


RATE = e.Rate(per_hour=Decimal("2.10"), currency="USD", source="config")
REPOSITORY = e.Repository(origin="https://example.org/tool.git", root_commit="4b825dc", path="/src/tool")


def requested(
    *,
    kept: e.Keep | None = None,
    ttl_ms: int = TTL_MS,
    idle_timeout_ms: int = IDLE_MS,
    rate: e.Rate | None = RATE,
    twin_of: str | None = None,
    slug: str = "amber-acre",
) -> e.CreateRequested:
    return e.CreateRequested(
        provider="fal",
        scope="https://api.fal.ai/v1",
        slug=slug,
        instance_type="gpu_1x_h100_sxm5",
        sector=None,
        public_key="ssh-ed25519 AAAA",
        request_digest="d1",
        credential_binding="c1",
        account_name="acme",
        ids_before=(OLD_BOX,),
        ssh_user="ubuntu",
        ssh_port=22,
        work_root="/home/ubuntu/rentroll",
        ttl_ms=ttl_ms,
        idle_timeout_ms=idle_timeout_ms,
        keep=kept,
        acquirer=ACQUIRER,
        deadline=at(DEADLINE_S),
        host="desk",
        pid=7,
        purpose="warmup",
        rate=rate,
        repository=REPOSITORY,
        twin_of=twin_of,
    )


def sent(
    attempt: int = 1,
    *,
    up_s: float = 1,
    acquirer: str = ACQUIRER,
    boot_id: str = BOOT,
    date_s: float | None = None,
) -> e.CreateSent:
    """`up_s` is the clock through sleep and `date_s` the provider's `Date`, both in seconds as START counts."""
    return e.CreateSent(
        attempt=attempt,
        acquirer=acquirer,
        credential_binding="c1",
        request_digest="d1",
        boot_id=boot_id,
        uptime_ms=round(up_s * 1000) + 5_000_000,
        provider_date=None if date_s is None else at(date_s),
    )


def rejected(attempt: int = 1) -> e.CreateRejected:
    return e.CreateRejected(
        attempt=attempt, status=429, error_type="rate_limited", message="no capacity", request_id="r1"
    )


def in_doubt(attempt: int = 1, *, sent: bool = True, answered: bool = False) -> e.CreateInDoubt:
    return e.CreateInDoubt(
        attempt=attempt, cause="connection reset", sent=sent, answered=answered, status=None, request_id=None
    )


def tried(
    instance_id: str = OTHER_BOX,
    verdict: str = "refused",
    *,
    host: str = "203.0.113.20",
    host_key: str | None = "ssh-ed25519 KKKK",
) -> e.CandidateTried:
    return e.CandidateTried(
        instance_id=instance_id, host=host, verdict=verdict, host_key=host_key, detail="authentication failed"
    )


def settled(*positions: int) -> e.CandidatesSettled:
    return e.CandidatesSettled(inventories=positions or (21,))


def bound(
    instance_id: str = BOX, *, evidence: str = "create-answer", acquirer: str = ACQUIRER, attempt: int | None = 1
) -> e.InstanceIdBound:
    return e.InstanceIdBound(
        instance_id=instance_id,
        evidence=evidence,
        acquirer=acquirer,
        attempt=attempt,
        instance=instance(instance_id),
    )


def ready(instance_id: str = BOX, *, acquirer: str = ACQUIRER) -> e.Ready:
    return e.Ready(
        acquirer=acquirer,
        instance=instance(instance_id, status="ready", ip="203.0.113.9"),
        host="203.0.113.9",
        port=22,
        user="ubuntu",
        host_key="ssh-ed25519 BBBB",
        host_key_fingerprint="SHA256:bbbb",
        tools={"git": True, "rsync": False},
    )


def touched(*, ttl_ms: int | None = None, idle_timeout_ms: int | None = None) -> e.Touched:
    return e.Touched(cause="touch", ttl_ms=ttl_ms, idle_timeout_ms=idle_timeout_ms)


def kept(until_s: float = 86_400, reason: str = "training overnight") -> e.KeepGranted:
    return e.KeepGranted(keep=keep(until_s, reason), cause="user")


def kept_failed(until_s: float = 86_400, *, acquirer: str = ACQUIRER, stage: str | None = "ssh") -> e.KeepGranted:
    return e.KeepGranted(
        keep=keep(until_s), cause="failed-acquire", acquirer=acquirer, stage=stage, failure="no answer on port 22"
    )


def synced() -> e.SyncFinished:
    return e.SyncFinished(files=3, sent_files=2, sent_bytes=100, deleted_files=0, duration_ms=40, manifest_digest="m1")


def run_started(run_id: str = "run-1") -> e.RunStarted:
    return e.RunStarted(run_id=run_id, command=("make",), work_dir="/w", repository=None, host="desk", pid=7)


def run_finished(run_id: str = "run-1") -> e.RunFinished:
    return e.RunFinished(run_id=run_id, exit_code=0, signal=None, duration_ms=9, stdout_bytes=1, stderr_bytes=0)


def run_detached(run_id: str = "run-1") -> e.RunFinished:
    return e.RunFinished(
        run_id=run_id, exit_code=None, signal=None, duration_ms=9, stdout_bytes=1, stderr_bytes=0, detached=True
    )


def moved(host: str = "laptop") -> e.ClaimMoved:
    return e.ClaimMoved(repository=REPOSITORY, host=host, reason="moving desks")


def rebound(credential_binding: str = "c2") -> e.CredentialRebound:
    return e.CredentialRebound(credential_binding=credential_binding, account_name="acme", evidence="instance-seen")


def fenced(acquirer: str = RIVAL, *, evidence: str = "lock-free", deadline_s: float = 9_000) -> e.AcquireFenced:
    return e.AcquireFenced(acquirer=acquirer, deadline=at(deadline_s), evidence=evidence, host="rack", pid=9)


def stop_requested() -> e.StopRequested:
    return e.StopRequested(reason="not wanted")


def rollback(*, shown: bool = False) -> e.Rollback:
    return e.Rollback(stage="ssh", cause="no answer on port 22", shown=shown)


def delete_requested(
    attempt: int = 1, *, instance_id: str = BOX, reason: str = "stop", shown: bool = True
) -> e.DeleteRequested:
    return e.DeleteRequested(instance_id=instance_id, attempt=attempt, reason=reason, shown=shown)


def delete_accepted(attempt: int = 1, *, instance_id: str = BOX) -> e.DeleteAccepted:
    return e.DeleteAccepted(instance_id=instance_id, attempt=attempt)


def delete_deferred(attempt: int = 1, *, status: int | None = 500, retry_s: float | None = None) -> e.DeleteDeferred:
    return e.DeleteDeferred(
        instance_id=BOX,
        attempt=attempt,
        cause="server_error",
        status=status,
        retry_at=None if retry_s is None else at(retry_s),
    )


def confirmed(looked_s: float, *, instance_id: str = BOX) -> e.DeletionConfirmed:
    """Absence seen in three looks, half a second apart, from `looked_s` on."""
    kinds = ("get-404", "inventory", "get-404")
    looks = tuple(e.Observation(kind=kind, at=at(looked_s + n / 2)) for n, kind in enumerate(kinds))
    return e.DeletionConfirmed(instance_id=instance_id, credential_binding="c1", evidence=looks)


def released(outcome: str = "completed", *, reason: str | None = None, inventories: tuple[int, ...] = ()) -> e.Released:
    return e.Released(outcome=outcome, reason=reason, inventories=inventories)


def reopened(looked_s: float, *, instance_id: str = BOX) -> e.Reopened:
    looks = (e.Observation(kind="inventory", at=at(looked_s)), e.Observation(kind="get-200", at=at(looked_s)))
    return e.Reopened(instance_id=instance_id, credential_binding="c1", slug="amber-acre-0001", evidence=looks)


REQUESTED: Past = ((0, requested()),)
SENT: Past = (*REQUESTED, (1, sent()))
UNANSWERED: Past = (*SENT, (31, in_doubt()))
ANSWERED: Past = (*SENT, (2, in_doubt(answered=True)))
REJECTED: Past = (*SENT, (2, rejected()))
UNSENT: Past = (*SENT, (2, in_doubt(sent=False)))
PROVISIONING: Past = (*SENT, (2, bound()))
SENT_TWICE: Past = (*ANSWERED, (3, sent(2, up_s=3)), (4, bound(attempt=2)))
TRIED: Past = (*UNANSWERED, (600, tried()))
KEPT_FAILED: Past = (*PROVISIONING, (600, kept_failed()))
ROLLING_BACK: Past = (*PROVISIONING, (600, rollback()))
READY: Past = (*PROVISIONING, (120, ready()))
KEPT: Past = (*READY, (130, kept()))
RUNNING: Past = (*READY, (130, run_started()))
DELETING: Past = (*READY, (200, delete_requested()))
ACCEPTED: Past = (*DELETING, (201, delete_accepted()))
DEFERRED: Past = (*DELETING, (201, delete_deferred()))
CONFIRMED: Past = (*ACCEPTED, (210, confirmed(205)))
RELEASED: Past = (*CONFIRMED, (211, released()))
WRITTEN_OFF: Past = (*UNANSWERED, (3_600, released("written-off", reason="console shows nothing")))
NEVER_CREATED: Past = (*UNANSWERED, (3_600, released("never-created", inventories=(11, 12, 13, 14, 15))))
REJECTED_RELEASED: Past = (*REJECTED, (3, released("rejected")))
FENCED: Past = (*UNANSWERED, (100, fenced()))
TWIN: Past = ((0, requested(twin_of="rl_twin", slug="amber-acre-twin")),)
UNSHOWN: Past = (*ROLLING_BACK, (601, delete_requested(reason="rollback", shown=False)))

PASTS: dict[str, Past] = {
    "nothing": (),
    "requested": REQUESTED,
    "sent": SENT,
    "unanswered": UNANSWERED,
    "answered": ANSWERED,
    "rejected": REJECTED,
    "unsent": UNSENT,
    "provisioning": PROVISIONING,
    "sent twice": SENT_TWICE,
    "tried": TRIED,
    "kept failed": KEPT_FAILED,
    "rolling back": ROLLING_BACK,
    "ready": READY,
    "kept": KEPT,
    "running": RUNNING,
    "deleting": DELETING,
    "accepted": ACCEPTED,
    "deferred": DEFERRED,
    "confirmed": CONFIRMED,
    "released": RELEASED,
    "written off": WRITTEN_OFF,
    "never created": NEVER_CREATED,
    "rejected and released": REJECTED_RELEASED,
    "fenced": FENCED,
    "twin": TWIN,
    "unshown": UNSHOWN,
}
