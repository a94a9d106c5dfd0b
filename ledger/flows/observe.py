"""One look at everything an account has, kept as evidence."""

from ledger.domain import events as e
from ledger.domain.ports import Inventory
from ledger.flows.services import Services


def observe(services: Services) -> Inventory:
    """Reads a complete inventory and appends `inventory-observed`. Raises what the provider raises."""
    inventory = services.provider.inventory()
    record(services, inventory)
    return inventory


def record(services: Services, inventory: Inventory) -> int:
    """Appends an inventory that was read; gives its position."""
    fact = e.InventoryObserved(
        scope=services.provider.scope,
        credential_binding=services.credential_binding,
        begun_at=inventory.begun_at,
        instances=inventory.instances,
    )
    return services.book.record_account(fact)
