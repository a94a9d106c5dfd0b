"""From an address to an SSH server that has proved which host key it holds: the stages `tcp` and `host-key`.

Nothing is authenticated here, nothing is read from or written to a known_hosts file. TCP_NODELAY and the cipher are
set because paramiko's own choices make a small exchange ten times and a large one half as fast again slower.
"""

import contextlib
import logging
import math
import socket
from time import monotonic
from types import TracebackType
from typing import Any, Self

from msgspec import Struct

from ledger.domain.errors import SshFailure
from ledger.domain.ports import Endpoint
from ledger.noticing import SafeEvent
from providers.ssh import hostkeys
from providers.ssh.faults import BROKEN, reason
from providers.ssh.library import paramiko

_FAST_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
_JOIN_S = 1.0
_LEAST_S = 0.001

# paramiko logs the traceback of every lost connection as an error, and Python puts errors on stderr.
_PARAMIKO_LOG = logging.getLogger("paramiko")
_PARAMIKO_LOG.addHandler(logging.NullHandler())
_PARAMIKO_LOG.propagate = False


class Limits(Struct, frozen=True, kw_only=True):
    """How long each stage may take, in seconds; and after how much silence the peer is asked if it is there.

    `probe_s` is for one whole connection of a key proof, with half of it for TCP and half for the handshake at most.
    `end_s` is when all of it has to be over, on the monotonic clock.
    """

    tcp_s: float = 5.0
    handshake_s: float = 15.0
    authentication_s: float = 30.0
    tools_s: float = 30.0
    keepalive_s: float = 30.0
    probe_s: float = 10.0
    end_s: float = math.inf

    def left_of(self, stage_s: float) -> float:
        """What a stage may still take: its own limit, or what is left; never so little that it could not say why."""
        return max(min(stage_s, self.end_s - monotonic()), _LEAST_S)


class _SignalReader(paramiko.packet.Packetizer):  # type: ignore[misc]
    """Keeps the name of the signal that ended each channel's command (RFC 4254, 6.10), which paramiko drops."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.exit_signals: dict[int, str] = {}

    def read_message(self) -> tuple[int, Any]:
        kind, message = super().read_message()
        if kind == paramiko.common.MSG_CHANNEL_REQUEST:
            channel_id = message.get_int()
            if message.get_string() == b"exit-signal":
                message.get_boolean()
                self.exit_signals[channel_id] = message.get_string().decode("ascii", "replace")
            message.rewind()
        return kind, message


class Server:
    """A server under its proven host key (`host_key`, its line), before authentication. Usable as a context manager.

    `where` is `host:port` for messages, `transport` paramiko's.
    """

    def __init__(self, transport: Any, sock: socket.socket, *, where: str, host_key: str) -> None:
        self.transport = transport
        self.sock = sock
        self.where = where
        self.host_key = host_key

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and its thread; may be called again, and from any thread."""
        _shut(self.transport, self.sock)


def shake_hands(endpoint: Endpoint, *, expected: str | None, limits: Limits) -> Server:
    """Connects and lets the server prove its host key, which has to be `expected` (type and base64) if that is given.

    Raises SshFailure naming the stage it failed at, HostKeyChanged for another host key.
    """
    where = f"{endpoint.host}:{endpoint.port}"
    sock = _tcp(endpoint, where, limits)
    transport = None
    try:
        transport = paramiko.Transport(sock, packetizer_class=_SignalReader)
        shown = _host_key(transport, expected, where, limits)
        hostkeys.require_same(shown if expected is None else expected, shown, host=endpoint.host, port=endpoint.port)
    except BaseException:
        _shut(transport, sock)
        raise
    return Server(transport, sock, where=where, host_key=shown)


def loss(transport: Any) -> Exception:
    """Why a transport's connection ended: one of BROKEN, also where the peer's nonsense broke paramiko's parser."""
    error = transport.get_exception()
    if error is None:
        return EOFError()
    return error if isinstance(error, BROKEN) else paramiko.SSHException("the other side broke the protocol")


def _tcp(endpoint: Endpoint, where: str, limits: Limits) -> socket.socket:
    try:
        sock = socket.create_connection((endpoint.host, endpoint.port), timeout=limits.left_of(limits.tcp_s))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, UnicodeError) as error:
        raise SshFailure(f"{where}: no TCP connection: {reason(error)}.", stage="tcp") from error
    return sock


def _host_key(transport: Any, expected: str | None, where: str, limits: Limits) -> str:
    try:
        _prefer(transport, expected)
        # The limit is kept below; paramiko's own would race with it for the message.
        handshake_s = limits.left_of(limits.handshake_s)
        transport.banner_timeout = transport.handshake_timeout = 2 * handshake_s
        negotiated = SafeEvent()
        transport.start_client(event=negotiated)
        if not negotiated.wait(handshake_s):
            raise TimeoutError
        if not transport.is_active():
            raise loss(transport)
        server_key = transport.get_remote_server_key()
    except BROKEN as error:
        raise SshFailure(f"{where}: no host key: {reason(error)}.", stage="host-key") from error
    return f"{server_key.get_name()} {server_key.get_base64()}"


def _prefer(transport: Any, expected: str | None) -> None:
    """Puts the fast ciphers first, and the type of the expected host key, as a server may have several."""
    options = transport.get_security_options()
    options.ciphers = (*_FAST_CIPHERS, *(name for name in options.ciphers if name not in _FAST_CIPHERS))
    if expected is None:
        return
    kind = expected.partition(" ")[0]
    # An RSA key signs under newer names than its own (RFC 8332).
    wanted = [name for name in options.key_types if name == kind or (kind, name[:9]) == ("ssh-rsa", "rsa-sha2-")]
    options.key_types = (*wanted, *(name for name in options.key_types if name not in wanted))


def _shut(transport: Any, sock: socket.socket) -> None:
    # The shutdown wakes the transport's thread at once; a mere close would leave it to its next timeout.
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    if transport is not None:
        transport.close()
        # Its timer is no daemon: left alone it would hold up the end of the process.
        transport.packetizer.complete_handshake()
        if transport.is_alive():
            transport.join(_JOIN_S)
    sock.close()
