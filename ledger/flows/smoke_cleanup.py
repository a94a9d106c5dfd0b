"""The armed cleanup of a live smoke: it gives one lease back by its id, and says what is left of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from ledger.domain.errors import Interrupted, RentrollError
from ledger.domain.ports import Inventory
from ledger.domain.redact import redact
from ledger.domain.smoke import Left, could_be_of, left_of
from ledger.domain.state import Lease, Outcome, Phase
from ledger.flows.observe import record
from ledger.flows.reopen import reopen_returned
from ledger.flows.search import search
from ledger.flows.services import Services
from ledger.flows.stop import LOCK_WAIT_S, Stop, stop

PAUSE_S = 2.0
TRIES = 65
"""It tries so often, `PAUSE_S` apart (SMK-16)."""
STOP_S = 10.0
"""How long one try sends and confirms; what takes longer is taken up by the next."""


class Cleaned(Struct, frozen=True, kw_only=True):
    """What a cleanup could not end, in how many tries; `lease` is what it read of the lease last."""

    lease: Lease
    left: tuple[Left, ...]
    tries: int


class Cleanup:
    """The cleanup of the lease of one smoke, which need not have been requested yet. `token` as in `Stop`.

    It touches nothing else: never the general cleanup (SMK-07), which may delete what somebody else still waits for.
    """

    def __init__(self, services: Services, lease_id: str, *, token: str) -> None:
        self._services = services
        self._lease_id = lease_id
        self._token = token
        self._lease = Lease(lease_id=lease_id)

    def run(self) -> Cleaned:
        """Gives the lease back and looks for what is left of it, again and again until nothing is."""
        left: list[Left] = []
        for number in range(1, TRIES + 1):
            left = self._try()
            if not left:
                return Cleaned(lease=self._lease, left=(), tries=number)
            if number < TRIES:
                self._services.clock.sleep(PAUSE_S)
        return Cleaned(lease=self._lease, left=tuple(left), tries=TRIES)

    def left_of_ours(self, listed: frozenset[str] = frozenset()) -> list[Left]:
        """What the ledger, the ids of an inventory and the folder of keys still show of ours."""
        left = left_of(self._ours(), listed)
        folder = self._services.keys.private_path(self._lease_id).parent
        if folder.exists() and not any(one.kind in ("open", "in-doubt") for one in left):
            left.append(Left(kind="key", told=f"the key folder {folder} was not removed"))
        return left

    def _try(self) -> list[Left]:
        problems: list[Left] = []
        with _noting(problems, "stop"):
            self._stop_ours()
        with _noting(problems, "look"):
            left = self._look()
            # Where nothing is shown any more, a stop that failed has nothing more to do.
            return [*left, *problems] if left else []
        return problems

    def _stop_ours(self) -> None:
        for lease in self._ours():
            stop(
                self._services,
                Stop(lease_id=lease.lease_id, reason="live smoke", token=self._token, timeout_s=STOP_S),
            )

    def _look(self) -> list[Left]:
        """What is left now; on the way, boxes of ours that came back, or that no answer told us of, are bound again."""
        services = self._services
        if not any(lease.attempts for lease in self._ours()):
            return self.left_of_ours()  # nothing was ever sent
        inventory = services.provider.inventory()
        for lease in self._ours():
            if lease.outcome is Outcome.REJECTED or (lease.instance_id is not None and lease.is_suspect):
                self._search(lease, inventory)
        released = [lease.lease_id for lease in self._ours() if lease.phase is Phase.RELEASED]
        reopen_returned(services, [services.book.claim(lease_id) for lease_id in released], inventory)
        strangers = could_be_of(services.book.load(self._lease_id), inventory.instances, services.book.is_bound)
        return [*self.left_of_ours(frozenset(box.id for box in inventory.instances)), *strangers]

    def _search(self, lease: Lease, inventory: Inventory) -> None:
        """Offers the lease's key to what is new: a refused create must have made nothing (SMK-11)."""
        lock = self._services.locks(lease.lease_id)
        lock.acquire(timeout_s=LOCK_WAIT_S)
        try:
            record(self._services, inventory)
            search(self._services, lease.lease_id, inventory=inventory)
        finally:
            lock.release()

    def _ours(self) -> list[Lease]:
        """The lease, where it was requested, and the open twins that hold a second box of it."""
        book = self._services.book
        lease = self._lease = book.load(self._lease_id)
        if lease.phase is None:
            return []
        others = (book.load(claim.lease_id) for claim in book.register.claims() if claim.lease_id != self._lease_id)
        return [lease, *(twin for twin in others if twin.request and twin.request.twin_of == self._lease_id)]


def in_words(failure: Exception | Interrupted) -> str:
    """What a failure says, without secrets; a bug with its kind."""
    if isinstance(failure, RentrollError):
        return redact(failure.message)
    return redact(str(failure) if isinstance(failure, Interrupted) else f"{type(failure).__name__}: {failure}")


@contextmanager
def _noting(problems: list[Left], kind: str) -> Iterator[None]:
    """Whatever one part of a try meets, the other part and the next try still have their turn."""
    try:
        yield
    except Exception as failure:  # noqa: BLE001 - not even a bug may keep the next try from ending the lease
        problems.append(Left(kind=kind, told=in_words(failure)))
