"""One emulated box: its folder, its SSH server on its own address, and the processes it runs."""

import asyncio
import contextlib
import shutil
import socket
from pathlib import Path
from typing import cast

import asyncssh
from asyncssh.channel import SSHChannel

from providers.emulator.machines import InstanceView
from providers.emulator.processes import Process, start
from providers.emulator.reaper import kill_all

_SFTP_VERSION = 3
_TURNS = 5
"""So many turns of the loop, and some more, from an accepted connection to `connection_made`."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _Server(asyncssh.SSHServer):
    """Accepts one user as the box's policy says; passwords are refused by asyncssh's defaults."""

    def __init__(self, box: "Box") -> None:
        self._box = box

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._box.connections.add(conn)
        self._conn = conn

    def connection_lost(self, _exc: Exception | None) -> None:
        self._box.connections.discard(self._conn)

    def begin_auth(self, _username: str) -> bool:
        return self._box.ssh_policy != "anybody"

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == self._box.user and self._box.accepts(key.public_data)

    def session_requested(self) -> "_Session":
        return _Session(self._box)

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        """A forwarded port: to what listens on the box itself, never through it to another machine."""
        return dest_host in _LOOPBACK


class _Session(asyncssh.SSHServerProcess[bytes]):
    """A shell, a command or the SFTP subsystem. Signals and window sizes act at once, past unread input."""

    def __init__(self, box: "Box") -> None:
        super().__init__(self._begin, self._sftp, _SFTP_VERSION, False)
        self._box = box
        self._child: Process | None = None

    def _sftp(self, channel: SSHChannel[bytes]) -> asyncssh.SFTPServer:
        return asyncssh.SFTPServer(cast("asyncssh.SSHServerChannel[bytes]", channel), chroot=bytes(self._box.home))

    def _begin(self, session: asyncssh.SSHServerProcess[bytes]) -> None:
        self._box.keep(asyncio.create_task(self._run(session)))

    async def _run(self, session: asyncssh.SSHServerProcess[bytes]) -> None:
        self._child = await start(session, self._box.home, self._box.user)
        self._box.children.add(self._child)
        try:
            await self._child.serve(session)
        finally:
            self._box.children.discard(self._child)

    def signal_received(self, signal: str) -> None:
        if self._child is not None:
            self._child.send_signal(signal)

    def terminal_size_changed(self, width: int, height: int, _pixwidth: int, _pixheight: int) -> None:
        if self._child is not None:
            self._child.resize(width, height)


class Box:
    """A running box. `home` is the login's home, below `folder`; `ssh_policy` says who may log in, at any time."""

    def __init__(self, instance: InstanceView, *, folder: Path, user: str) -> None:
        self.home = folder / "home"
        self.user = user
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self.children: set[Process] = set()
        self.ssh_policy = instance.ssh_policy
        self._address = instance.ip or ""
        self._accepted_key = _public_data(instance.public_key)
        self._authorized_keys = _authorized_keys(instance)
        self._folder = folder
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._used = False

    async def start(self, port: int) -> None:
        """Makes the folder and listens on the box's address. Raises `OSError` where that port is taken."""
        for name in (".ssh", ".cache", ".config", ".local/share", ".local/state"):
            (self.home / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._folder / "tmp").mkdir(mode=0o700, exist_ok=True)
        authorized_keys = self.home / ".ssh" / "authorized_keys"
        authorized_keys.touch(mode=0o600)
        authorized_keys.write_text(self._authorized_keys)
        await self._listen(port)

    def accepts(self, key: bytes) -> bool:
        """Whether a public key logs in now."""
        return self.ssh_policy == "every-key" or (self.ssh_policy == "own-key" and key == self._accepted_key)

    async def rekey(self, port: int) -> None:
        """Drops every connection and listens again under another host key, as another machine would."""
        await self._close()
        await self._listen(port)

    async def stop(self) -> None:
        """Cuts the connections, kills every process of the box, waits for them, removes the folder."""
        await self._close()
        if self._used:
            await kill_all(self.home, self._leaders)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def keep(self, task: asyncio.Task[None]) -> None:
        """Holds a task of the box, which runs a command, until it ends."""
        self._used = True
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _leaders(self) -> set[int]:
        return {child.leader for child in self.children if child.leader is not None}

    async def _listen(self, port: int) -> None:
        self._listener = listening_socket(self._address, port)
        self._acceptor = await asyncssh.listen(
            sock=self._listener,
            server_factory=lambda: _Server(self),
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            encoding=None,
            line_editor=False,
            allow_scp=False,
            agent_forwarding=False,
        )

    async def _close(self) -> None:
        if self._acceptor is not None:
            # First nobody comes in any more, then who just did is let through the door: asyncio forgets whom a server
            # has accepted that closes before it has a transport.
            asyncio.get_running_loop().remove_reader(self._listener)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            self._acceptor.close()
            connections = list(self.connections)
            for connection in connections:
                connection.abort()
            for connection in connections:
                with contextlib.suppress(OSError, asyncssh.Error):
                    await connection.wait_closed()
            await self._acceptor.wait_closed()
            self._acceptor = None


def listening_socket(address: str, port: int) -> socket.socket:
    """A socket bound to a loopback address. Raises `OSError` where that cannot be."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
    except OSError:
        listener.close()
        raise
    return listener


def _authorized_keys(instance: InstanceView) -> str:
    if instance.authorized_keys is not None:
        return instance.authorized_keys
    return f"{instance.public_key}\n" if instance.public_key else ""


def _public_data(line: str | None) -> bytes | None:
    # fal documents no check of the key beyond its length: a box with an unreadable one starts, and nobody logs in.
    if line is None:
        return None
    try:
        return asyncssh.import_public_key(line).public_data
    except (asyncssh.KeyImportError, ValueError):
        return None
