"""One bounded HTTP call: whatever the other side does, the caller has an `Answer` or a `Loss` in time.

The network keeps each exchange inside its time, because a name lookup cannot be interrupted and a server that sends
one byte now and then renews every timeout of the socket. Outcomes are values: no exception of the HTTP library, whose
text and context may hold the key, crosses this border.
"""

import threading
from collections.abc import Mapping
from typing import Literal

import httpx
from msgspec import Struct

from providers.fal.attempt import Attempt
from providers.fal.connections import EnvironmentUnusableError
from providers.fal.endpoint import ApiEndpoint
from providers.fal.network import Network
from providers.fal.redirects import MAX_REDIRECTS, Refused, is_redirect, next_url

MAX_BODY_BYTES = 16 * 1024 * 1024

_RESET_GRACE_S = 0.5
_KEPT = 4


class Answer(Struct, frozen=True):
    """One complete answer. Header values are as sent; None where the header is missing."""

    status: int
    reason: str
    body: bytes
    date: str | None
    retry_after: str | None
    location: str | None


class Loss(Struct, frozen=True):
    """No complete, usable answer. `status` is of the unfinished or refused answer; `detail` may hold a secret."""

    cause: Literal["deadline", "connection", "answer", "redirect", "setup"]
    detail: str
    sent: bool
    status: int | None


class Transport:
    """The connections to one endpoint: kept alive for reads, one of its own for each mutation.

    A mutation never rides on a kept connection: the server may be closing it, and the outcome would be in doubt for
    nothing.
    """

    def __init__(self, endpoint: ApiEndpoint, network: Network) -> None:
        self._endpoint = endpoint
        self._network = network
        self._kept: httpx.BaseTransport | None = None
        self._lock = threading.Lock()

    def call(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> Answer | Loss:
        """Does the request and the redirects that may be followed, all within `timeout_s` seconds.

        A POST that ends without a complete answer has its connection reset.
        """
        deadline_s = self._network.monotonic_s() + timeout_s
        attempt = Attempt(reset_unless_answered=method == "POST")
        extensions = {"trace": attempt.observe}
        for _ in range(MAX_REDIRECTS + 1):
            try:
                request = httpx.Request(method, url, headers=headers, content=body, extensions=extensions)
            except httpx.InvalidURL:
                return _lost("redirect", "its target is no URL", attempt)
            outcome = self._exchange(request, attempt, deadline_s)
            if isinstance(outcome, Loss) or not is_redirect(outcome.status):
                return outcome
            target = next_url(method, url, status=outcome.status, location=outcome.location or "")
            if isinstance(target, Refused):
                return _lost("redirect", target.reason, attempt)
            url = target
        return _lost("redirect", f"more than {MAX_REDIRECTS} redirects", attempt)

    def close(self) -> None:
        """Closes the kept connections and what the network keeps; a later call makes new ones."""
        with self._lock:
            kept, self._kept = self._kept, None
        self._network.close()
        if kept is not None:
            kept.close()

    def _exchange(self, request: httpx.Request, attempt: Attempt, deadline_s: float) -> Answer | Loss:
        kept = request.method == "GET"
        try:
            connections = self._kept_connections() if kept else self._network.connect(self._endpoint, keep=0)
        except EnvironmentUnusableError:
            return _lost("setup", "the proxy or certificate settings of the environment cannot be used", attempt)
        try:
            return self._supervise(connections, request, attempt, deadline_s)
        finally:
            if not kept:
                connections.close()

    def _supervise(
        self, connections: httpx.BaseTransport, request: httpx.Request, attempt: Attempt, deadline_s: float
    ) -> Answer | Loss:
        outcomes: list[Answer | Loss] = []

        def job() -> None:
            left_s = deadline_s - self._network.monotonic_s()
            outcomes.append(_perform(connections, request, attempt, left_s))

        def give_up() -> float:
            attempt.give_up()
            # Nothing waits for the end of a read: it changes nothing, and what comes next may be urgent.
            return _RESET_GRACE_S if attempt.sent and request.method != "GET" else 0.0

        in_time = self._network.carry_out(job, deadline_s=deadline_s, give_up=give_up)
        if not in_time and request.method == "GET":
            # A kept connection was not made under this attempt's eyes: only the pool can end it.
            self.close()
        answered = outcomes and (isinstance(outcomes[0], Answer) or in_time)
        return outcomes[0] if answered else _lost("deadline", "", attempt)

    def _kept_connections(self) -> httpx.BaseTransport:
        with self._lock:
            if self._kept is None:
                self._kept = self._network.connect(self._endpoint, keep=_KEPT)
            return self._kept


def _perform(
    connections: httpx.BaseTransport, request: httpx.Request, attempt: Attempt, left_s: float
) -> Answer | Loss:
    if left_s <= 0:
        return _lost("deadline", "", attempt)
    request.extensions["timeout"] = httpx.Timeout(left_s).as_dict()
    try:
        return _read(connections.handle_request(request), attempt)
    except httpx.TimeoutException:
        return _lost("deadline", "", attempt)
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller is owed how far the request came
        return _lost("connection", str(error) or type(error).__name__, attempt)


def _read(response: httpx.Response, attempt: Attempt) -> Answer | Loss:
    body = bytearray()
    try:
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                return _lost("answer", f"larger than {MAX_BODY_BYTES // 1024**2} MiB", attempt)
    finally:
        response.close()
    # Compression was not asked for; decoding it would undo the limit.
    encoded = response.headers.get("content-encoding", "identity") != "identity"
    return Answer(
        status=response.status_code,
        reason=response.reason_phrase,
        body=b"" if encoded else bytes(body),
        date=response.headers.get("date"),
        retry_after=response.headers.get("retry-after"),
        location=response.headers.get("location"),
    )


def _lost(
    cause: Literal["deadline", "connection", "answer", "redirect", "setup"], detail: str, attempt: Attempt
) -> Loss:
    return Loss(cause=cause, detail=detail, sent=attempt.sent, status=attempt.status)
