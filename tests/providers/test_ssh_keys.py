"""The key store: one pair for each lease, durable, private, never overwritten."""

import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger.domain.errors import UsageFailure
from ledger.domain.ports import KeyStore
from providers.ssh.keys import LeaseKeys, known_hosts_path, private_key_path, public_key_path

LEASE = "rl_" + "a1b2c3d4e5" * 2
OTHER = "rl_" + "z" * 40


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state" / "keys"


@contextmanager
def no_space() -> Iterator[None]:
    """Every write to a file fails, as on a full disk: the test runner's own too, so only around the call under test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.holds("SSH-04")
def test_a_pair_is_private_whole_and_unsigned(root: Path) -> None:
    """Ed25519, no passphrase, private folder named by the lease; the public line names nobody."""
    keys: KeyStore = LeaseKeys(root)
    line = keys.make(LEASE)

    kind, _key = line.split(" ")
    assert kind == "ssh-ed25519"
    assert {path.name: mode(path) for path in (root / LEASE).iterdir()} == {
        "id_ed25519": 0o600,
        "id_ed25519.pub": 0o600,
    }
    assert mode(root / LEASE) == 0o700
    assert (root / LEASE / "id_ed25519.pub").read_text() == f"{line}\n"


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="OpenSSH's ssh-keygen is not installed")
def test_openssh_derives_the_same_public_line_without_a_passphrase(root: Path) -> None:
    line = LeaseKeys(root).make(LEASE)
    derived = subprocess.run(
        ["ssh-keygen", "-y", "-P", "", "-f", private_key_path(root, LEASE)], capture_output=True, check=True, text=True
    )
    assert derived.stdout.strip() == line


@pytest.mark.holds("SSH-04")
def test_each_lease_has_its_own_pair(root: Path) -> None:
    keys = LeaseKeys(root)
    assert keys.make(LEASE) != keys.make(OTHER)


@pytest.mark.holds("SSH-04")
def test_an_existing_pair_is_reused_and_not_touched(root: Path) -> None:
    keys = LeaseKeys(root)
    line = keys.make(LEASE)
    private = private_key_path(root, LEASE)
    before = (private.read_bytes(), private.stat().st_ino)

    assert keys.make(LEASE) == line
    assert (private.read_bytes(), private.stat().st_ino) == before


def test_a_crash_before_the_public_half_is_completed_from_the_private_half(root: Path) -> None:
    keys = LeaseKeys(root)
    line = keys.make(LEASE)
    public_key_path(root, LEASE).unlink()

    assert keys.make(LEASE) == line
    assert public_key_path(root, LEASE).read_text() == f"{line}\n"


def test_a_crash_while_writing_leaves_nothing_that_counts(root: Path) -> None:
    (root / LEASE).mkdir(parents=True)
    (root / LEASE / ".new-id_ed25519").write_text("half a key")

    line = LeaseKeys(root).make(LEASE)

    assert sorted(path.name for path in (root / LEASE).iterdir()) == ["id_ed25519", "id_ed25519.pub"]
    assert LeaseKeys(root).make(LEASE) == line


def test_a_public_key_of_another_pair_is_refused_and_left(root: Path) -> None:
    keys = LeaseKeys(root)
    keys.make(LEASE)
    stranger = keys.make(OTHER)
    public_key_path(root, LEASE).write_text(stranger)
    with pytest.raises(UsageFailure, match="does not belong to the private key beside it"):
        keys.make(LEASE)
    assert public_key_path(root, LEASE).read_text() == stranger


def test_an_unusable_private_key_is_refused_left_and_not_quoted(root: Path) -> None:
    (root / LEASE).mkdir(parents=True)
    private_key_path(root, LEASE).write_text("SECRET but no key")
    with pytest.raises(UsageFailure, match="is not a usable private key") as caught:
        LeaseKeys(root).make(LEASE)
    assert private_key_path(root, LEASE).read_text() == "SECRET but no key"
    assert (caught.value.__cause__, "SECRET" in str(caught.value)) == (None, False)


@pytest.mark.holds("SSH-04")
def test_a_full_disk_is_a_named_failure_and_leaves_nothing(root: Path) -> None:
    """If it cannot be made durable, no key is created."""
    with pytest.raises(UsageFailure, match="could not be written durably: File too large") as caught, no_space():
        LeaseKeys(root).make(LEASE)
    assert (caught.value.lease_id, caught.value.exit_code, (root / LEASE).exists()) == (LEASE, 2, False)
    assert "disk is not full" in (caught.value.hint or "")


def test_a_file_in_the_way_of_the_folder_is_a_named_failure(root: Path) -> None:
    root.parent.mkdir()
    root.write_text("not a folder")
    with pytest.raises(UsageFailure, match="could not be written durably"):
        LeaseKeys(root).make(LEASE)
    assert root.read_text() == "not a folder"


def test_a_linked_folder_is_refused(root: Path, tmp_path: Path) -> None:
    root.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (root / LEASE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageFailure, match="is not a folder"):
        LeaseKeys(root).make(LEASE)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_that_was_open_to_others_is_closed(root: Path) -> None:
    (root / LEASE).mkdir(parents=True, mode=0o755)
    LeaseKeys(root).make(LEASE)
    assert mode(root / LEASE) == 0o700


@pytest.mark.holds("SSH-04")
def test_each_new_name_is_fsynced_up_to_the_first_folder_that_was_there(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Durable before use; files first, then the folders up to the one that was there."""
    synced: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    LeaseKeys(root).make(LEASE)
    names = {path.stat().st_ino: str(path.relative_to(tmp_path)) for path in [tmp_path, *tmp_path.rglob("*")]}
    folder = f"state/keys/{LEASE}"
    assert [names[inode] for inode in synced] == [
        ".",
        "state",
        "state/keys",
        "state/keys",
        f"{folder}/id_ed25519",
        folder,
        f"{folder}/id_ed25519.pub",
        folder,
    ]


