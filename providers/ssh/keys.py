"""Each lease's own ed25519 key pair on this machine: `<root>/<lease_id>/`, 0700, its files 0600.

A public key is put in one create only, so the pair is part of the proof of ownership: it is durable before the
create, reused if it is there already, and never overwritten. Importing this module is cheap: `cryptography` is
loaded by `make` alone.
"""

import re
from pathlib import Path

from ledger.domain.errors import UsageFailure
from ledger.store.private_files import TEMPORARY_PREFIX, sync_folder, take_private_folder, write_private_file

_LEASE_ID = re.compile(r"rl_[a-z0-9]{20,40}", re.ASCII)
_FOLDER_HINT = "Check that the disk is not full and that you may write to the folder of the keys."


def lease_folder(root: Path, lease_id: str) -> Path:
    """The folder of one lease below `root`, the folder of all keys.

    Raises UsageFailure for anything that is not a lease id, so that no hostile id resolves to a path.
    """
    if not _LEASE_ID.fullmatch(lease_id):
        raise UsageFailure(f"{lease_id!r} is not a lease id, so it has no key.")
    return root / lease_id


def private_key_path(root: Path, lease_id: str) -> Path:
    """Where the lease's private key is (OpenSSH format, no passphrase). Raises UsageFailure for a bad id."""
    return lease_folder(root, lease_id) / "id_ed25519"


def public_key_path(root: Path, lease_id: str) -> Path:
    """Where the lease's public key line is. Raises UsageFailure for a bad id."""
    return lease_folder(root, lease_id) / "id_ed25519.pub"


def known_hosts_path(root: Path, lease_id: str) -> Path:
    """Where the host keys that were pinned for the lease are. Raises UsageFailure for a bad id."""
    return lease_folder(root, lease_id) / "known_hosts"


class LeaseKeys:
    """The key store (`ledger.domain.ports.KeyStore`) whose leases' folders are below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def private_path(self, lease_id: str) -> Path:
        """Where the lease's private key is. Raises UsageFailure for a bad id."""
        return private_key_path(self.root, lease_id)

    def make(self, lease_id: str) -> str:
        """Makes the lease's pair durably, or reuses the one that is there, and gives its public key line.

        The line has no comment, so it names neither user nor machine. Raises UsageFailure where the pair cannot
        be made durable, and then leaves nothing behind; and where what is there is not a pair.
        """
        folder = lease_folder(self.root, lease_id)
        private, public = private_key_path(self.root, lease_id), public_key_path(self.root, lease_id)
        new_folder = False
        made: list[Path] = []
        try:
            new_folder = not folder.exists()
            take_private_folder(folder)
            for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
                leftover.unlink(missing_ok=True)
            if not private.exists():
                made = [private, public]
                write_private_file(private, _new_private_key())
            line = _public_line(private)
            if private not in made and public.exists():
                _refuse_stranger(public, line)
            else:
                write_private_file(public, f"{line}\n".encode())
        except OSError as error:
            _remove(made, folder=folder if new_folder else None)
            raise UsageFailure(
                f"The SSH key of {lease_id} could not be written durably: {error.strerror or error}.",
                hint=_FOLDER_HINT,
                lease_id=lease_id,
            ) from error
        return line

    def destroy(self, lease_id: str) -> None:
        """Ends the connections that were opened with the key and removes the lease's folder, if they are there still.

        Unlinks only: overwriting proves nothing on a copy-on-write or journalling disk. Raises UsageFailure where
        it cannot be removed.
        """
        from providers.ssh.control import end_masters

        folder = lease_folder(self.root, lease_id)
        end_masters(self.root, lease_id)
        try:
            import shutil  # late: it is not needed to work on a box

            shutil.rmtree(folder)
            sync_folder(self.root)
        except FileNotFoundError:
            return
        except OSError as error:
            raise UsageFailure(
                f"The SSH key of {lease_id} could not be removed: {error.strerror or error}.",
                hint=f"Remove the folder {folder} yourself.",
                lease_id=lease_id,
            ) from error


def _new_private_key() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )


def _public_line(private: Path) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_ssh_private_key(private.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The parser's own text is left out of the chain: it may quote the file, which holds a secret.
        raise UsageFailure(
            f"{private} is not a usable private key.", hint="It is left as it is; move it away to have a new one made."
        ) from None
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return line.decode("ascii")


def _refuse_stranger(public: Path, line: str) -> None:
    if public.read_text(encoding="utf-8", errors="replace").split()[:2] != line.split():
        raise UsageFailure(
            f"{public} does not belong to the private key beside it.",
            hint="Neither is changed; restore the right one, or move both away to have a new pair made.",
        )


def _remove(files: list[Path], *, folder: Path | None) -> None:
    for file in files:
        file.unlink(missing_ok=True)
    if folder is not None:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
