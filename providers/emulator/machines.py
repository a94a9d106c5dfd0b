"""One emulated machine as an immutable record: every question about it is answered as of a given time."""

from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

InstanceType = Literal["gpu_8x_h100_sxm5", "gpu_1x_h100_sxm5"]
Sector = Literal["sector_1", "sector_2", "sector_3"]
SshPolicy = Literal["own-key", "every-key", "no-key", "anybody"]
"""Whom a box's SSH server lets in: who holds the instance's key (as a real one does), who holds any key (a honeypot),
nobody, or everybody without a key."""

LOOPBACK_ADDRESSES = tuple(f"127.0.1.{n}" for n in range(1, 255))
"""An address for each of 254 boxes at a time; their number is the emulator's capacity."""


class Settings(Struct, frozen=True, kw_only=True):
    """How the emulated fal behaves when nothing is wrong. Times are seconds of the emulator's clock.

    A machine is `provisioning` for `boot_s`, the last `init_s` of them as `init`, then `ready`; its SSH server
    comes up `ssh_delay_s` later. A deleted machine stops at once and is listed, as `deleting_status`, for
    `delete_s` more. `page_cap` is the most that a page holds and what it holds by default.
    """

    boot_s: float = 2.0
    init_s: float = 0.0
    ssh_delay_s: float = 0.0
    delete_s: float = 1.0
    deleting_status: str = "stopped"
    page_cap: int = 100
    idempotency_s: float = 600.0
    region: str = "us-west"
    addresses: tuple[str, ...] = LOOPBACK_ADDRESSES


class Machine(Struct, frozen=True, kw_only=True):
    """A machine and the moments of its life.

    `address_index` counts from 1 into `Settings.addresses`. Reads show it from `visible_from` until
    `visible_until`; it runs until `deleted_at`, when a delete was accepted. `forced_status` overrides its status.
    `authorized_keys` is what that file in its home holds at first, None for the public key's line.
    """

    id: str
    account: str
    instance_type: str
    region: str
    public_key: str | None
    address_index: int | None
    created_at: datetime
    ready_at: datetime
    visible_from: datetime
    sector: str | None = None
    deleted_at: datetime | None = None
    visible_until: datetime | None = None
    forced_status: str | None = None
    ssh_policy: SshPolicy = "own-key"
    authorized_keys: str | None = None

    def shown(self, at: datetime) -> bool:
        """Whether a read as of `at` shows it."""
        return self.visible_from <= at and (self.visible_until is None or at < self.visible_until)

    def status(self, at: datetime, settings: Settings) -> str:
        """fal's status of it as of `at`."""
        if self.deleted_at is not None and at >= self.deleted_at:
            return settings.deleting_status
        if self.forced_status is not None:
            return self.forced_status
        if at >= self.ready_at:
            return "ready"
        return "init" if at >= self.ready_at - timedelta(seconds=settings.init_s) else "provisioning"

    def ip(self, at: datetime, settings: Settings) -> str | None:
        """Its address, which fal shows once it is ready."""
        if self.address_index is None or self.status(at, settings) != "ready":
            return None
        return settings.addresses[self.address_index - 1]

    def answers_ssh(self, at: datetime, settings: Settings) -> bool:
        """Whether its SSH server is up at `at`."""
        return self.ip(at, settings) is not None and at >= self.ready_at + timedelta(seconds=settings.ssh_delay_s)

    def changes(self, settings: Settings) -> tuple[datetime, ...]:
        """The moments at which its SSH server comes or goes."""
        up = self.ready_at + timedelta(seconds=settings.ssh_delay_s)
        return (up,) if self.deleted_at is None else (up, self.deleted_at)

    def deleted(self, at: datetime, linger_s: float) -> "Machine":
        """The same machine, stopped at `at` and listed for `linger_s` seconds more."""
        return replace(self, deleted_at=at, visible_until=at + timedelta(seconds=linger_s))

    def as_json(self, at: datetime, settings: Settings) -> dict[str, Any]:
        """fal's JSON object of it as of `at`; optional fields that are not known are left out."""
        optional = {"sector": self.sector, "ip": self.ip(at, settings)}
        return {
            "id": self.id,
            "instance_type": self.instance_type,
            "region": self.region,
            "status": self.status(at, settings),
            "creator_user_nickname": self.account,
            **{name: value for name, value in optional.items() if value is not None},
        }


class InstanceView(Struct, frozen=True, kw_only=True):
    """All that is true of an instance, for tests and people; fal's own answers show less."""

    id: str
    account: str
    instance_type: str
    public_key: str | None
    created_at: datetime
    deleted_at: datetime | None
    status: str
    ip: str | None
    address_index: int | None
    sector: str | None
    shown: bool
    ssh_policy: SshPolicy
    authorized_keys: str | None


def view(machine: Machine, at: datetime, settings: Settings) -> InstanceView:
    """The instance as it is at `at`."""
    return InstanceView(
        id=machine.id,
        account=machine.account,
        instance_type=machine.instance_type,
        public_key=machine.public_key,
        created_at=machine.created_at,
        deleted_at=machine.deleted_at,
        status=machine.status(at, settings),
        ip=machine.ip(at, settings),
        address_index=machine.address_index,
        sector=machine.sector,
        shown=machine.shown(at),
        ssh_policy=machine.ssh_policy,
        authorized_keys=machine.authorized_keys,
    )
