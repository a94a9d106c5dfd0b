"""A small real HTTP server on loopback: it records whole requests and plays scripted answers.

An answer is bytes, or a function that takes the connection and does what it likes with it.
"""

import contextlib
import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO

from msgspec import Struct

from providers.fal.client import FalClient

PATIENCE_S = 10.0
"""How long a test waits for something that must happen."""

KEY = "0f6a1c1e-0000-4000-8000-00000000cafe:s3cr3t-half"
NOW = datetime(2026, 8, 21, 12, 0, tzinfo=UTC)


class Recorded(Struct, frozen=True):
    """One request as it came over the wire; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""


class FalServer:
    """Serves one connection a thread, with keep-alive, until it is stopped."""

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        self.connections: list[int] = []
        self.endings: queue.Queue[str] = queue.Queue()
        self.stopping = threading.Event()
        self._answers: queue.Queue[Behaviour] = queue.Queue()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._spawn(self._accept)

    def play(self, *answers: "Behaviour") -> None:
        for answer in answers:
            self._answers.put(answer)

    def stop(self) -> None:
        self.stopping.set()
        for opened in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                connection, (_, client_port) = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            self.connections.append(client_port)
            self._spawn(lambda connection=connection: self._serve(connection))  # type: ignore[misc]

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                while (request := read_request(stream)) is not None:
                    self.requests.append(request)
                    answer = self._answers.get_nowait()
                    if callable(answer):
                        answer(self, connection)
                    else:
                        connection.sendall(answer)
            self.endings.put("closed")
        except ConnectionResetError:
            self.endings.put("reset")
        except (OSError, ValueError):
            self.endings.put("broken")


Behaviour = bytes | Callable[[FalServer, socket.socket], None]


def read_request(stream: BinaryIO) -> Recorded | None:
    """The next request of a connection, or None at its end."""
    line = stream.readline().decode("latin-1").split()
    if not line:
        return None
    headers: dict[str, str] = {}
    while (field := stream.readline().decode("latin-1").strip()) != "":
        name, _, value = field.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", "0")))
    return Recorded(method=line[0], target=line[1], headers=headers, body=body)


def reply(
    status: int, body: object = None, *, reason: str = "", headers: Mapping[str, str] | None = None, raw: bytes = b""
) -> bytes:
    """A complete answer: `body` as JSON, or `raw` as it is."""
    content = raw if body is None else json.dumps(body).encode()
    fields = {"Content-Length": str(len(content)), **(headers or {})}
    head = f"HTTP/1.1 {status} {reason}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return head.encode("latin-1") + b"\r\n" + content


def fault(status: int, **error: Any) -> bytes:
    """An answer with fal's error object."""
    return reply(status, {"error": error})


def instance(instance_id: str = "inst_1", **fields: Any) -> dict[str, Any]:
    return {
        "id": instance_id,
        "instance_type": "gpu_1x_h100_sxm5",
        "region": "us-west",
        "status": "ready",
        **fields,
    }


def page(*instances: dict[str, Any], cursor: str | None = None) -> bytes:
    return reply(200, {"instances": list(instances), "next_cursor": cursor, "has_more": cursor is not None})


def silence(server: FalServer, connection: socket.socket) -> None:
    """Answers nothing until the client ends the connection."""
    connection.recv(1)


def dribble(prefix: bytes, drop: bytes) -> Behaviour:
    """Sends `prefix`, then `drop` again and again, faster than any timeout of a socket, until the client leaves."""

    def behave(server: FalServer, connection: socket.socket) -> None:
        connection.sendall(prefix)
        while not server.stopping.wait(0.02):
            connection.sendall(drop)

    return behave


def hang_up(prefix: bytes = b"") -> Behaviour:
    """Sends `prefix` and closes the connection."""

    def behave(server: FalServer, connection: socket.socket) -> None:
        connection.sendall(prefix)
        # A client that has seen enough may have reset the connection already.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)

    return behave


@contextlib.contextmanager
def running() -> Iterator[FalServer]:
    server = FalServer()
    try:
        yield server
    finally:
        server.stop()


def client_of(server: FalServer, *, key: str = KEY, timeout_s: float = PATIENCE_S) -> FalClient:
    return FalClient(server.url, key, now=lambda: NOW, timeout_s=timeout_s)


def sent_headers(server: FalServer, **more: str) -> dict[str, str]:
    """Every header that a request of the client holds, `more` with underscores for dashes."""
    return {
        "host": f"127.0.0.1:{server.port}",
        "authorization": f"Key {KEY}",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "rentroll",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
