"""Which URL is fal's API, and by which canonical name the ledger remembers it. Pure; loads no HTTP client.

The refusals repeat nothing of the URL: it may hold a password or a token.
"""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from ledger.domain.errors import UsageFailure

DEFAULT_API_URL = "https://api.fal.ai/v1"
"""The base URL of fal's public Platform API (its OpenAPI document of 2026-08-21)."""

_DEFAULT_PORTS = {"https": 443, "http": 80}
_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~+-]+)*")


class ApiEndpoint(Struct, frozen=True):
    """A validated API URL: `base_url` in canonical form, without a trailing slash, and whether it is this machine."""

    base_url: str
    loopback: bool

    @property
    def scope(self) -> str:
        """The endpoint identity that is recorded with each lease."""
        return f"endpoint:{self.base_url}"

    @property
    def secure(self) -> bool:
        return self.base_url.startswith("https:")


def parse_endpoint(api_url: str) -> ApiEndpoint:
    """The endpoint that `api_url` names; blank means fal's own.

    Raises `UsageFailure` for anything but `https://host[:port][/path]`, or plain http to this machine: a user name,
    a query or a fragment could be a secret, and an escaped path would make the identity ambiguous.
    """
    text = api_url.strip() or DEFAULT_API_URL
    if "?" in text or "#" in text:
        raise _refusal("must have neither a query nor a fragment")
    if "@" in _split(text).netloc:
        raise _refusal("must not carry a user name or password")
    return _canonical(text)


def endpoint_scope(api_url: str) -> str:
    """The canonical scope of any spelling of a URL: without user name, query, fragment, default port, last slash.

    Raises `UsageFailure` where the rest names no endpoint that could be used.
    """
    text = re.split(r"[?#]", api_url.strip() or DEFAULT_API_URL, maxsplit=1)[0]
    userinfo, at, _ = _split(text).netloc.rpartition("@")
    return _canonical(text.replace(userinfo + at, "", 1) if at else text).scope


def _canonical(text: str) -> ApiEndpoint:
    parts = _split(text)
    host, loopback = _host(parts)
    if parts.scheme == "http" and not loopback:
        raise _refusal("must be https; plain http is accepted for this machine (loopback) only")
    path = parts.path.rstrip("/")
    if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise _refusal("must have a plain path: no escapes, empty or dot segments")
    port = _port(parts)
    shown_port = "" if port == _DEFAULT_PORTS[parts.scheme] else f":{port}"
    return ApiEndpoint(base_url=f"{parts.scheme}://{host}{shown_port}{path}", loopback=loopback)


def _split(text: str) -> SplitResult:
    # urlsplit drops tabs and line ends in silence, and a backslash ends a host for some parsers and not for others.
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise _refusal("holds characters that no URL has")
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in _DEFAULT_PORTS or not parts.netloc:
        raise _refusal("must be of the form https://host/path")
    return parts


def _host(parts: SplitResult) -> tuple[str, bool]:
    """The host as it is spelled canonically, and whether it is this machine."""
    host = parts.hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is not None and "%" not in host:
        # An IPv4 address inside an IPv6 one counts as loopback for some versions of Python only: for us it never does.
        is_loopback = address.is_loopback and getattr(address, "ipv4_mapped", None) is None
        return (f"[{address}]" if address.version == 6 else str(address)), is_loopback  # noqa: PLR2004
    if not _HOST_NAME.fullmatch(host):
        raise _refusal("must name a host")
    return host, host == "localhost"


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise _refusal("has a port that does not exist")
    return port or _DEFAULT_PORTS[parts.scheme]


def _refusal(reason: str) -> UsageFailure:
    return UsageFailure(f"The fal API URL {reason}.", hint=f"The default is {DEFAULT_API_URL}.")
