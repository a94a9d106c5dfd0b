"""One example of every fact, and the start of a lease's story, for the suites of the ledger's contract."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from ledger.domain import events as e
from ledger.domain.instance import Instance

NOW = datetime(2026, 9, 20, 2, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
ACTOR = "ada@workshop"
LEASE_A = "rl_" + "a" * 26
LEASE_B = "rl_" + "b" * 26
BOX = "inst-1"

INSTANCE = Instance(id=BOX, instance_type="gpu_1x_h100_sxm5", region="us-east", status="ready", ip="203.0.113.7")
REPOSITORY = e.Repository(origin="git@example.org:ada/train.git", root_commit="c0ffee", path="/home/ada/train")
KEEP = e.Keep(until=LATER, reason="debugging")
RATE = e.Rate(per_hour=Decimal("3.50"), currency="USD", source="rates.toml")
SEEN = (
    e.Observation(kind="get-404", at=NOW),
    e.Observation(kind="inventory", at=NOW),
    e.Observation(kind="get-404", at=NOW),
)


def requested(slug: str = "calm-barn", *, ttl_ms: int = 5_400_000, keep: e.Keep | None = None) -> e.CreateRequested:
    return e.CreateRequested(
        provider="fal",
        scope="https://api.fal.ai/v1",
        slug=slug,
        instance_type="gpu_1x_h100_sxm5",
        sector=None,
        public_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE rentroll",
        request_digest="d" * 64,
        credential_binding="c" * 64,
        account_name="ada",
        ids_before=("inst-0",),
        ssh_user="ubuntu",
        ssh_port=22,
        work_root="/home/ubuntu/rentroll",
        ttl_ms=ttl_ms,
        idle_timeout_ms=1_800_000,
        keep=keep,
        acquirer="acquirer-1",
        deadline=LATER,
        host="workshop",
        pid=4711,
        purpose="warmup",
        rate=RATE,
        repository=REPOSITORY,
    )


def sent(attempt: int = 1) -> e.CreateSent:
    return e.CreateSent(
        attempt=attempt,
        acquirer="acquirer-1",
        credential_binding="c" * 64,
        request_digest="d" * 64,
        boot_id="boot-1",
        uptime_ms=1000 * attempt,
        provider_date=NOW,
    )


def bound(instance_id: str = BOX, evidence: str = "create-answer") -> e.InstanceIdBound:
    return e.InstanceIdBound(
        instance_id=instance_id, evidence=evidence, acquirer="acquirer-1", attempt=1, instance=INSTANCE
    )


def released(outcome: str = "completed") -> e.Released:
    return e.Released(outcome=outcome)


LEASE_FACTS: tuple[e.LeaseEvent, ...] = (
    requested(keep=KEEP),
    sent(),
    e.CreateRejected(attempt=1, status=429, error_type="rate_limit", message="slow down", request_id="req-1"),
    e.CreateInDoubt(
        attempt=1, cause="timeout", sent=True, answered=False, status=None, request_id=None, answer_instance_id="inst-9"
    ),
    e.CandidateTried(
        instance_id="inst-2",
        host="203.0.113.8",
        verdict="refused",
        host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAII",
        detail="authentication failed",
    ),
    bound(),
    e.CandidatesSettled(inventories=(3, 4)),
    e.Ready(
        acquirer="acquirer-1",
        instance=INSTANCE,
        host="203.0.113.7",
        port=22,
        user="ubuntu",
        host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH",
        host_key_fingerprint="SHA256:abc",
        tools={"tar": True, "rsync": False, "git": True},
    ),
    e.Touched(cause="touch", ttl_ms=7_200_000, idle_timeout_ms=None),
    e.KeepGranted(keep=KEEP, cause="failed-acquire", acquirer="acquirer-1", stage="ssh", failure="no route"),
    e.KeepEnded(reason="done"),
    e.SyncFinished(
        files=5000, sent_files=10, sent_bytes=44_700_000, deleted_files=1, duration_ms=900, manifest_digest="m" * 64
    ),
    e.RunStarted(
        run_id="run-1",
        command=("python", "train.py"),
        work_dir="w",
        repository=REPOSITORY,
        host="workshop",
        pid=4711,
        kind="shell",
        commit="c" * 40,
        dirty=True,
        manifest_digest="m" * 64,
        fence=3,
    ),
    e.RunFinished(
        run_id="run-1",
        exit_code=None,
        signal="KILL",
        duration_ms=60_000,
        stdout_bytes=1,
        stderr_bytes=2,
        detached=True,
        phases={"lease": 1, "command": 60_000},
        failure="x",
    ),
    e.ClaimMoved(repository=None, host="laptop", reason="moved desks"),
    e.CredentialRebound(credential_binding="e" * 64, account_name="ada", evidence="read the exact box"),
    e.AcquireFenced(acquirer="recoverer-1", deadline=LATER, evidence="lock-free", host="laptop", pid=12),
    e.StopRequested(reason="wrong type"),
    e.Rollback(stage="ssh", cause="port closed", shown=True),
    e.DeleteRequested(instance_id=BOX, attempt=1, reason="stop", shown=True),
    e.DeleteAccepted(instance_id=BOX, attempt=1),
    e.DeleteDeferred(instance_id=BOX, attempt=1, cause="502", status=502, retry_at=LATER),
    e.DeletionConfirmed(instance_id=BOX, credential_binding="c" * 64, evidence=SEEN),
    e.Released(outcome="never-created", reason=None, inventories=(3, 4, 5, 6, 7)),
    e.Reopened(instance_id=BOX, credential_binding="c" * 64, slug="calm-barn", evidence=SEEN),
)
ACCOUNT_FACTS: tuple[e.AccountEvent, ...] = (
    e.InventoryObserved(
        scope="https://api.fal.ai/v1", credential_binding="c" * 64, begun_at=NOW, instances=(INSTANCE,)
    ),
    e.BalanceObserved(scope="https://api.fal.ai/v1", username="ada", balance=Decimal("12.30"), currency="USD"),
    e.RateRecorded(instance_type="gpu_1x_h100_sxm5", rate=RATE),
    e.BillImported(
        sha256="b" * 64,
        source="bill.csv",
        period_start=NOW,
        period_end=LATER,
        rows=3,
        total=Decimal("10.00"),
        currency="USD",
    ),
    e.Reconciled(
        run_id="rec-1",
        bill_sha256="b" * 64,
        ledger_position=9,
        exit_code=10,
        unexplained=Decimal("0.05"),
        currency="USD",
    ),
)
