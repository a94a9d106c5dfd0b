"""An SSH server in this process that answers as a test likes, where the system's sshd cannot be brought to it."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import paramiko  # type: ignore[import-untyped]

from ledger.domain.ports import Endpoint
from tests.providers.sshd import LEASE

USER = "ubuntu"
Accepts = Callable[[int, str], bool]
"""Whether a public key line is accepted, given the number of the key's offer (from 1) over all connections."""
Mangle = Callable[[bytes], bytes | None]
"""What to send in the place of a message, None for silence; hangs up where it raises EOFError."""
SERVICE_ACCEPT, KEX_INIT, FAILURE, SUCCESS, PK_OK, CHANNEL_SUCCESS = 6, 20, 51, 52, 60, 99
"""Numbers of messages (RFC 4250, section 4.1)."""


class OddSshd:
    """Refuses `none` and accepts what `accepts` says. `offers` is each connection's offers, its key lines in order.

    It takes every command, and never says how one ended.
    """

    def __init__(self) -> None:
        self.accepts: Accepts = lambda _number, _line: False
        self.mangle: Mangle = lambda message: message
        self.allowed = "publickey"
        self.offers: list[list[str]] = []
        self._key = paramiko.ECDSAKey.generate()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._transports: list[paramiko.Transport] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def host_key(self) -> str:
        return f"{self._key.get_name()} {self._key.get_base64()}"

    @property
    def where(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def endpoint(self) -> Endpoint:
        return Endpoint(lease_id=LEASE, host="127.0.0.1", port=self._listener.getsockname()[1], user=USER)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for transport in self._transports:
            transport.close()
            transport.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.offers.append([])
            transport = _Transport(connection, self)
            transport.add_server_key(self._key)
            self._transports.append(transport)
            transport.start_server(event=threading.Event(), server=_Door(self, self.offers[-1]))


class _Door(paramiko.ServerInterface):  # type: ignore[misc]
    def __init__(self, server: OddSshd, offers: list[str]) -> None:
        self._server = server
        self._offers = offers

    def check_channel_request(self, _kind: str, _channel_id: int) -> int:
        return int(paramiko.common.OPEN_SUCCEEDED)

    def check_channel_exec_request(self, _channel: paramiko.Channel, _command: bytes) -> bool:
        return True

    def get_allowed_auths(self, _username: str) -> str:
        return self._server.allowed

    def check_auth_none(self, _username: str) -> int:
        self._offers.append("none")
        return int(paramiko.common.AUTH_FAILED)

    def check_auth_publickey(self, _username: str, key: paramiko.PKey) -> int:
        line = f"{key.get_name()} {key.get_base64()}"
        self._offers.append(line)
        number = sum(offer != "none" for offers in self._server.offers for offer in offers)
        accepted = self._server.accepts(number, line)
        return int(paramiko.common.AUTH_SUCCESSFUL if accepted else paramiko.common.AUTH_FAILED)


class _Transport(paramiko.Transport):  # type: ignore[misc]
    def __init__(self, connection: socket.socket, server: OddSshd) -> None:
        super().__init__(connection)
        self._server = server

    def _send_message(self, message: paramiko.Message) -> None:
        data = self._server.mangle(message.asbytes())
        if data is not None:
            super()._send_message(paramiko.Message(data))


@contextlib.contextmanager
def odd_server() -> Iterator[OddSshd]:
    """A server on a port of its own; its behaviour may be set until, and while, it is asked."""
    server = OddSshd()
    try:
        yield server
    finally:
        server.stop()
