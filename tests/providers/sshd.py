"""The system's real OpenSSH server for tests: one `sshd -i` for each connection that a loopback socket accepts.

The socket belongs to the test, so there is no port to guess and no start to wait for, and a connection can be cut
or frozen from outside.
"""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger.domain.ports import Endpoint
from providers.ssh.keys import LeaseKeys

LEASE = "rl_" + "a1b2c3d4e5" * 2
SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
needs_sshd = pytest.mark.skipif(SSHD is None, reason="OpenSSH's server (sshd) is not installed")

_CONFIG = """
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PidFile none
PermitRootLogin yes
KbdInteractiveAuthentication no
LogLevel DEBUG1
"""


def keygen(path: Path, *, kind: str = "ed25519") -> str:
    """Makes a key pair with the system's ssh-keygen and gives the public line without its comment."""
    size = ["-b", "2048"] if kind == "rsa" else []
    subprocess.run(["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-f", path], check=True)
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


class Sshd:
    """A running server, and a lease whose key it knows. `host_key` is its public key line.

    `before_each` is called with the number of each connection (from 1) before it is served, and the connection is cut
    where it raises ConnectionError.
    """

    def __init__(self, folder: Path, settings: str = "", *, keys_root: Path | None = None) -> None:
        folder.mkdir()
        self.folder = folder
        self.before_each: Callable[[int], None] = lambda _number: None
        self.keys = LeaseKeys(keys_root or folder / "keys")
        self.host_key = keygen(folder / "host_key")
        (folder / "authorized_keys").write_text(self.keys.make(LEASE) + "\n")
        # sshd takes the first value of a setting.
        (folder / "sshd_config").write_text(settings + _CONFIG.format(folder=folder))
        self._log = folder / "log"
        self._log.touch()
        self._command: list[str | Path] = [SSHD or "sshd", "-i", "-f", folder / "sshd_config", "-E", self._log]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._accepted = 0
        self._served: list[subprocess.Popen[bytes]] = []
        # A connection that works is one that `_signal` knows.
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def endpoint(self, *, port: int | None = None, host_key: str | None = None) -> Endpoint:
        """The lease's endpoint, whose host key is not known yet unless it is given."""
        return Endpoint(
            lease_id=LEASE, host="127.0.0.1", port=port or self.port, user=getpass.getuser(), host_key=host_key
        )

    def cut(self) -> None:
        """Tears every connection for good; the commands themselves go on, as they have sessions of their own."""
        for process in self._signal(signal.SIGKILL):
            process.wait()

    def freeze(self) -> None:
        """Stops the server's processes: their sockets stay open and nobody answers."""
        self._signal(signal.SIGSTOP)

    def log(self) -> str:
        """What the server has logged, once each of its processes has ended."""
        for process in self._served:
            process.wait(20)
        return self._log.read_text()

    def authentication_attempts(self) -> int:
        """How often a client has tried to log in, once every server process has ended."""
        return self.log().count("debug1: userauth-request for user")

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.cut()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._accepted += 1
            with connection, contextlib.suppress(ConnectionError):
                self.before_each(self._accepted)
                ends = connection.fileno()
                with self._starting:
                    served = subprocess.Popen(self._command, stdin=ends, stdout=ends, start_new_session=True)
                    self._served.append(served)

    def _signal(self, number: signal.Signals) -> list[subprocess.Popen[bytes]]:
        with self._starting:
            running = [process for process in self._served if process.poll() is None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        return running


@contextlib.contextmanager
def serving(folder: Path, settings: str = "", *, keys_root: Path | None = None) -> Iterator[Sshd]:
    """A server whose files are in the new folder `folder`; `settings` are lines of sshd_config that come first.

    The lease's key is below `keys_root`, by default in the same folder.
    """
    if os.getuid() == 0:
        # sshd insists on its (empty) privilege separation folder, which the system's service makes at its start.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    server = Sshd(folder, settings, keys_root=keys_root)
    try:
        yield server
    finally:
        server.stop()
