"""The connection to a box that stays open between commands: begun by `warmup` or by the first that needs it.

It belongs to the system's `ssh`, holds nothing of ours (its own session, its streams on /dev/null), notices a dead peer
within a minute, ends ten minutes after its last use, and with the lease's key.
"""

import fcntl
import os
import signal
import tempfile
from pathlib import Path
from time import monotonic, sleep

from ledger.domain.errors import RentrollError, SshFailure
from ledger.domain.ports import Endpoint
from providers.ssh.control import Master, forget_dead, socket_path
from providers.ssh.keys import known_hosts_path
from providers.ssh.openssh import ssh_command
from providers.ssh.words import failure_of

PERSIST_S = 600
START_S = 60.0
"""How long a connection may take from nothing to its login, as the last bound; ssh's own limits are shorter."""
CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr"
"""The first is the fastest; the whole list, since older versions of ssh have no way to put one before the rest."""
_ALIVE = {"ServerAliveInterval": "15", "ServerAliveCountMax": "3"}
_LOOK_S = 0.005
_LOCK = "connection.lock"
"""Beside the key, and gone with it: who holds it starts the master."""


def options(endpoint: Endpoint, keys_root: Path) -> dict[str, str]:
    """What to add to `openssh.strict_options` so that `ssh` or rsync uses the open connection where there is one."""
    path = socket_path(endpoint, keys_root)
    return {
        **_ALIVE,
        "Ciphers": CIPHERS,
        "ControlMaster": "no",
        "ControlPath": "none" if path is None else path.replace("%", "%%"),
    }


def alone(endpoint: Endpoint, keys_root: Path, line: str) -> list[str]:
    """The `ssh` that runs `line` over a connection of its own, and says on stderr how far it came."""
    own = {**_ALIVE, "Ciphers": CIPHERS, "ControlPath": "none", "LogLevel": "DEBUG1"}
    return _command(endpoint, keys_root, own, line)


def started(endpoint: Endpoint, keys_root: Path) -> str | None:
    """Starts the master, if it is not there, and gives its socket's path; None where there can be none, or it hangs.

    Raises SshFailure naming the stage at which the connection failed, FileNotFoundError where there is no `ssh`.
    """
    path = socket_path(endpoint, keys_root)
    if path is None:
        return None
    end_s = monotonic() + START_S
    try:
        lock = (known_hosts_path(keys_root, endpoint.lease_id).parent / _LOCK).open("ab")
    except OSError:
        return None  # there is no key either, which ssh says better
    with lock:
        while not _locked(lock.fileno()):
            if monotonic() > end_s:
                return None
            sleep(_LOOK_S)
        try:
            Master(path).close()
        except TimeoutError:
            return None
        except OSError:
            forget_dead(path)
        else:
            return path
        return path if _start(endpoint, keys_root, path, end_s) else None


def warm(endpoint: Endpoint, keys_root: Path) -> None:
    """Starts the master in the background and waits for nothing. Never fails."""
    try:
        path = socket_path(endpoint, keys_root)
        if path is not None:
            forget_dead(path)
            if not os.path.exists(path):  # noqa: PTH110
                _pin(endpoint, keys_root)
                _spawn(_master(endpoint, keys_root, path), stderr=None)
    except (OSError, RentrollError):
        return


def spawn(argv: list[str], actions: list[tuple[int, ...]]) -> int:
    """Starts a program in a session of its own and gives its process id. Raises FileNotFoundError.

    Not by `subprocess`, whose import alone takes longer than a command over an open connection.
    """
    environment = {**os.environ, "LC_ALL": "C"}
    restored = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM]
    return os.posix_spawnp(argv[0], argv, environment, file_actions=actions, setsid=True, setsigdef=restored)


def _start(endpoint: Endpoint, keys_root: Path, path: str, end_s: float) -> bool:
    _pin(endpoint, keys_root)
    with tempfile.TemporaryFile() as words:
        process = _spawn(_master(endpoint, keys_root, path), stderr=words.fileno())
        while not os.path.exists(path):  # noqa: PTH110
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                words.seek(0)
                if os.waitstatus_to_exitcode(status):
                    raise failure_of(endpoint, words.read().decode(errors="replace"))
                # It was let in and could not listen: this machine's business, and no reason to go without a box.
                return False
            if monotonic() > end_s:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                words.seek(0)
                raise failure_of(endpoint, words.read().decode(errors="replace"))
            sleep(_LOOK_S)
    return True


def _master(endpoint: Endpoint, keys_root: Path, path: str) -> list[str]:
    # Not `-N`: of two that begin at once one cannot listen, and that one has to end by itself.
    own = {
        **_ALIVE,
        "Ciphers": CIPHERS,
        "ControlMaster": "auto",
        "ControlPath": path.replace("%", "%%"),
        "ControlPersist": str(PERSIST_S),
        "LogLevel": "DEBUG1",
    }
    return _command(endpoint, keys_root, own, "exit")


def _command(endpoint: Endpoint, keys_root: Path, own: dict[str, str], line: str) -> list[str]:
    return [*ssh_command(endpoint, keys_root, tty=False, extra=own), line]


def _pin(endpoint: Endpoint, keys_root: Path) -> None:
    """The host key that the ledger knows is the one that `ssh` has to require, also where its file was lost."""
    if endpoint.host_key is None:
        return
    from providers.ssh.hostkeys import pin, pinned_key, without_comment

    known_hosts = known_hosts_path(keys_root, endpoint.lease_id)
    try:
        if pinned_key(known_hosts, endpoint.host, endpoint.port) != without_comment(endpoint.host_key):
            pin(known_hosts, endpoint.host, endpoint.port, endpoint.host_key)
    except OSError as error:
        raise SshFailure(
            f"{endpoint.host}:{endpoint.port}: no host key: {(error.strerror or str(error)).lower()}.", stage="host-key"
        ) from error


def _spawn(argv: list[str], *, stderr: int | None) -> int:
    null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in ((0, 1) if stderr else (0, 1, 2))]
    return spawn(argv, [*null, *([(os.POSIX_SPAWN_DUP2, stderr, 2)] if stderr else [])])  # type: ignore[list-item]


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
