"""What a provider tells of an account: its machines and its name."""

from datetime import datetime

from msgspec import Struct


class Instance(Struct, frozen=True, kw_only=True):
    """fal's view of one machine, as its OpenAPI document describes it (2026-08-21).

    `status` is one of ready, init, pending, provisioning, stopped, unknown, or a value added later; `ip` appears
    when the machine is ready.
    """

    id: str
    instance_type: str
    region: str
    status: str
    ip: str | None = None
    sector: str | None = None
    creator_user_nickname: str | None = None


class Inventory(Struct, frozen=True, kw_only=True):
    """One complete walk over an account's instances, sorted by id, each id once."""

    begun_at: datetime
    instances: tuple[Instance, ...]


class Account(Struct, frozen=True, kw_only=True):
    """The account's own name, and its credit balance where the key may read it (a decimal string)."""

    username: str
    balance: str | None = None
    currency: str | None = None
