"""Which redirects may be followed. Pure.

A create or a delete that comes back as a GET would look like success, and a key that follows a redirect to another
origin is given away: both are refused before anything leaves.
"""

from urllib.parse import SplitResult, urljoin, urlsplit

from msgspec import Struct

MAX_REDIRECTS = 10

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_METHOD_PRESERVING = frozenset({307, 308})
_DEFAULT_PORTS = {"https": 443, "http": 80}


class Refused(Struct, frozen=True):
    """A redirect that is not followed, and why; it never names the target."""

    reason: str


def is_redirect(status: int) -> bool:
    return status in _REDIRECTS


def next_url(method: str, url: str, *, status: int, location: str) -> str | Refused:
    """Where the same request goes next, or why it goes nowhere.

    `url` is the request's own, `location` the header's value. Reads follow every redirect of their own origin,
    mutations only 307 and 308.
    """
    if method != "GET" and status not in _METHOD_PRESERVING:
        return Refused(f"unsafe redirect: {status} would turn the {method} into a GET")
    here = urlsplit(url)
    try:
        target = urlsplit(urljoin(url, location.strip()))
        origin = _origin(target)
    except ValueError:
        origin = None
    if not location.strip() or origin is None:
        return Refused(f"{status} without a usable Location")
    if origin != _origin(here) or "@" in target.netloc:
        return Refused("redirect to another origin")
    return target._replace(fragment="", netloc=here.netloc).geturl()


def _origin(parts: SplitResult) -> tuple[str, str, int | None]:
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme)
