"""Makes a ledger through the real store: `make_ledger.py PATH OPEN RELEASED`, run by the application's own Python.

Every lease has a whole story, so that claims and rows are as wide as in life: eight facts for a released one, four
for an open one. All of it is one transaction.
"""

import os
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from ledger.domain import events as e
from ledger.domain.instance import Instance
from ledger.domain.names import generated_slug, lease_id
from ledger.domain.state import Lease
from ledger.store.sqlite import open_sqlite

ACTOR = "ada@workshop"
ACQUIRER = "0f" * 16
HOUR = timedelta(hours=1)
IDLE_MS = 1_800_000
AGE = timedelta(minutes=5)


def created(name: str, number: int, at: datetime) -> list[e.LeaseEvent]:
    """From the intent to a ready box."""
    box = Instance(
        id=f"i-{number:08x}", instance_type="gpu_1x_h100_sxm5", region="us-west", status="ready", ip="203.0.113.7"
    )
    return [
        e.CreateRequested(
            provider="fal",
            scope="https://api.fal.ai/v1",
            slug=f"{generated_slug(name)}-{number}",
            instance_type=box.instance_type,
            sector=None,
            public_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample0Example0Example0Example0Example0Ex rentroll",
            request_digest="d" * 64,
            credential_binding="c" * 64,
            account_name="team",
            ids_before=(),
            ssh_user="ubuntu",
            ssh_port=22,
            work_root="/home/ubuntu/rentroll",
            ttl_ms=5_400_000,
            idle_timeout_ms=IDLE_MS,
            keep=None,
            acquirer=ACQUIRER,
            deadline=at + HOUR,
            host="workshop",
            pid=4711,
            purpose="warmup",
            rate=e.Rate(per_hour=Decimal("3.00"), currency="USD", source="settings: environment"),
            repository=e.Repository(origin="git@example.org:ada/train.git", root_commit="c0ffee", path="/srv/train"),
        ),
        e.CreateSent(
            attempt=1,
            acquirer=ACQUIRER,
            credential_binding="c" * 64,
            request_digest="d" * 64,
            boot_id="boot",
            uptime_ms=1000,
            provider_date=at,
        ),
        e.InstanceIdBound(instance_id=box.id, evidence="create-answer", acquirer=ACQUIRER, attempt=1, instance=box),
        e.Ready(
            acquirer=ACQUIRER,
            instance=box,
            host="203.0.113.7",
            port=22,
            user="ubuntu",
            host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample0Example0Example0Example0Example0Ex",
            host_key_fingerprint="SHA256:ExampleExampleExampleExampleExampleExample0",
            tools={"tar": True, "rsync": True, "git": True},
        ),
    ]


def given_back(number: int, at: datetime) -> list[e.LeaseEvent]:
    """From the wish to be rid of it to its release."""
    box = f"i-{number:08x}"
    seen = tuple(e.Observation(kind=kind, at=at) for kind in ("get-404", "inventory", "get-404"))
    return [
        e.DeleteRequested(instance_id=box, attempt=1, reason="stop", shown=True),
        e.DeleteAccepted(instance_id=box, attempt=1),
        e.DeletionConfirmed(instance_id=box, credential_binding="c" * 64, evidence=seen),
        e.Released(outcome="completed"),
    ]


def main(path: str, still_open: int, released: int) -> str:
    """Makes it; gives the id of the newest lease, which is open."""
    now = datetime.now(UTC)  # noqa: TID251 - a benchmark's leases are to be young
    at = now - AGE
    newest = ""
    with (
        open_sqlite(path, create=True, random_bytes=os.urandom, now=lambda: now) as register,
        register.transaction() as transaction,
    ):
        for number in range(released + still_open):
            newest = lease_id(os.urandom)
            facts = created(newest, number, at)
            if number < released:
                facts += given_back(number, at)
            at += timedelta(milliseconds=1)
            transaction.append(Lease(lease_id=newest), facts, at=at, actor=ACTOR)
    return newest


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])) + "\n")
