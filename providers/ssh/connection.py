"""An SSH connection to a box, opened in named stages: `tcp`, `host-key`, `authentication`; then `session`.

Only the lease's key is offered: no agent, no configuration file, no password, no default key. The host key is
required or, at first contact, pinned, before any authentication.
"""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

from ledger.domain.errors import SshFailure
from ledger.domain.ports import Endpoint, RemoteCommand
from ledger.noticing import SafeEvent
from providers.ssh import hostkeys
from providers.ssh.faults import BROKEN, NO_STATUS, reason, within
from providers.ssh.handshake import Limits, Server, loss, shake_hands
from providers.ssh.keys import known_hosts_path, private_key_path
from providers.ssh.library import paramiko
from providers.ssh.session import Session
from providers.ssh.wrapper import kill_line, wrapped

_CHANNEL_S = 30.0
_JOIN_S = 1.0
# What paramiko's parser meets in a file that begins like a key; its own words may quote the file.
_DAMAGED: tuple[type[Exception], ...] = (ValueError, AssertionError, IndexError)


class KeyRefused(SshFailure):
    """The server answered that it does not let this key in: a refusal, and no fault on the way to it."""


class Connection:
    """An authenticated connection. Use it as a context manager; `start` may be called any number of times."""

    def __init__(self, server: Server, *, keepalive_s: float) -> None:
        self.where = server.where
        self.host_key = server.host_key
        self._server = server
        self._transport = server.transport
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

    def start(self, command: RemoteCommand, *, timeout_s: float = _CHANNEL_S) -> Session:
        """Starts a command and streams it.

        Raises SshFailure (stage `session`) where the box does not begin to run it within `timeout_s` seconds.
        """
        end_s = monotonic() + timeout_s
        try:
            channel = self._transport.open_session(timeout=timeout_s)
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
            with within(end_s - monotonic(), channel):
                session.begin(wrapped(command.line).encode(errors="surrogateescape"))
        except BROKEN as error:
            raise SshFailure(f"{self.where}: the box runs no command: {reason(error)}.", stage="session") from error
        return session

    def open(self, line: str, *, timeout_s: float = _CHANNEL_S) -> Any:
        """A paramiko channel on which the box's login shell runs `line`.

        Raises SshFailure (stage `session`) where the box does not begin to run it within `timeout_s` seconds.
        """
        end_s = monotonic() + timeout_s
        try:
            channel = self._transport.open_session(timeout=timeout_s)
            with within(end_s - monotonic(), channel):
                channel.exec_command(line.encode(errors="surrogateescape"))
        except BROKEN as error:
            raise SshFailure(f"{self.where}: the box runs no command: {reason(error)}.", stage="session") from error
        return channel

    def lost(self) -> SshFailure:
        """Why the connection ended."""
        return SshFailure(f"{self.where}: the connection was lost ({self._lost()}).", stage="session")

    def converse(self, line: str | None, *, term: str | None) -> int:
        """A session with our own stdin, stdout and stderr (`providers.ssh.interactive`). Raises SshFailure."""
        from providers.ssh.interactive import converse

        exit_signals = self._transport.packetizer.exit_signals
        return converse(
            self._transport, self.where, line, term=term, exit_signal=lambda number: exit_signals.pop(number, None)
        )

    def open_port(self, port: int) -> Any:
        """A channel to what listens on the box's own loopback. Raises SshFailure where nothing does."""
        try:
            return self._transport.open_channel(
                "direct-tcpip", ("localhost", port), ("127.0.0.1", 0), timeout=_CHANNEL_S
            )
        except BROKEN as error:
            raise SshFailure(f"{self.where}: port {port}: {reason(error)}.", stage="session") from error

    @property
    def is_alive(self) -> bool:
        """Whether it is still there, as far as is known."""
        return bool(self._transport.is_active())

    def close(self) -> None:
        """Ends the connection and its threads; may be called again."""
        self._closing.set()
        self._server.close()
        self._watcher.join(_JOIN_S)

    def _kill(self, process_group: int, signal_name: str, timeout_s: float) -> bool:
        end_s = monotonic() + timeout_s
        try:
            with (
                contextlib.closing(self._transport.open_session(timeout=timeout_s)) as channel,
                within(end_s - monotonic(), channel),
            ):
                channel.exec_command(kill_line(process_group, signal_name))
                status: int = channel.recv_exit_status()
                if status == NO_STATUS:
                    raise loss(self._transport)
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
        self._server.close()


