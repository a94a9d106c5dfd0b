"""The system's own `ssh` under the same rules as ours: the lease's key, the lease's known hosts, nothing else.

Pure; the options are those of ssh(1) and ssh_config(5). For interactive sessions, for `--print`, for forwarded
ports and for the file that editors include.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ledger.domain.ports import Endpoint
from providers.ssh.keys import known_hosts_path, private_key_path

CONNECT_TIMEOUT_S = 15


def quote_argv(argv: Sequence[str]) -> str:
    """The line for `sh` that runs exactly these arguments, whatever they contain."""
    return shlex.join(argv)


def strict_options(endpoint: Endpoint, keys_root: Path) -> dict[str, str]:
    """What every connection to a box insists on, by the names of ssh_config(5).

    `keys_root` is the folder of all leases' keys. A host key that the ledger knows must be pinned in known_hosts and is
    required; otherwise the first one that is seen is kept. Raises UsageFailure for a bad lease id.
    """
    return {
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


def ssh_command(
    endpoint: Endpoint,
    keys_root: Path,
    *,
    argv: Sequence[str] | None = None,
    tty: bool | None = None,
    extra: Mapping[str, str] | None = None,
) -> list[str]:
    """The `ssh` command line for a box; `shlex.join` of it can be pasted into a shell.

    `argv` is the remote command, passed on verbatim, or None for a login session. `tty` asks for a terminal; None asks
    for one when there is no command. `extra` are options on top of the strict ones. Raises UsageFailure for a bad
    lease id.
    """
    terminal = argv is None if tty is None else tty
    options = strict_options(endpoint, keys_root) | dict(extra or {})
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


def host_block(name: str, endpoint: Endpoint, keys_root: Path) -> str:
    """The block of ssh_config(5) under which `ssh NAME`, rsync and editors reach a box, as strictly as we do.

    Raises UsageFailure for a bad lease id.
    """
    options = {
        "HostName": endpoint.host,
        "Port": str(endpoint.port),
        "User": endpoint.user,
        **strict_options(endpoint, keys_root),
        "ForwardAgent": "no",  # whatever the user's own `Host *` says: the box is a stranger's machine
    }
    return "".join([f"Host {name}\n", *(f"  {option} {value}\n" for option, value in options.items())])


def _quoted(path: Path) -> str:
    """A path for an option that is split at spaces and expands `%` tokens."""
    escaped = str(path).replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
