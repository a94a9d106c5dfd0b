"""Public keys: read, made up, and looked for among the lines of an authorized_keys file."""

import shutil
import subprocess
from pathlib import Path

import pytest

from providers.ssh.publickeys import PublicKey, decoy, is_listed
from tests.providers.sshd import keygen

OURS = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDP0tLlVLgHbMIg4jqV1xlOKGZ1jRYlvmFjtvNWkBTHL"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBbLSmC8yCVbHLrYCTOUSGFLnMLfpnZjpvPJnGvzOw6A"
BLOB = OURS.split()[1]
KEY = PublicKey.parse(OURS)
needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="OpenSSH's ssh-keygen is missing")


def test_a_line_gives_type_and_blob_and_its_comment_is_left_out() -> None:
    assert PublicKey.parse(f"{OURS} somebody@somewhere\n") == KEY
    assert (KEY.kind, len(KEY.blob)) == ("ssh-ed25519", 51)


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 not*base64", f"ssh-rsa {BLOB}", "ssh-ed25519 AAAA"])
def test_what_is_no_key_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a public key line"):
        PublicKey.parse(line)


@needs_ssh_keygen
def test_a_decoy_is_a_key_to_openssh(tmp_path: Path) -> None:
    import base64

    made = decoy()
    (tmp_path / "key.pub").write_text(f"{made.kind} {base64.b64encode(made.blob).decode()}\n")
    listed = subprocess.run(["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, check=True, text=True)
    assert listed.stdout.split()[-1] == "(ED25519)"


def test_no_two_decoys_are_alike() -> None:
    assert len({decoy() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "text",
    [
        OURS,
        f"{OURS} a comment\r\n",
        f"# comment\n\n{OTHER}\n \t{OURS}\n",
        f"restrict,pty {OURS}\n",
        f'command="echo \\"two words\\" # {OTHER}",no-pty\t{OURS}\n',
        f'command="x,cert-authority,y" {OURS}\n',
        f"\ufffd\ufffd\n{OURS}",
    ],
)
def test_a_usable_line_holds_the_key(text: str) -> None:
    assert is_listed(KEY, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        f"#{OURS}\n",
        f" # {OURS}\n",
        f"{OTHER} {OURS}\n",
        f"{OTHER}\n{OURS[:-4]}\n",
        f"ssh-rsa {BLOB}\n",
        f"cert-authority {OURS}\n",
        f'principals="x,y",Cert-Authority {OURS}\n',
        f'command="{OURS}"\n',
        f'command="unclosed {OURS}\n',
        f"two words {OURS}\n",
    ],
)
def test_what_only_mentions_the_key_does_not_hold_it(text: str) -> None:
    assert not is_listed(KEY, text)


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
@needs_ssh_keygen
def test_keys_of_every_type_are_told_apart(tmp_path: Path, kind: str) -> None:
    lines = [keygen(tmp_path / name, kind=kind) for name in ("a", "b")]
    first, second = (PublicKey.parse(line) for line in lines)
    assert (is_listed(first, lines[0]), is_listed(second, lines[0])) == (True, False)
