"""What the ledger remembers of an API key: a keyed hash that only this ledger's salt can make, never the key."""

import hashlib
import hmac


def credential_binding(salt: bytes, api_key: str) -> str:
    """The binding of a key under a ledger's salt; outer spaces of the key do not matter (scenario CRD-01, W-28)."""
    return hmac.new(salt, b"rentroll credential\x00" + api_key.strip().encode(), hashlib.sha256).hexdigest()


def request_digest(instance_type: str, sector: str | None, public_key: str) -> str:
    """The digest of a create's body: a replay whose digest differs is refused (scenario CRE-22)."""
    parts = (instance_type, sector or "", public_key)
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()
