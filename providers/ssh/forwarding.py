"""Ports of a box on this machine's loopback, through one connection of the system's ssh that ends with us.

The forwarded ports are asked for on a connection of their own: those of a multiplexing master would stay in it after
the end. The remote command reads its input until that ends, so ssh does too, also where this process is killed.
"""

import contextlib
import os
import select
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import NamedTuple, Self

from ledger.domain.errors import SshFailure, UsageFailure
from ledger.domain.ports import Endpoint
from providers.ssh.openssh import CONNECT_TIMEOUT_S, ssh_command

LOOPBACK = "127.0.0.1"
READY = b"rentroll-forwarding\n"
_READ_BYTES = 65_536
_END_S = 5.0
_OWN_CONNECTION = {"ControlMaster": "no", "ControlPath": "none", "ExitOnForwardFailure": "yes"}


class Forward(NamedTuple):
    """One port of the box and the port of this machine's loopback that leads to it."""

    local_port: int
    remote_port: int

    @property
    def url(self) -> str:
        """What a browser opens."""
        return f"http://{LOOPBACK}:{self.local_port}/"


def free_ports(wanted: Sequence[Forward]) -> list[Forward]:
    """The same with each local port 0 replaced by a free one. Raises UsageFailure for one that is taken."""
    held: list[socket.socket] = []
    given = [forward.local_port for forward in wanted if forward.local_port]
    twice = next((port for port in given if given.count(port) > 1), None)
    if twice is not None:
        raise UsageFailure(f"port {twice} of this machine is given twice", hint=f"write 0:{twice} for any free port")
    try:
        forwards = []
        for forward in wanted:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            held.append(listener)  # until all are known, so that no two get the same
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _bind(listener, forward.local_port)
            forwards.append(forward._replace(local_port=listener.getsockname()[1]))
        return forwards
    finally:
        for listener in held:
            listener.close()


def _bind(listener: socket.socket, port: int) -> None:
    try:
        listener.bind((LOOPBACK, port))
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UsageFailure(
            f"port {port} of this machine cannot be listened on: {why}", hint=f"write 0:{port} for any free port"
        ) from None


def forward_command(endpoint: Endpoint, keys_root: Path, forwards: Sequence[Forward]) -> list[str]:
    """The `ssh` that forwards, says `READY` once it listens, and ends when its input does."""
    says = f"echo {READY.decode().strip()}; exec cat"
    line = ssh_command(endpoint, keys_root, argv=["sh", "-c", says], tty=False, extra=_OWN_CONNECTION)
    ports = [part for each in forwards for part in ("-L", f"{LOOPBACK}:{each.local_port}:localhost:{each.remote_port}")]
    return [line[0], *ports, *line[1:]]


class Forwarding:
    """The running ssh, from when it listens until the block ends. Nothing of it is left then.

    Raises SshFailure (stage `session`) where it does not come to listen; its own words are on stderr.
    """

    def __init__(self, endpoint: Endpoint, keys_root: Path, forwards: Sequence[Forward]) -> None:
        self._where = f"{endpoint.host}:{endpoint.port}"
        # A session of its own: an interrupt of the terminal is for us, and we end it.
        self._child = subprocess.Popen(
            forward_command(endpoint, keys_root, forwards),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended within so many seconds: the connection is lost then."""
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Ends it; may be called again."""
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._child.terminate()
        if not self.wait(_END_S):
            self._child.kill()
            self._child.wait()

    def _wait_until_ready(self) -> None:
        if self._child.stdout is None:
            raise ValueError("it was started with a pipe")
        end_s = monotonic() + 2 * CONNECT_TIMEOUT_S
        said = b""
        while not said.endswith(READY):  # what a login shell prints may come before it
            came, _, _ = select.select([self._child.stdout], [], [], max(0.0, end_s - monotonic()))
            chunk = os.read(self._child.stdout.fileno(), _READ_BYTES) if came else b""
            if not chunk:
                raise SshFailure(f"{self._where}: ssh did not come to forward the ports", stage="session")
            said += chunk
