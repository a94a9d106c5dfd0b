"""The emulator's HTTP server: carries requests to the state and answers back, and cuts connections for real."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from providers.emulator.clock import EmulatorClock
from providers.emulator.messages import Request, Response
from providers.emulator.state import FalState
from providers.emulator.wire import BadRequest, format_response, read_request

Observer = Callable[[Request], None]
"""Called in a thread of its own with each request of the API before it is handled; the request waits for it."""


class Control(Protocol):
    """The requests below `prefix`, which are not fal's but about the emulator."""

    prefix: str

    async def answer(self, request: Request, peer: str) -> Response: ...


class FalHttpServer:
    """Serves a `FalState` on 127.0.0.1 over HTTP/1.1 with keep-alive.

    `settle` is awaited after each handled request, before its answer leaves, so that what the answer shows (an
    address, say) is already true.
    """

    def __init__(
        self,
        state: FalState,
        clock: EmulatorClock,
        *,
        settle: Callable[[], Awaitable[None]],
        control: Control | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._state = state
        self._clock = clock
        self._settle = settle
        self._control = control
        self._observer = observer
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._deferred: set[asyncio.Task[Response]] = set()

    async def start(self, port: int) -> int:
        """Listens on 127.0.0.1 and gives the port; 0 asks for any. Raises `OSError` where it is taken."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Closes the listener and every connection, and gives up what is still waiting."""
        if self._server is None:
            return
        self._server.close()
        tasks: list[asyncio.Task[None] | asyncio.Task[Response]] = [*self._connections, *self._deferred]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._connections[task] = writer
        try:
            with contextlib.suppress(ConnectionError):
                await self._converse(reader, writer)
        except asyncio.CancelledError:
            # Only `stop` cancels, and it needs nothing more from this task; nor will it wait for a slow reader.
            writer.transport.abort()
        finally:
            del self._connections[task]
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        close = False
        while not close:
            try:
                request = await read_request(reader, writer)
            except BadRequest as error:
                response = _error(400, "validation_error", str(error), self._clock)
                writer.write(format_response(response, method="GET", close=True))
                return
            if request is None:
                return
            close = request.headers.get("connection", "").lower() == "close"
            response = await self._response(request, writer)
            await self._clock.wait_until_after(response.delay_s)
            if response.connection in ("cut-before", "cut-after"):
                _reset(writer)
                return
            writer.write(format_response(response, method=request.method, close=close))
            await writer.drain()
            close = close or response.connection == "truncate"

    async def _response(self, request: Request, writer: asyncio.StreamWriter) -> Response:
        if self._control is not None and request.target.startswith(self._control.prefix):
            return await self._control.answer(request, writer.get_extra_info("peername")[0])
        if self._observer is not None:
            await asyncio.to_thread(self._observer, request)
        response = self._state.handle(request, self._clock.now())
        if response.connection == "defer":
            # A task of its own: a deferred request is handled even if its client goes away.
            task = asyncio.create_task(self._resume(response))
            self._deferred.add(task)
            task.add_done_callback(self._deferred.discard)
            return await asyncio.shield(task)
        return await self._settled(response)

    async def _settled(self, response: Response) -> Response:
        try:
            await self._settle()
        except OSError as error:
            return _error(500, "server_error", f"a box did not come up: {error}", self._clock)
        return response

    async def _resume(self, deferred: Response) -> Response:
        await self._clock.wait_until_after(deferred.delay_s)
        if deferred.ticket is None:
            raise ValueError("a deferred answer has a ticket")
        response = self._state.resume(deferred.ticket, self._clock.now())
        return await self._settled(response)


def _error(status: int, error_type: str, message: str, clock: EmulatorClock) -> Response:
    body = msgspec.json.encode({"error": {"type": error_type, "message": message}})
    return Response(status=status, headers={"content-type": "application/json"}, body=body, date=clock.now())


def _reset(writer: asyncio.StreamWriter) -> None:
    # Lingering for no time makes the kernel send RST instead of FIN.
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
