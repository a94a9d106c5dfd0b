"""The provider that there is without an API key: everything that needs it says so, everything else goes on."""

from datetime import datetime
from typing import NoReturn

from ledger.domain.errors import CredentialsFailure
from ledger.domain.ports import Account, CreateRequest, Instance, Inventory


def missing_key() -> CredentialsFailure:
    """The refusal of every call that needs a key; it names no variable's content (scenario DOC-01)."""
    return CredentialsFailure("an API key is required from the environment", hint="`rentroll doctor` checks the set-up")


class AbsentProvider:
    """Stands where a provider would; each use raises `CredentialsFailure`."""

    name = "fal"
    server_date: datetime | None = None

    @property
    def scope(self) -> str:
        return self._refuse()

    def create(self, request: CreateRequest, *, idempotency_key: str, timeout_s: float) -> Instance:
        return self._refuse()

    def get(self, instance_id: str, *, timeout_s: float | None = None) -> Instance:
        return self._refuse()

    def inventory(self, *, timeout_s: float | None = None) -> Inventory:
        return self._refuse()

    def delete(self, instance_id: str, *, timeout_s: float | None = None) -> None:
        self._refuse()

    def account(self, *, timeout_s: float | None = None) -> Account:
        return self._refuse()

    def _refuse(self) -> NoReturn:
        raise missing_key()