def connect(endpoint: Endpoint, keys_root: Path, *, limits: Limits | None = None) -> Connection:
    """Opens a connection to the endpoint with its lease's key. `keys_root` is the folder of all leases' keys.

    Raises SshFailure naming the stage it failed at, UsageFailure for a bad lease id.
    """
    limits = limits or Limits()
    where = f"{endpoint.host}:{endpoint.port}"
    key = private_key(endpoint, keys_root)
    known_hosts = known_hosts_path(keys_root, endpoint.lease_id)
    with _at_the_pin(where):
        expected = hostkeys.expected_key(known_hosts, endpoint)
    server = shake_hands(endpoint, expected=expected, limits=limits)
    try:
        with _at_the_pin(where):
            if hostkeys.pinned_key(known_hosts, endpoint.host, endpoint.port) != server.host_key:
                hostkeys.pin(known_hosts, endpoint.host, endpoint.port, server.host_key)
        return log_in(server, endpoint.user, key, limits=limits)
    except BaseException:
        server.close()
        raise


def private_key(endpoint: Endpoint, keys_root: Path) -> Any:
    """The lease's private key from this machine.

    Raises SshFailure (stage `authentication`) where it cannot be read, UsageFailure for a bad lease id.
    """
    path = private_key_path(keys_root, endpoint.lease_id)
    try:
        return paramiko.Ed25519Key.from_private_key_file(str(path))
    except (*BROKEN, *_DAMAGED) as error:
        why = "it is damaged" if isinstance(error, _DAMAGED) else reason(error)
        raise SshFailure(
            f"{endpoint.host}:{endpoint.port}: the private key of {endpoint.lease_id} cannot be read: {why}.",
            stage="authentication",
            hint="A lease's key stays on the machine that made the lease and goes when the lease is released.",
        ) from None


def log_in(server: Server, user: str, key: Any, *, limits: Limits) -> Connection:
    """Authenticates with the lease's key and gives the connection, which closes the server with itself.

    After a failure closing the server is the caller's. Raises KeyRefused where the server says no, SshFailure (stage
    `authentication`) where it says nothing.
    """
    transport = server.transport
    answered = SafeEvent()
    try:
        transport.auth_publickey(user, key, event=answered)
        # A connection that ended before paramiko knew whom to tell of it never sets the event.
        if transport.is_active() and not answered.wait(limits.left_of(limits.authentication_s)):
            raise TimeoutError
        if not transport.is_active():
            raise loss(transport)
    except BROKEN as error:
        raise _not_let_in(SshFailure, server, user, reason(error)) from error
    if not transport.is_authenticated():
        raise _not_let_in(KeyRefused, server, user, _why_refused(transport.get_exception()))
    return Connection(server, keepalive_s=limits.keepalive_s)


def _why_refused(error: Exception | None) -> str:
    if isinstance(error, paramiko.ssh_exception.PartialAuthentication):
        return f"it wants {', '.join(error.allowed_types)} as well"
    if isinstance(error, paramiko.BadAuthenticationType):
        return f"it takes no public key, but {', '.join(error.allowed_types) or 'nothing else'}"
    return "Authentication failed"


def _not_let_in(kind: type[SshFailure], server: Server, user: str, why: str) -> SshFailure:
    return kind(
        f"{server.where}: {user} was not let in with the lease's key: {why}.",
        stage="authentication",
        hint="A box may need a moment after its start until it knows the key; otherwise check the login name.",
    )


@contextlib.contextmanager
def _at_the_pin(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SshFailure(f"{where}: no host key: {reason(error)}.", stage="host-key") from error
