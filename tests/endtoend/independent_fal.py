"""A second, independent fal: written from fal's facts alone, sharing nothing with the emulator.

Its boxes are all one SSH server on 127.0.0.1, whose authorized_keys file gets the key of each create.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

KEY = "independent-key"


class IndependentFal(ThreadingHTTPServer):
    """Serves the four Compute calls; `calls` has each request's method and path."""

    daemon_threads = False

    def __init__(self, authorized_keys: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.authorized_keys = authorized_keys
        self.instances: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: IndependentFal
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if not self._allowed():
            return
        path = self.path.partition("?")[0]
        if path == "/v1/compute/instances":
            self._answer(
                200, {"instances": list(self.server.instances.values()), "next_cursor": None, "has_more": False}
            )
        elif path == "/v1/account/billing":
            self._answer(200, {"username": "team"})
        else:
            self._one(path, lambda instance: (200, instance))

    def do_POST(self) -> None:
        if not self._allowed():
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        idempotency_key = self.headers["Idempotency-Key"]
        if idempotency_key not in self.server.answers:
            instance = {
                "id": f"box-{len(self.server.answers) + 1}",
                "instance_type": body["instance_type"],
                "region": "eu-north",
                "status": "ready",
                "ip": "127.0.0.1",
                "added_later": True,
            }
            with self.server.authorized_keys.open("a") as file:
                file.write(body["ssh_key"] + "\n")
            self.server.instances[instance["id"]] = instance
            self.server.answers[idempotency_key] = instance
        self._answer(201, self.server.answers[idempotency_key])

    def do_DELETE(self) -> None:
        if self._allowed():
            self._one(self.path, lambda instance: (204, self.server.instances.pop(instance["id"]) and None))

    def _one(self, path: str, then: Any) -> None:
        instance = self.server.instances.get(path.rpartition("/")[2])
        if instance is None:
            self._answer(404, {"error": {"type": "not_found", "message": "Resource not found"}})
        else:
            self._answer(*then(instance))

    def _allowed(self) -> bool:
        self.server.calls.append((self.command, self.path))
        if self.headers["Authorization"] == f"Key {KEY}":
            return True
        self._answer(401, {"error": {"type": "authorization_error", "message": "Authentication required"}})
        return False

    def _answer(self, status: int, body: dict[str, Any] | None) -> None:
        payload = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        if payload:
            self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)
