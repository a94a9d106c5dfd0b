"""The open connections that the system's `ssh` keeps for us: where their sockets are, and what is said over them.

A master (`ControlMaster` in ssh_config(5)) listens on a socket in a folder of ours alone. What is said there is
OpenSSH's PROTOCOL.mux, version 4: we speak it ourselves, since starting `ssh` to do so costs more than the command, and
since a master that hangs is then found out within seconds. The C half of socket is all that it needs, at a fifth of the
import.
"""

import contextlib
import os
import stat
import sys
from _socket import AF_UNIX, SCM_RIGHTS, SHUT_RDWR, SOCK_STREAM, SOL_SOCKET, socket
from hashlib import sha256
from pathlib import Path
from time import monotonic

from ledger.domain.ports import Endpoint

ANSWER_S = 2.0
"""How long a master may take to answer what needs nothing of the box."""
SESSION_S = 15.0
"""How long the box may take to open a session on a connection that is there."""
_DESCRIPTOR_BYTES = 4
_VERSION = 4
_HELLO, _NEW_SESSION, _TERMINATE = 0x1, 0x10000002, 0x10000005
_OPENED, _EXIT, _OK = 0x80000006, 0x80000004, 0x80000001
_NO_ESCAPE = 0xFFFFFFFF
_REQUEST = 1
_MESSAGE_LIMIT_BYTES = 65_536
_SHARED = f"/tmp/rentroll-{os.getuid()}"  # noqa: S108 - it is looked at before it is used
_PATH_LIMIT_BYTES = 84
"""A socket's name has 104 bytes at most on some systems, and ssh adds 17 to it while it makes one."""


def socket_path(endpoint: Endpoint, keys_root: Path) -> str | None:
    """Where the master of this lease and this address listens. None where no folder will do. Makes the folder."""
    where = f"{endpoint.host}\n{endpoint.port}\n{endpoint.user}\n{endpoint.host_key or ''}"
    name = f"{_prefix(keys_root, endpoint.lease_id)}{sha256(where.encode()).hexdigest()[:8]}"
    for folder in _folders(keys_root, endpoint.lease_id):
        path = f"{folder}/{name}"
        if len(os.fsencode(path)) <= _PATH_LIMIT_BYTES and (_is_ours(folder) or (_made(folder) and _is_ours(folder))):
            return path
    return None


def end_masters(keys_root: Path, lease_id: str) -> None:
    """Ends every connection that is kept with this lease's key. Never fails; takes seconds only where one hangs."""
    prefix = _prefix(keys_root, lease_id)
    for folder in _folders(keys_root, lease_id):
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):  # noqa: PTH208 - names alone
                if name.startswith(prefix) and _is_ours(folder):
                    _end(f"{folder}/{name}")


class Master:
    """One connection to a master's socket. Raises OSError (TimeoutError) where it is gone or does not answer."""

    def __init__(self, path: str) -> None:
        self._socket = socket(AF_UNIX, SOCK_STREAM)
        try:
            self._socket.settimeout(ANSWER_S)
            self._socket.connect(path)
            self._send(_words(_HELLO, _VERSION))
            if self._receive()[:8] != _words(_HELLO, _VERSION):
                raise ConnectionError("it speaks another version")
        except BaseException:
            self.close()
            raise

    def open_session(self, line: bytes, descriptors: tuple[int, int, int]) -> None:
        """Has the box's login shell run `line` on these stdin, stdout and stderr, which the caller may close then.

        Raises OSError as well where the master or the box wants no more sessions.
        """
        self._send(
            _words(_NEW_SESSION, _REQUEST)
            + _text(b"")
            + _words(0, 0, 0, 0, _NO_ESCAPE)  # no terminal, X11, agent, subsystem, escape character
            + _text(b"")
            + _text(line)
        )
        for descriptor in descriptors:
            ancillary = descriptor.to_bytes(_DESCRIPTOR_BYTES, sys.byteorder)
            self._socket.sendmsg([b"\0"], [(SOL_SOCKET, SCM_RIGHTS, ancillary)])
        self._socket.settimeout(SESSION_S)
        if self._receive()[:4] != _words(_OPENED):
            raise ConnectionRefusedError("no session was opened")

    def exit_code(self, timeout_s: float) -> int | None:
        """How the session's command ended; None where the connection ended, or the time was over, before it did."""
        try:
            end_s = monotonic() + timeout_s
            while (left_s := end_s - monotonic()) > 0:
                self._socket.settimeout(left_s)
                told = self._receive()
                if told[:4] == _words(_EXIT):
                    return int.from_bytes(told[8:12], "big")
        except OSError:
            pass
        return None

    def terminate(self) -> None:
        """Ends the master with all of its sessions."""
        self._send(_words(_TERMINATE, _REQUEST))
        with contextlib.suppress(ConnectionError):  # it may be gone before it has answered
            self._receive()

    def close(self) -> None:
        """The session ends with this; may be called again, and from any thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(SHUT_RDWR)
        self._socket.close()

    def _send(self, message: bytes) -> None:
        self._socket.sendall(_text(message))

    def _receive(self) -> bytes:
        size = int.from_bytes(self._exactly(4), "big")
        if size > _MESSAGE_LIMIT_BYTES:
            raise ConnectionError("it speaks another protocol")
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        held = b""
        while len(held) < size:
            chunk = self._socket.recv(size - len(held))
            if not chunk:
                raise ConnectionResetError("it has ended")
            held += chunk
        return held


def answers(path: str) -> bool:
    """Whether a master listens there and is well."""
    try:
        Master(path).close()
    except OSError:
        return False
    return True


def forget_dead(path: str) -> None:
    """Removes a socket on which nobody listens: ssh would take it for a master's and go without."""
    probe = socket(AF_UNIX, SOCK_STREAM)
    probe.settimeout(ANSWER_S)
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108
    except OSError:
        return
    finally:
        probe.close()


def _folders(keys_root: Path, lease_id: str) -> list[str]:
    """Where sockets may be, best first; the last is as long as the state folder's name, and private anyway."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return [
        *([f"{runtime}/rentroll"] if runtime.startswith("/") else []),
        _SHARED,
        f"{keys_root}/{lease_id}",
    ]


def _is_ours(folder: str) -> bool:
    """Whether it is a folder, no link, and nobody else could have put anything there."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def _made(folder: str) -> bool:
    if not folder.rpartition("/")[2].startswith("rentroll"):
        return False  # a lease's own folder is there, or its key is gone
    try:
        os.mkdir(folder, 0o700)  # noqa: PTH102
    except FileExistsError:
        return True  # another of ours was quicker
    except OSError:
        return False
    return True


def _prefix(keys_root: Path, lease_id: str) -> str:
    return sha256(f"{os.path.abspath(keys_root)}\n{lease_id}".encode(errors="surrogateescape")).hexdigest()[:16] + "-"  # noqa: PTH100


def _end(path: str) -> None:
    try:
        master = Master(path)
    except OSError:
        pass
    else:
        with contextlib.suppress(OSError):
            master.terminate()
        master.close()
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108


def _words(*numbers: int) -> bytes:
    return b"".join([number.to_bytes(4, "big") for number in numbers])


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text
