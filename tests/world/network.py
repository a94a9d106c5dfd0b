"""The network between a program and `MemoryFal`: no socket, no thread, no waiting; time passes on the virtual clock.

It raises what httpx's own connection pool raises and calls the `trace` extension as httpcore does, so that the real
client above it learns the same of how far a request came.
"""

from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple
from wsgiref.handlers import format_date_time

import httpx

from providers.emulator.messages import Request, Response
from providers.fal.endpoint import ApiEndpoint
from tests.flows.clock import VirtualClock
from tests.world.fal import MemoryFal

Trace = Callable[[str, Mapping[str, Any]], None]
MUTATIONS = {"POST": "create", "DELETE": "delete"}


class VirtualNetwork:
    """`providers.fal.network.Network` for one program.

    `reach` is its boundaries': `sent create` and `sent delete` are where it may die while such a request is on its
    way.
    """

    def __init__(self, fal: MemoryFal, clock: VirtualClock, reach: Callable[[str], None]) -> None:
        self._fal = fal
        self._clock = clock
        self._reach = reach

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s()

    def connect(self, endpoint: ApiEndpoint, *, keep: int) -> httpx.BaseTransport:
        return _Connections(self)

    def carry_out(self, job: Callable[[], None], *, deadline_s: float, give_up: Callable[[], float]) -> bool:
        job()  # the connections end it in virtual time
        return True

    def close(self) -> None:
        """Nothing is kept."""

    def exchange(self, request: httpx.Request) -> httpx.Response:
        """One request and its answer; raises what httpx would."""
        if not str(request.url).startswith(self._fal.url):
            raise httpx.ConnectError("[Errno 111] Connection refused")
        journey = _Journey(self._clock, request.extensions["timeout"]["read"], request.extensions["trace"])
        journey.set_out(request.method)
        response = self._deliver(_message(request), journey)
        journey.wait(response.delay_s + self._fal.latency_s)
        return journey.bring_back(response)

    def _deliver(self, message: Request, journey: "_Journey") -> Response:
        if message.method in MUTATIONS:
            try:
                self._reach(f"sent {MUTATIONS[message.method]}")
            except BaseException:
                self._fal.receive_late(message)
                raise
        response = self._fal.receive(message)
        if response.ticket is None:
            return response
        journey.wait(response.delay_s)
        return self._fal.resumed(response.ticket)


class _Connections(httpx.BaseTransport):
    def __init__(self, network: VirtualNetwork) -> None:
        self._network = network

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._network.exchange(request)


class _Journey:
    """One request on its way and back, in at most `limit_s` of virtual time."""

    def __init__(self, clock: VirtualClock, limit_s: float, trace: Trace) -> None:
        self._clock = clock
        self._ends_s = clock.monotonic_s() + limit_s
        self._trace = trace

    def set_out(self, method: str) -> None:
        self._trace("connection.connect_tcp.complete", {"return_value": _Stream()})
        self._trace("http11.send_request_headers.started", {"request": _Sent(method.encode())})

    def wait(self, seconds: float) -> None:
        """Passes so much time. Raises `httpx.ReadTimeout` at the limit."""
        left_s = self._ends_s - self._clock.monotonic_s()
        self._clock.wait(max(0.0, min(seconds, left_s)))
        if seconds >= left_s or self._clock.monotonic_s() >= self._ends_s:
            raise httpx.ReadTimeout("timed out")

    def bring_back(self, response: Response) -> httpx.Response:
        if response.status is None or response.connection.startswith("cut"):
            raise httpx.ReadError("[Errno 104] Connection reset by peer")
        headers = _headers(response)
        reason = _reason(response.status)
        received = (b"HTTP/1.1", response.status, reason, headers, b"")
        self._trace("http11.receive_response_headers.complete", {"return_value": received})
        return httpx.Response(
            response.status,
            headers=headers,
            stream=_Body(response, self._trace),
            extensions={"reason_phrase": reason},
        )


class _Stream:
    """A connection without a socket."""

    def get_extra_info(self, _name: str) -> None:
        return None


class _Sent(NamedTuple):
    """What httpcore tells of a request whose headers are about to leave."""

    method: bytes


class _Body(httpx.SyncByteStream):
    def __init__(self, response: Response, trace: Trace) -> None:
        self._response = response
        self._trace = trace

    def __iter__(self) -> Iterator[bytes]:
        body = b"" if self._response.status == HTTPStatus.NO_CONTENT else self._response.body
        sent = body[: self._response.sent_bytes] if self._response.connection == "truncate" else body
        yield sent
        if len(sent) < len(body):
            raise httpx.RemoteProtocolError(
                "peer closed connection without sending complete message body "
                f"(received {len(sent)} bytes, expected {len(body)})"
            )
        self._trace("http11.receive_response_body.complete", {"return_value": None})


def _message(request: httpx.Request) -> Request:
    return Request(
        method=request.method,
        target=request.url.raw_path.decode("ascii"),
        headers=dict(request.headers.items()),
        body=request.read(),
    )


def _headers(response: Response) -> list[tuple[str, str]]:
    headers = dict(response.headers)
    if response.date is not None:
        headers["date"] = format_date_time(response.date.timestamp())
    if response.status != HTTPStatus.NO_CONTENT:
        headers["content-length"] = str(len(response.body))
    return list(headers.items())


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
