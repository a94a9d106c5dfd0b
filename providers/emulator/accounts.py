"""The accounts of the emulated fal and the API keys that each accepts. Keys are kept as digests only."""

import hashlib
from decimal import Decimal

from msgspec import Struct


class Account(Struct, frozen=True, kw_only=True):
    """A workspace: its name and its credits."""

    username: str
    balance: Decimal = Decimal("100.00")
    currency: str = "USD"


class Permissions(Struct, frozen=True, kw_only=True):
    """What a key may do, and for which account."""

    account: str
    compute: bool = True
    billing: bool = True


class Accounts:
    """Who owns what: accounts by name, permissions by key."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._permissions: dict[str, Permissions] = {}

    def add(self, account: Account) -> None:
        """Adds an account, or replaces the one of that name (to change its balance)."""
        self._accounts[account.username] = account

    def get(self, username: str) -> Account:
        """The account of that name. Raises `KeyError` where there is none."""
        return self._accounts[username]

    def accept_key(self, key: str, permissions: Permissions) -> None:
        """Accepts a key from now on. Raises `KeyError` where the account does not exist."""
        self.get(permissions.account)
        self._permissions[_digest(key)] = permissions

    def revoke_key(self, key: str) -> None:
        """Accepts a key no longer; does nothing for an unknown one."""
        self._permissions.pop(_digest(key), None)

    def permissions(self, key: str) -> Permissions | None:
        """What a key may do, or None where it is not accepted."""
        return self._permissions.get(_digest(key))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
