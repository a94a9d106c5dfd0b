"""Opens connections to fal as the environment says: its proxy and its certificate authorities.

httpx's transport is used without its client, which would keep cookies and log the server's own words.
"""

import functools
import ssl
import urllib.request
from urllib.parse import urlsplit

import httpx

from providers.fal.endpoint import ApiEndpoint

_KEEP_ALIVE_S = 15


class EnvironmentUnusableError(Exception):
    """The proxy or certificate settings of the environment cannot be used."""


@functools.cache
def shared_ssl_context() -> ssl.SSLContext:
    """The process's one context: the authorities of SSL_CERT_FILE or SSL_CERT_DIR, else those that httpx ships."""
    return httpx.create_ssl_context()


@functools.cache
def _unused_ssl_context() -> ssl.SSLContext:
    """What httpx wants even for plain http: trusts nobody, and costs nothing to make."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def open_connections(endpoint: ApiEndpoint, *, keep: int) -> httpx.HTTPTransport:
    """Connections to `endpoint`, of which up to `keep` stay open while they are idle.

    Raises `EnvironmentUnusableError`, which repeats no setting: a proxy's URL may hold a password.
    """
    try:
        context = shared_ssl_context() if endpoint.secure else _unused_ssl_context()
        limits = httpx.Limits(max_keepalive_connections=keep, keepalive_expiry=_KEEP_ALIVE_S)
        return httpx.HTTPTransport(verify=context, limits=limits, proxy=_proxy(endpoint, context))
    except (ImportError, ValueError, OSError, httpx.InvalidURL):
        pass
    raise EnvironmentUnusableError


def _proxy(endpoint: ApiEndpoint, context: ssl.SSLContext) -> httpx.Proxy | None:
    """The environment's proxy for https; never one for this machine."""
    host = urlsplit(endpoint.base_url).hostname or ""
    if endpoint.loopback or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    url = proxies.get("https") or proxies.get("all")
    if not url:
        return None
    proxy = url if "://" in url else f"http://{url}"
    # httpx refuses a context for a proxy that is spoken to in the clear, and makes its own where it has none.
    return httpx.Proxy(proxy, ssl_context=context if proxy.lower().startswith("https:") else None)
