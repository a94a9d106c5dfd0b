"""The system's own `ssh` under the same rules as ours: the lease's key, the lease's known hosts, nothing else.

Pure; the options are those of ssh(1) and ssh_config(5). For interactive sessions and for `--print`.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from ledger.domain.ports import Endpoint
from providers.ssh.keys import known_hosts_path, private_key_path

CONNECT_TIMEOUT_S = 15


def quote_argv(argv: Sequence[str]) -> str:
    """The line for `sh` that runs exactly these arguments, whatever they contain."""
    return shlex.join(argv)


def ssh_command(
    endpoint: Endpoint, keys_root: Path, *, argv: Sequence[str] | None = None, tty: bool | None = None
) -> list[str]:
    """The `ssh` command line for a box; `shlex.join` of it can be pasted into a shell.

    `keys_root` is the folder of all leases' keys; `argv` is the remote command, passed on verbatim, or None for a
    login session. `tty` asks for a terminal; None asks for one when there is no command. A host key that the ledger
    knows must be pinned in known_hosts and is required; otherwise the first one that is seen is kept.
    Raises UsageFailure for a bad lease id.
    """
    terminal = argv is None if tty is None else tty
    options = {
        # As an option, since `-i` looks for the file before it has expanded the name.
        "IdentityFile": _quoted(private_key_path(keys_root, endpoint.lease_id)),
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PreferredAuthentications": "publickey",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "UserKnownHostsFile": _quoted(known_hosts_path(keys_root, endpoint.lease_id)),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "accept-new" if endpoint.host_key is None else "yes",
        "HashKnownHosts": "no",
        "UpdateHostKeys": "no",
        "ConnectTimeout": str(CONNECT_TIMEOUT_S),
        "ServerAliveInterval": "30",
    }
    if not terminal:
        options["BatchMode"] = "yes"
    return [
        "ssh",
        *("-F", "none"),
        *(part for name, value in options.items() for part in ("-o", f"{name}={value}")),
        "-t" if terminal else "-T",
        *("-p", str(endpoint.port)),
        *("-l", endpoint.user),
        # After this nothing is an option, neither a strange host nor a command that begins with a dash.
        *("--", endpoint.host),
        *([] if argv is None else [quote_argv(argv)]),
    ]


def _quoted(path: Path) -> str:
    """A path for an option that is split at spaces and expands `%` tokens."""
    escaped = str(path).replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
