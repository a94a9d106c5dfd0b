"""Reading requests as fal's OpenAPI document describes them (2026-08-21): routes, pages, create bodies. Pure."""

import base64
import binascii
from typing import Annotated, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from providers.emulator.machines import InstanceType, Sector
from providers.emulator.messages import Call, Request

ErrorType = Literal[
    "authorization_error", "validation_error", "not_found", "rate_limited", "server_error", "not_implemented"
]

BASE_PATH = "/v1"
MAX_BODY_BYTES = 64 * 1024

_INSTANCES: dict[str, Call] = {"GET": "list", "POST": "create"}
_INSTANCE: dict[str, Call] = {"GET": "get", "DELETE": "delete"}
_BILLING: dict[str, Call] = {"GET": "billing"}


class Refused(Exception):
    """The request is answered with this status and fal's error object."""

    def __init__(self, status: int, error_type: ErrorType, message: str, *, allow: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.message = message
        self.allow = allow


class Route(Struct, frozen=True):
    """Which call a request is. `other` has no handler; `allow` then lists the methods of a known path."""

    call: Call
    instance_id: str | None = None
    allow: tuple[str, ...] = ()


class Page(Struct, frozen=True):
    """The part of a list that is asked for; `number` counts from 1 and is what the cursor encodes."""

    number: int
    size: int


class CreateBody(Struct, frozen=True):
    """The body of a create, as the document types it."""

    instance_type: InstanceType
    ssh_key: Annotated[str, Meta(min_length=1)]
    sector: Sector | UnsetType = UNSET


def route(request: Request) -> Route:
    """Finds the call by method and path; an instance id is one percent-encoded path segment."""
    match urlsplit(request.target).path.removeprefix(BASE_PATH + "/").split("/"):
        case ["compute", "instances"]:
            return _by_method(_INSTANCES, request.method, None)
        case ["compute", "instances", segment] if segment:
            return _by_method(_INSTANCE, request.method, unquote(segment))
        case ["account", "billing"]:
            return _by_method(_BILLING, request.method, None)
        case _:
            return Route("other")


def _by_method(calls: dict[str, Call], method: str, instance_id: str | None) -> Route:
    call = calls.get(method)
    return Route("other", allow=tuple(calls)) if call is None else Route(call, instance_id)


def key(request: Request) -> str | None:
    """The API key of `Authorization: Key <key>`, or None where the header is missing or of another form."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return (secret.strip() or None) if scheme == "Key" else None


def idempotency_key(request: Request) -> str | None:
    """The trimmed `Idempotency-Key`; a blank one counts as none."""
    return request.headers.get("idempotency-key", "").strip() or None


def query(request: Request) -> dict[str, list[str]]:
    """The decoded query parameters, each with all its values."""
    return parse_qs(urlsplit(request.target).query, keep_blank_values=True)


def page(request: Request, cap: int) -> Page:
    """The page that `limit` and `cursor` name; a limit over `cap` means `cap`."""
    values = query(request)
    return Page(number=_page_number(_single(values, "cursor")), size=min(_limit(_single(values, "limit")), cap))


def cursor(number: int) -> str:
    """The cursor of a page: its number, as the document's own example (`Mg==`) has it."""
    return base64.b64encode(str(number).encode()).decode()


def _single(values: dict[str, list[str]], name: str) -> str | None:
    found = values.get(name)
    if found is None:
        return None
    if len(found) > 1:
        raise Refused(400, "validation_error", f"{name} is given more than once")
    return found[0]


def _limit(text: str | None) -> int:
    if text is None:
        return 1 << 31
    if not (text.isascii() and text.isdigit()) or int(text[:20]) < 1:
        raise Refused(400, "validation_error", "limit must be an integer of at least 1")
    return int(text[:20])


def _page_number(text: str | None) -> int:
    if text is None:
        return 1
    try:
        number = base64.b64decode(text, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        number = ""
    if not number.isdigit() or len(number) > 9 or int(number) < 1:  # noqa: PLR2004 - far past any real page
        raise Refused(400, "validation_error", "cursor is not one of ours")
    return int(number)


def create_body(request: Request) -> CreateBody:
    """The validated body of a create.

    Raises `Refused` (400) for anything else, also for a blank key and for a sector with the single-GPU type,
    which the document allows "only with gpu_8x_h100_sxm5".
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refused(400, "validation_error", "Content-Type must be application/json")
    if len(request.body) > MAX_BODY_BYTES:
        raise Refused(400, "validation_error", f"the body is longer than {MAX_BODY_BYTES} bytes")
    try:
        body = msgspec.json.decode(request.body, type=CreateBody)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, "validation_error", f"Invalid request parameters: {error}") from None
    if not body.ssh_key.strip():
        raise Refused(400, "validation_error", "ssh_key is blank")
    if body.sector is not UNSET and body.instance_type != "gpu_8x_h100_sxm5":
        raise Refused(400, "validation_error", "sector is only valid with gpu_8x_h100_sxm5")
    return body
