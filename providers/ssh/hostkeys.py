"""The host keys that a lease trusts, in OpenSSH's known_hosts format: pinned at first contact, then required.

The file format is that of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Nothing here needs an SSH library.
"""

import base64
import binascii
import hashlib
from pathlib import Path

from ledger.domain.errors import SshFailure
from ledger.domain.ports import Endpoint
from ledger.store.private_files import take_private_folder, write_private_file

STANDARD_PORT = 22


class HostKeyChanged(SshFailure):
    """The server shows another host key than the one that was recorded; nothing was sent to it."""


def host_name(host: str, port: int) -> str:
    """The name under which known_hosts keeps a server: the host alone on port 22, else `[host]:port`."""
    return host if port == STANDARD_PORT else f"[{host}]:{port}"


def fingerprint(key_line: str) -> str:
    """`SHA256:…` of a public key line (`ssh-ed25519 AAAA…`), as `ssh-keygen -lf` prints it.

    Raises ValueError for a line that is no public key.
    """
    try:
        blob = base64.b64decode(key_line.split()[1], validate=True)
    except (IndexError, binascii.Error) as error:
        raise ValueError("not a public key line") from error
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


def without_comment(key_line: str) -> str:
    """A public key line's type and base64 alone: the form in which lines are compared and kept."""
    return " ".join(key_line.split()[:2])


def pinned_key(known_hosts: Path, host: str, port: int) -> str | None:
    """The key line (type and base64, no comment) that is pinned for this server, or None.

    Raises OSError where the file is there and cannot be read.
    """
    name = host_name(host, port)
    return next((key for names, key in _entries(known_hosts) if name in names), None)


def pin(known_hosts: Path, host: str, port: int, key_line: str) -> None:
    """Makes `key_line` the only key of this server, durably. Other servers' lines stay. Raises OSError."""
    name = host_name(host, port)
    key = without_comment(key_line)
    kept = [(names, line) for names, line in _entries(known_hosts) if name not in names]
    lines = [f"{','.join(names)} {line}\n" for names, line in kept] + [f"{name} {key}\n"]
    take_private_folder(known_hosts.parent)
    write_private_file(known_hosts, "".join(lines).encode("utf-8"))


def expected_key(known_hosts: Path, endpoint: Endpoint) -> str | None:
    """The key that the server has to show: the one that the ledger recorded, else the pinned one, else None.

    Raises OSError where known_hosts is there and cannot be read.
    """
    if endpoint.host_key is not None:
        return without_comment(endpoint.host_key)
    return pinned_key(known_hosts, endpoint.host, endpoint.port)


def require_same(expected: str, shown: str, *, host: str, port: int) -> None:
    """Refuses a server whose key is not the expected one. Raises HostKeyChanged (stage `host-key`)."""
    if shown == expected:
        return
    raise HostKeyChanged(
        f"{host}:{port}: the host key is {_described(shown)}, and {_described(expected)} was recorded.",
        stage="host-key",
        hint=(
            "Another machine may answer at this address now, so nothing was sent to it. If you know that the box"
            " was reinstalled, give it back and lease another one."
        ),
    )


def _described(key_line: str) -> str:
    try:
        return fingerprint(key_line)
    except ValueError:
        return "something that is no key"


def _entries(known_hosts: Path) -> list[tuple[list[str], str]]:
    """Each line's names and its key; comments, markers and what is no entry are left out."""
    try:
        text = known_hosts.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    rows = (line.split() for line in text.splitlines() if not line.startswith(("#", "@")))
    return [(row[0].split(","), f"{row[1]} {row[2]}") for row in rows if len(row) >= 3]  # noqa: PLR2004  names, type, key
