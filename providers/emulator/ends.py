"""The local ends of a command's pipes or terminal, with backpressure, on the event loop."""

import asyncio
import os
from typing import cast

_CHUNK_BYTES = 64 * 1024


class Source:
    """A reading end. It holds back a writer that is faster than whoever calls `read`."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        self._reader = reader
        self._transport = transport

    @classmethod
    async def open(cls, descriptor: int) -> "Source":
        """Takes over a descriptor."""
        reader = asyncio.StreamReader(limit=_CHUNK_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
        )
        return cls(reader, transport)

    async def read(self) -> bytes:
        """The next bytes; none at the end, which a terminal reports as an error."""
        try:
            return await self._reader.read(_CHUNK_BYTES)
        except OSError:
            return b""

    def close(self) -> None:
        """Closes the end: the writer gets SIGPIPE, or its terminal hangs up."""
        self._transport.close()


class Sink(asyncio.BaseProtocol):
    """A writing end. `write` waits while the reader is slow, and drops what nobody will read any more."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    @classmethod
    async def open(cls, descriptor: int) -> "Sink":
        """Takes over a descriptor."""
        file = os.fdopen(descriptor, "wb", buffering=0)
        _, sink = await asyncio.get_running_loop().connect_write_pipe(cls, file)
        return sink

    async def write(self, data: bytes) -> None:
        """Queues the bytes and waits until there is room for more."""
        if self._transport is not None:
            self._transport.write(data)
        await self._writable.wait()

    def end(self) -> None:
        """Closes the end once what was written has been read."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Closes the end at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop when the end is open."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def pause_writing(self) -> None:
        """Called by the transport when its buffer is full."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Called by the transport when its buffer has room."""
        self._writable.set()

    def connection_lost(self, _error: Exception | None) -> None:
        """Called by the transport when the reader has gone."""
        self._transport = None
        self._writable.set()
