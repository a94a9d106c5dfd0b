"""fal's JSON, read strictly: wrong or missing fields are errors, unknown ones are not.

Shapes from fal's OpenAPI document of 2026-08-21. Every reader here raises `Undecodable`, whose text names the
field and never repeats a value.
"""

from decimal import Decimal
from typing import TypeVar

import msgspec
from msgspec import Struct

from ledger.domain.ports import Account, CreateRequest, Instance

T = TypeVar("T")

_LARGEST_BALANCE_DIGITS = 30


class Undecodable(Exception):
    """The body is not what fal documents."""


class Page(Struct, frozen=True):
    """One page of the inventory. All three fields are required; only the cursor may be null."""

    instances: list[Instance]
    next_cursor: str | None
    has_more: bool


class ErrorBody(Struct, frozen=True):
    """fal's error object; `type` is one of a documented set that may grow."""

    type: str
    message: str
    docs_url: str | None = None
    request_id: str | None = None


class _ErrorEnvelope(Struct, frozen=True):
    error: ErrorBody


class _Credits(Struct, frozen=True):
    current_balance: Decimal
    currency: str


class _Billing(Struct, frozen=True):
    username: str
    credits: _Credits | None = None


def encode_create(request: CreateRequest) -> bytes:
    """The body of a create, the same bytes for the same request; a sector only where there is one."""
    body = {"instance_type": request.instance_type, "ssh_key": request.ssh_key}
    if request.sector:
        body["sector"] = request.sector
    return msgspec.json.encode(body)


def decode_instance(body: bytes) -> Instance:
    """One instance with an id; blank optional fields read as absent."""
    return _checked(_decode(body, Instance))


def decode_page(body: bytes) -> Page:
    """One inventory page that says clearly whether another follows, every instance with an id."""
    page = _decode(body, Page)
    if page.has_more != bool(page.next_cursor):
        raise Undecodable("has_more and next_cursor contradict each other")
    return msgspec.structs.replace(page, instances=[_checked(instance) for instance in page.instances])


def decode_account(body: bytes) -> Account:
    """The account's name and its balance, digit for digit as fal wrote it."""
    billing = _decode(body, _Billing)
    if not billing.username.strip():
        raise Undecodable("the account has no name")
    if billing.credits is None:
        return Account(username=billing.username)
    balance = billing.credits.current_balance
    if not balance.is_finite() or abs(balance.adjusted()) > _LARGEST_BALANCE_DIGITS:
        raise Undecodable("the balance is not an amount of money")
    return Account(username=billing.username, balance=f"{balance:f}", currency=billing.credits.currency)


def decode_error(body: bytes) -> ErrorBody | None:
    """fal's error object, or None where the body is anything else (a proxy's page, an unfinished answer)."""
    try:
        error = _decode(body, _ErrorEnvelope).error
    except Undecodable:
        return None
    return error if error.type.strip() else None


def _checked(instance: Instance) -> Instance:
    if not instance.id.strip():
        raise Undecodable("an instance has no id")
    return msgspec.structs.replace(
        instance,
        ip=instance.ip or None,
        sector=instance.sector or None,
        creator_user_nickname=instance.creator_user_nickname or None,
    )


def _decode(body: bytes, shape: type[T]) -> T:
    problem = "it is not JSON"
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        problem = str(error)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    raise Undecodable(problem)
