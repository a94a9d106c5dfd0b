"""The command line for the system's own ssh."""

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger.domain.errors import UsageFailure
from ledger.domain.ports import Endpoint
from providers.ssh.hostkeys import pin
from providers.ssh.keys import known_hosts_path
from providers.ssh.openssh import ssh_command
from tests.providers.sshd import LEASE, Sshd, keygen, needs_sshd, serving

ENDPOINT = Endpoint(lease_id=LEASE, host="10.0.0.1", port=2222, user="ubuntu")
PINNED = replace(ENDPOINT, host_key="ssh-ed25519 AAAA")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    """Its lease's keys are below a folder whose name needs quoting and escaping."""
    with serving(tmp_path / "sshd", keys_root=tmp_path / "a b" / '50% "off"') as server:
        yield server


@pytest.mark.holds("SSH-05")
def test_the_whole_line_for_a_pinned_box() -> None:
    """Batch mode, only that identity, known hosts beside the key, checking never disabled."""
    assert ssh_command(PINNED, Path("/keys"), argv=["nvidia-smi", "-q d"]) == [
        "ssh",
        "-F",
        "none",
        "-o",
        f'IdentityFile="/keys/{LEASE}/id_ed25519"',
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "IdentityAgent=none",
        "-o",
        "PreferredAuthentications=publickey",
        "-o",
        "PasswordAuthentication=no",
        "-o",
        "KbdInteractiveAuthentication=no",
        "-o",
        f'UserKnownHostsFile="/keys/{LEASE}/known_hosts"',
        "-o",
        "GlobalKnownHostsFile=/dev/null",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "HashKnownHosts=no",
        "-o",
        "UpdateHostKeys=no",
        "-o",
        "ConnectTimeout=15",
        "-o",
        "ServerAliveInterval=30",
        "-o",
        "BatchMode=yes",
        "-T",
        "-p",
        "2222",
        "-l",
        "ubuntu",
        "--",
        "10.0.0.1",
        "nvidia-smi '-q d'",
    ]


@pytest.mark.parametrize(
    ("argv", "tty", "terminal"),
    [(None, None, True), (None, False, False), (["top"], None, False), (["top"], True, True)],
)
def test_a_session_has_a_terminal_and_a_command_has_none_unless_it_is_said(
    argv: list[str] | None, tty: bool | None, terminal: bool
) -> None:
    line = ssh_command(PINNED, Path("/keys"), argv=argv, tty=tty)
    assert ("-t" in line, "-T" in line, "BatchMode=yes" in line) == (terminal, not terminal, not terminal)


def test_a_box_that_was_never_met_is_trusted_once() -> None:
    assert "StrictHostKeyChecking=accept-new" in ssh_command(ENDPOINT, Path("/keys"))


def test_a_hostile_lease_id_makes_no_line() -> None:
    with pytest.raises(UsageFailure, match="is not a lease id"):
        ssh_command(replace(ENDPOINT, lease_id="../x"), Path("/keys"))


def run(line: list[str], tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Pastes the line into a shell that has an agent, a home and no terminal."""
    return subprocess.run(
        ["sh", "-c", shlex.join(line)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SSH_AUTH_SOCK": "/nonexistent"},
    )


@needs_sshd
def test_the_line_works_when_pasted_and_passes_arguments_verbatim(server: Sshd, tmp_path: Path) -> None:
    arguments = ["a b", "", "it's", "two\nlines", "$HOME", "-v"]
    line = ssh_command(server.endpoint(), server.keys.root, argv=["printf", r"%s|", *arguments])
    done = run(line, tmp_path)
    assert (done.returncode, done.stdout) == (0, "a b||it's|two\nlines|$HOME|-v|")
    assert known_hosts_path(server.keys.root, LEASE).read_text() == f"[127.0.0.1]:{server.port} {server.host_key}\n"


@needs_sshd
def test_the_line_accepts_our_pin_and_gives_the_commands_code(server: Sshd, tmp_path: Path) -> None:
    pin(known_hosts_path(server.keys.root, LEASE), "127.0.0.1", server.port, server.host_key)
    endpoint = server.endpoint(host_key=server.host_key)
    done = run(ssh_command(endpoint, server.keys.root, argv=["sh", "-c", "exit 7"]), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


@needs_sshd
def test_the_line_refuses_another_host_key(server: Sshd, tmp_path: Path) -> None:
    stranger = keygen(tmp_path / "stranger")
    pin(known_hosts_path(server.keys.root, LEASE), "127.0.0.1", server.port, stranger)
    done = run(ssh_command(server.endpoint(host_key=stranger), server.keys.root, argv=["true"]), tmp_path)
    assert done.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr
    assert server.authentication_attempts() == 0
