"""Pinned host keys, in the format that OpenSSH itself reads."""

import shutil
import subprocess
from pathlib import Path

import pytest

from ledger.domain.ports import Endpoint
from providers.ssh.hostkeys import HostKeyChanged, expected_key, fingerprint, pin, pinned_key, require_same
from tests.providers.sshd import LEASE, keygen

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="OpenSSH's ssh-keygen is not installed")


@pytest.fixture
def known_hosts(tmp_path: Path) -> Path:
    return tmp_path / "lease" / "known_hosts"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_the_fingerprint_is_that_of_ssh_keygen(tmp_path: Path, kind: str) -> None:
    line = keygen(tmp_path / "key", kind=kind)
    listed = subprocess.run(["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, check=True, text=True)
    assert fingerprint(line) == listed.stdout.split()[1]


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 not*base64"])
def test_what_is_no_key_has_no_fingerprint(line: str) -> None:
    with pytest.raises(ValueError, match="not a public key line"):
        fingerprint(line)


@pytest.mark.parametrize(("port", "name"), [(22, "10.0.0.1"), (2222, "[10.0.0.1]:2222")])
def test_openssh_finds_the_pin_under_its_own_name(known_hosts: Path, tmp_path: Path, port: int, name: str) -> None:
    key = keygen(tmp_path / "key")
    pin(known_hosts, "10.0.0.1", port, f"{key} a comment")

    assert known_hosts.read_text() == f"{name} {key}\n"
    assert (known_hosts.stat().st_mode & 0o777, known_hosts.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    found = subprocess.run(["ssh-keygen", "-F", name, "-f", known_hosts], capture_output=True, check=True, text=True)
    assert found.stdout.splitlines()[1] == f"{name} {key}"


def test_a_pin_belongs_to_its_port(known_hosts: Path) -> None:
    pin(known_hosts, "box", 22, "ssh-ed25519 AAAA")
    pin(known_hosts, "box", 2222, "ssh-ed25519 BBBB")
    pins = [pinned_key(known_hosts, "box", port) for port in (22, 2222, 23)]
    assert pins == ["ssh-ed25519 AAAA", "ssh-ed25519 BBBB", None]


def test_a_new_pin_replaces_the_servers_old_one_only(known_hosts: Path) -> None:
    pin(known_hosts, "box", 22, "ssh-ed25519 AAAA")
    pin(known_hosts, "other", 22, "ssh-ed25519 CCCC")
    pin(known_hosts, "box", 22, "ssh-ed25519 BBBB")
    assert known_hosts.read_text() == "other ssh-ed25519 CCCC\nbox ssh-ed25519 BBBB\n"


def test_comments_markers_and_damage_are_no_pins(known_hosts: Path) -> None:
    known_hosts.parent.mkdir()
    known_hosts.write_bytes(
        b"# box ssh-ed25519 AAAA\n@revoked box ssh-ed25519 BBBB\n\nbox\n\xff\xfe\nother,box ssh-rsa CCCC x\n"
    )
    assert pinned_key(known_hosts, "box", 22) == "ssh-rsa CCCC"


def test_the_ledgers_key_beats_the_pin(known_hosts: Path) -> None:
    pin(known_hosts, "box", 22, "ssh-ed25519 AAAA")
    unknown = Endpoint(lease_id=LEASE, host="box", port=22, user="ubuntu")
    recorded = Endpoint(lease_id=LEASE, host="box", port=22, user="ubuntu", host_key="ssh-ed25519 BBBB comment")
    assert expected_key(known_hosts, unknown) == "ssh-ed25519 AAAA"
    assert expected_key(known_hosts, recorded) == "ssh-ed25519 BBBB"


@pytest.mark.parametrize("recorded", ["", "ssh-ed25519", "ssh-ed25519 not*base64"])
def test_a_damaged_record_trusts_no_key(recorded: str) -> None:
    with pytest.raises(HostKeyChanged, match="and something that is no key was recorded"):
        require_same(recorded, "ssh-ed25519 BBBB", host="box", port=22)


def test_another_key_is_refused_with_both_fingerprints() -> None:
    recorded, shown = fingerprint("ssh-ed25519 AAAA"), fingerprint("ssh-ed25519 BBBB")
    with pytest.raises(HostKeyChanged) as caught:
        require_same("ssh-ed25519 AAAA", "ssh-ed25519 BBBB", host="box", port=22)
    assert (caught.value.stage, caught.value.message) == (
        "host-key",
        f"box:22: the host key is {shown}, and {recorded} was recorded.",
    )
    assert caught.value.hint is not None
