"""What a client that was killed left writing here: the box's side of its rsync, which holds no lock.

It is told by its command line, that of `providers.ssh.rsync`, and by the folder in which it works. Both are those of
the sh that is to become it, too. Its process group says nothing: that may be its caller's.
"""

from __future__ import annotations

import os
from time import monotonic, sleep

from providers.agent.change import INCOMING
from providers.agent.spawn import signal_number

_SERVER = b"--server"
_TEMP_DIR = b"--temp-dir="
_LOOK_AGAIN_S = 0.005
_LIMIT_S = 5.0


def end_rsyncs(workspace: str, state: str) -> bool:
    """Kills each rsync that clients have left in a workspace, and waits until they are gone.

    Gives False where one is there still after five seconds: it hangs in a call of the system, after which it dies.
    """
    folders = [_identity(workspace), _identity(state)]
    end_s = monotonic() + _LIMIT_S
    while _kill(folders):
        if monotonic() >= end_s:
            return False
        sleep(_LOOK_AGAIN_S)
    return True


def _kill(folders: list[tuple[int, int] | None]) -> int:
    """Kills them once and gives how many there were; none where there is no /proc to look into."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return 0
    found = 0
    for name in names:
        if name.isdigit() and _is_ours(name) and (at := _identity(f"/proc/{name}/cwd")) is not None and at in folders:
            found += 1
            try:
                os.kill(int(name), signal_number("KILL"))
            except (ProcessLookupError, PermissionError):
                pass
    return found


def _is_ours(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
            words = file.readall().split(b"\0")
    except OSError:  # gone
        return False
    incoming = b"/" + INCOMING.encode()
    return _SERVER in words and any(_TEMP_DIR in word and incoming in word for word in words)


def _identity(folder: str) -> tuple[int, int] | None:
    """What a folder is, whatever it is called; None where we may not look, or where it is not there."""
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino
