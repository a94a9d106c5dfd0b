"""The providers by name, and what each can do. fal is the one there is."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from ledger.domain.errors import UsageFailure

if TYPE_CHECKING:
    from providers.fal.client import FalClient


class Capability(NamedTuple):
    """What a provider is and can do, without making it."""

    name: str
    aliases: tuple[str, ...]
    kind: str
    os: str
    features: tuple[str, ...]
    instance_types: tuple[str, ...]


FAL = Capability(
    name="fal",
    aliases=("fal-ai",),
    kind="ssh-lease",
    os="linux",
    features=("ssh", "sync", "cleanup"),
    instance_types=("gpu_1x_h100_sxm5", "gpu_8x_h100_sxm5"),
)
"""From fal's OpenAPI document of 2026-08-21."""
SECTORS = ("sector_1", "sector_2", "sector_3")


def capabilities() -> tuple[Capability, ...]:
    """What is built in."""
    return (FAL,)


def canonical_name(name: str) -> str:
    """The provider that a name or alias stands for (scenario CFG-01). Raises `UsageFailure`."""
    wanted = name.strip().lower()
    for capability in capabilities():
        if wanted in (capability.name, *capability.aliases):
            return capability.name
    raise UsageFailure(f"unknown provider {name.strip()!r}", hint="`rentroll providers` lists them")


def require_type(instance_type: str) -> str:
    """A type that fal leases. Raises `UsageFailure` naming the nearest."""
    if instance_type in FAL.instance_types:
        return instance_type
    raise UsageFailure(f"unknown instance type {instance_type!r}", hint=f"fal has {' and '.join(FAL.instance_types)}")


def takes_sector(instance_type: str) -> bool:
    """fal: a sector is only valid with the 8x type."""
    return instance_type == "gpu_8x_h100_sxm5"


def require_sector(sector: str) -> str:
    """A sector that fal knows. Raises `UsageFailure`."""
    if sector in SECTORS:
        return sector
    raise UsageFailure(f"unknown sector {sector!r}", hint=f"fal has {', '.join(SECTORS)}")


def gpus(instance_type: str) -> int:
    """How many GPUs a type has: the number in its name."""
    return int(instance_type.removeprefix("gpu_").partition("x")[0])


def open_provider(name: str | None, *, api_url: str, api_key: str, now: Callable[[], datetime]) -> "FalClient":
    """Makes the provider's client for one key at one URL."""
    canonical_name(name or FAL.name)
    from providers.fal.client import FalClient

    return FalClient(api_url, api_key, now=now)