def test_destroy_removes_the_folder_and_may_be_repeated(root: Path) -> None:
    keys = LeaseKeys(root)
    keys.make(LEASE)
    keys.make(OTHER)
    keys.destroy(LEASE)
    keys.destroy(LEASE)
    assert [path.name for path in root.iterdir()] == [OTHER]


def test_destroy_before_any_key_was_made_does_nothing(root: Path) -> None:
    LeaseKeys(root).destroy(LEASE)
    assert not root.exists()


@pytest.mark.holds("LCK-14")
@pytest.mark.parametrize(
    "lease_id",
    [
        "",
        "..",
        "rl_",
        "rl_../../../../etc/passwd",
        "/etc/passwd",
        f" {LEASE}",
        f"{LEASE} ",
        f"{LEASE}\n",
        f"{LEASE}/x",
        LEASE.upper(),
        "rl_" + "a" * 19,
        "rl_" + "a" * 41,
        "rl_" + "\u00e9" * 20,
        "CON",
    ],
)
def test_a_hostile_id_resolves_to_no_path(root: Path, lease_id: str) -> None:
    """Traversal, separators, padding and reserved names are refused for every path and call."""
    keys = LeaseKeys(root)
    for call in (keys.make, keys.destroy, keys.private_path):
        with pytest.raises(UsageFailure, match="is not a lease id"):
            call(lease_id)
    for path in (private_key_path, public_key_path, known_hosts_path):
        with pytest.raises(UsageFailure, match="is not a lease id"):
            path(root, lease_id)
    assert not root.exists()


def test_paths_and_the_ssh_command_line_are_cheap_to_import() -> None:
    program = (
        "import sys, providers.ssh.keys, providers.ssh.openssh, providers.ssh.hostkeys;"
        "print([name for name in ('paramiko', 'cryptography') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert run.stdout == "[]\n"
