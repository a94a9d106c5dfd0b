"""What every flow works with, wired once by the composition root (`cli/app.py`)."""

from collections.abc import Callable

from msgspec import Struct

from ledger.domain.ports import Box, Clock, Interrupts, KeyStore, LeaseLock, Provider
from ledger.flows.book import Book
from ledger.flows.spool import Spool


class Stage(Struct, frozen=True, kw_only=True):
    """One step of a flow, for people who watch: `name` is a word, `detail` the rest of the line."""

    lease_id: str
    slug: str
    name: str
    detail: str = ""


class Services(Struct, frozen=True, kw_only=True):
    """The outside world of a flow. `credential_binding` stands for the API key, which the flows never see."""

    book: Book
    provider: Provider
    credential_binding: str
    box: Box
    keys: KeyStore
    locks: Callable[[str], LeaseLock]
    clock: Clock
    interrupts: Interrupts
    spool: Spool
    tell: Callable[[Stage], None]
    host: str
    pid: int
    poll_interval_s: float
