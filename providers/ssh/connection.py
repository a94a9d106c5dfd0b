"""One SSH connection to a box, opened in named stages: `tcp`, `host-key`, `authentication`; then `session`.

Only the lease's key is offered: no agent, no configuration file, no password, no default key. The host key is
required or, at first contact, pinned, before any authentication. TCP_NODELAY and the cipher are set because
paramiko's own choices make a small exchange ten times and a large one half as fast again slower.
"""

import contextlib
import logging
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paramiko  # type: ignore[import-untyped]
from msgspec import Struct
from paramiko.common import MSG_CHANNEL_REQUEST  # type: ignore[import-untyped]
from paramiko.packet import Packetizer  # type: ignore[import-untyped]

from ledger.domain.errors import SshFailure
from ledger.domain.ports import Endpoint, RemoteCommand
from providers.ssh import hostkeys
from providers.ssh.faults import BROKEN, reason
from providers.ssh.keys import known_hosts_path, private_key_path
from providers.ssh.session import Session
from providers.ssh.wrapper import kill_line, wrapped

_FAST_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
_CHANNEL_S = 30.0
_KILL_S = 10.0
_JOIN_S = 1.0

# paramiko logs the traceback of every lost connection as an error, and Python puts errors on stderr.
_PARAMIKO_LOG = logging.getLogger("paramiko")
_PARAMIKO_LOG.addHandler(logging.NullHandler())
_PARAMIKO_LOG.propagate = False


class Limits(Struct, frozen=True, kw_only=True):
    """How long each stage may take, in seconds; and after how much silence the peer is asked if it is there."""

    tcp_s: float = 5.0
    handshake_s: float = 15.0
    authentication_s: float = 30.0
    tools_s: float = 30.0
    keepalive_s: float = 30.0


