"""A ready lease on a stock OpenSSH server: another fal, a box that is this machine, and how to reach it bare."""

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.endtoend.independent_fal import KEY, IndependentFal

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
SLUG = "warm"
START_S = 10.0
CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PidFile none
PermitRootLogin yes
KbdInteractiveAuthentication no
MaxStartups 100
SetEnv SHLVL=1
"""
"""SHLVL keeps bash, where that is the login's shell, from reading ~/.bashrc for each command: what stands there is this
machine's business, and would cost both sides the same."""


class Stock(NamedTuple):
    """The lease's environment for the program, the box's work folder, and the `ssh` command that starts cold."""

    environment: dict[str, str]
    work_root: Path
    ssh: list[str]


@contextmanager
def leased(rentroll: str, folder: Path, work_root: Path, environment: Mapping[str, str]) -> Iterator[Stock]:
    """One ready lease, `warm`, whose commands run below `work_root`; all of it is gone at the end."""
    folder.mkdir()
    authorized_keys = folder / "authorized_keys"
    authorized_keys.touch(mode=0o600)
    for name in ("host_key", "bare_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    authorized_keys.write_text((folder / "bare_key.pub").read_text(encoding="ascii"), encoding="ascii")
    with _sshd(folder) as port, IndependentFal(authorized_keys) as fal:
        ours = {
            **environment,
            "RENTROLL_STATE_DIR": str(folder / "state"),
            "RENTROLL_FAL_API_URL": fal.url,
            "RENTROLL_FAL_KEY": KEY,
            "RENTROLL_FAL_SSH_PORT": str(port),
            "RENTROLL_FAL_USER": getpass.getuser(),
            "RENTROLL_FAL_WORK_ROOT": str(work_root),
            "RENTROLL_FAL_POLL_INTERVAL": "0.05",
        }
        subprocess.run([rentroll, "warmup", "--slug", SLUG], env=ours, check=True, capture_output=True)
        try:
            yield Stock(ours, work_root, _bare(folder, port))
        finally:
            subprocess.run([rentroll, "stop", SLUG], env=ours, check=True, capture_output=True)


def _bare(folder: Path, port: int) -> list[str]:
    options = {
        "IdentityFile": folder / "bare_key",
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": folder / "known_hosts",
        "StrictHostKeyChecking": "accept-new",
        "BatchMode": "yes",
    }
    set_ = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    return ["ssh", "-F", "none", *set_, "-p", str(port), "-l", getpass.getuser(), "127.0.0.1"]


def as_rsync_shell(ssh: list[str]) -> str:
    """The same `ssh`, without its host, as the value of rsync's -e."""
    return shlex.join(ssh[:-1])


@contextmanager
def _sshd(folder: Path) -> Iterator[int]:
    if os.getuid() == 0:
        # sshd insists on its (empty) privilege separation folder, which the system's service makes at its start.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    (folder / "sshd_config").write_text(CONFIG.format(folder=folder, port=port), encoding="ascii")
    command = [SSHD or "sshd", "-D", "-f", str(folder / "sshd_config"), "-E", str(folder / "sshd.log")]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    give_up_s = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.02)
        else:
            return
