"""The public halves of keys: read from a line, made up as a decoy, found in an authorized_keys file. No I/O."""

import base64
import binascii
import re
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Struct

# As sshd reads options: up to the first blank outside quotes, where a backslash escapes nothing but a quote.
_QUOTED = r'"(?:[^"\\]|\\"|\\(?!"))*"'
_OPTIONS = re.compile(rf'(?:[^ \t"\\]|\\"|\\(?!")|{_QUOTED})+')


class PublicKey(Struct, frozen=True):
    """A key's type (`ssh-ed25519`) and its blob, as they go over the wire (RFC 4253, section 6.6)."""

    kind: str
    blob: bytes

    @classmethod
    def parse(cls, line: str) -> Self:
        """Reads `ssh-ed25519 AAAA…`; a comment may follow. Raises ValueError for a line that is no public key."""
        try:
            kind, encoded = line.split()[:2]
            blob = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error) as error:
            raise ValueError("not a public key line") from error
        name = kind.encode()
        # The blob begins with the type once more.
        if not blob.startswith(len(name).to_bytes(4, "big") + name):
            raise ValueError("not a public key line")
        return cls(kind, blob)


def decoy() -> PublicKey:
    """A fresh ed25519 key that no server can know and nobody can use: its private half is gone at once."""
    public = Ed25519PrivateKey.generate().public_key()
    return PublicKey.parse(public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii"))


def is_listed(key: PublicKey, authorized_keys: str) -> bool:
    """Whether a usable line of an authorized_keys file holds exactly this key (sshd(8), AUTHORIZED_KEYS FILE FORMAT).

    Options may stand before it; those of a certificate authority's line make it no key to log in with.
    """
    return any(_holds(line.strip(" \t\r"), key) for line in authorized_keys.split("\n"))


def _holds(line: str, key: PublicKey) -> bool:
    if line.startswith("#"):
        return False
    if _is(line, key):
        return True
    options = _OPTIONS.match(line)
    if options is None or "cert-authority" in re.sub(_QUOTED, "", options[0]).lower().split(","):
        return False
    return _is(line[options.end() :], key)


def _is(line: str, key: PublicKey) -> bool:
    try:
        return PublicKey.parse(line) == key
    except ValueError:
        return False