class _SignalReader(Packetizer):  # type: ignore[misc]
    """Keeps the name of the signal that ended each channel's command (RFC 4254, 6.10), which paramiko drops."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.exit_signals: dict[int, str] = {}

    def read_message(self) -> tuple[int, Any]:
        kind, message = super().read_message()
        if kind == MSG_CHANNEL_REQUEST:
            channel_id = message.get_int()
            if message.get_string() == b"exit-signal":
                message.get_boolean()
                self.exit_signals[channel_id] = message.get_string().decode("ascii", "replace")
            message.rewind()
        return kind, message


class Connection:
    """An authenticated connection. Use it as a context manager; `start` may be called any number of times."""

    def __init__(self, transport: Any, sock: socket.socket, *, where: str, host_key: str, keepalive_s: float) -> None:
        self.where = where
        self.host_key = host_key
        self._transport = transport
        self._sock = sock
        self._keepalive_s = keepalive_s
        self._silent = False
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="ssh-keepalive", daemon=True)
        self._watcher.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self, command: RemoteCommand) -> Session:
        """Starts a command and streams it. Raises SshFailure (stage `session`) where the box does not run it."""
        try:
            channel = self._transport.open_session(timeout=_CHANNEL_S)
            channel_id = channel.get_id()
            session = Session(
                channel,
                command,
                where=self.where,
                exit_signal=lambda: self._transport.packetizer.exit_signals.pop(channel_id, None),
                lost=self._lost,
                kill=self._kill,
            )
            # What was no text in an argument goes to the box as the bytes that it was.
            session.begin(wrapped(command.line).encode(errors="surrogateescape"))
        except BROKEN as error:
            raise SshFailure(f"{self.where}: the box runs no command: {reason(error)}.", stage="session") from error
        return session

    def close(self) -> None:
        """Ends the connection and its threads; may be called again."""
        self._closing.set()
        _shut(self._transport, self._sock)
        self._watcher.join(_JOIN_S)

    def _kill(self, process_group: int, signal_name: str) -> bool:
        try:
            with contextlib.closing(self._transport.open_session(timeout=_KILL_S)) as channel:
                channel.exec_command(kill_line(process_group, signal_name))
                if not channel.status_event.wait(_KILL_S):
                    raise TimeoutError
                status: int = channel.recv_exit_status()
        except BROKEN as error:
            raise SshFailure(
                f"{self.where}: the command could not be sent {signal_name}: {reason(error)}.",
                stage="session",
                hint="It may still be running on the box.",
            ) from error
        return status == 0

    def _lost(self) -> str:
        if self._silent:
            return f"the box was silent for {self._keepalive_s:g} s"
        return reason(self._transport.get_exception())

    def _watch(self) -> None:
        """Asks the peer for an answer every so often, since TCP alone notices a dead one after a quarter of an hour."""
        while not self._closing.wait(self._keepalive_s):
            alarm = threading.Timer(self._keepalive_s, self._give_up)
            alarm.daemon = True
            alarm.start()
            try:
                self._transport.global_request("keepalive@openssh.com", wait=True)
            except BROKEN:
                return
            finally:
                alarm.cancel()

    def _give_up(self) -> None:
        self._silent = True
        _shut(self._transport, self._sock)


def connect(endpoint: Endpoint, keys_root: Path, *, limits: Limits | None = None) -> Connection:
    """Opens a connection to the endpoint with its lease's key. `keys_root` is the folder of all leases' keys.

    Raises SshFailure naming the stage it failed at, UsageFailure for a bad lease id.
    """
    limits = limits or Limits()
    where = f"{endpoint.host}:{endpoint.port}"
    key = _private_key(endpoint, keys_root, where)
    sock = _tcp(endpoint, where, limits)
    transport = None
    try:
        transport = paramiko.Transport(sock, packetizer_class=_SignalReader)
        shown = _host_key(transport, endpoint, keys_root, where, limits)
        _authenticate(transport, endpoint, key, where, limits)
    except BaseException:
        _shut(transport, sock)
        raise
    return Connection(transport, sock, where=where, host_key=shown, keepalive_s=limits.keepalive_s)


def _private_key(endpoint: Endpoint, keys_root: Path, where: str) -> Any:
    path = private_key_path(keys_root, endpoint.lease_id)
    try:
        return paramiko.Ed25519Key.from_private_key_file(str(path))
    except BROKEN as error:
        raise SshFailure(
            f"{where}: the private key of {endpoint.lease_id} cannot be read: {reason(error)}.",
            stage="authentication",
            hint="A lease's key stays on the machine that made the lease and goes when the lease is released.",
        ) from None


def _tcp(endpoint: Endpoint, where: str, limits: Limits) -> socket.socket:
    try:
        sock = socket.create_connection((endpoint.host, endpoint.port), timeout=limits.tcp_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, UnicodeError) as error:
        raise SshFailure(f"{where}: no TCP connection: {reason(error)}.", stage="tcp") from error
    return sock


def _host_key(transport: Any, endpoint: Endpoint, keys_root: Path, where: str, limits: Limits) -> str:
    """Shakes hands, then requires or pins the host key, and gives its line."""
    known_hosts = known_hosts_path(keys_root, endpoint.lease_id)
    try:
        expected = hostkeys.expected_key(known_hosts, endpoint)
        _prefer(transport, expected)
        # The limit is kept below; paramiko's own would race with it for the message.
        transport.banner_timeout = transport.handshake_timeout = 2 * limits.handshake_s
        negotiated = threading.Event()
        transport.start_client(event=negotiated)
        if not negotiated.wait(limits.handshake_s):
            raise TimeoutError
        if not transport.is_active():
            raise transport.get_exception() or EOFError
        server_key = transport.get_remote_server_key()
        shown = f"{server_key.get_name()} {server_key.get_base64()}"
        hostkeys.require_same(shown if expected is None else expected, shown, host=endpoint.host, port=endpoint.port)
        if hostkeys.pinned_key(known_hosts, endpoint.host, endpoint.port) != shown:
            hostkeys.pin(known_hosts, endpoint.host, endpoint.port, shown)
    except BROKEN as error:
        raise SshFailure(f"{where}: no host key: {reason(error)}.", stage="host-key") from error
    return shown


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


def _authenticate(transport: Any, endpoint: Endpoint, key: Any, where: str, limits: Limits) -> None:
    transport.auth_timeout = limits.authentication_s
    try:
        still_wanted = transport.auth_publickey(endpoint.user, key)
    except paramiko.BadAuthenticationType as error:
        methods = ", ".join(error.allowed_types) or "nothing else"
        raise _refused(endpoint, where, f"it takes no public key, but {methods}") from error
    except BROKEN as error:
        raise _refused(endpoint, where, reason(error)) from error
    if still_wanted:
        raise _refused(endpoint, where, f"it wants {', '.join(still_wanted)} as well")


def _refused(endpoint: Endpoint, where: str, why: str) -> SshFailure:
    return SshFailure(
        f"{where}: {endpoint.user} was not let in with the lease's key: {why}.",
        stage="authentication",
        hint="A box may need a moment after its start until it knows the key; otherwise check the login name.",
    )


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
