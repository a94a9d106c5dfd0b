"""Every step at which a flow touches the outside world, as a named boundary where a test may fail, look or crash.

The proxies wrap the real ports and change nothing else: `reach` is called before and after each effect.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ledger.domain.events import AccountEvent, LeaseEvent
from ledger.domain.ports import Account, CreateRequest, Instance, Inventory
from ledger.domain.state import Lease
from ledger.store.locks import LeaseLock
from ledger.store.private_files import keep_private_file
from ledger.store.sqlite import SqliteRegister
from ledger.store.sqlite_append import SqliteTransaction
from providers.fal.client import FalClient
from providers.ssh.keys import LeaseKeys
from tests.flows.clock import VirtualClock

PATIENCE = 5_000
Action = Callable[[], object]


class Boundaries:
    """The boundaries that one program crosses, in order, and what happens at them."""

    def __init__(self) -> None:
        self.crossed: list[str] = []
        self.everywhere: Callable[[str], None] = lambda _name: None
        self._planned: list[tuple[str, Action]] = []

    def on(self, name: str, action: Action, *, times: int = 1) -> None:
        """Runs `action`, which may raise, the next `times` that this boundary is reached."""
        self._planned += [(name, action)] * times

    def fail(self, name: str, failure: BaseException, *, times: int = 1) -> None:
        """Raises `failure` the next `times` that this boundary is reached."""

        def raise_it() -> None:
            raise failure

        self.on(name, raise_it, times=times)

    def reach(self, name: str) -> None:
        if len(self.crossed) > PATIENCE:
            raise AssertionError("the flow never ends")
        self.crossed.append(name)
        self.everywhere(name)
        for planned in self._planned:
            if planned[0] == name:
                self._planned.remove(planned)
                planned[1]()
                return


class WatchedProvider:
    """The real client; `limits_s` are the time limits that its calls were given, in order, by what they are."""

    name = FalClient.name

    def __init__(self, client: FalClient, boundaries: Boundaries) -> None:
        self.client = client
        self.limits_s: dict[str, list[float | None]] = {
            name: [] for name in ("create", "get", "list", "delete", "billing")
        }
        self._reach = boundaries.reach

    @property
    def scope(self) -> str:
        return self.client.scope

    @property
    def server_date(self) -> datetime | None:
        return self.client.server_date

    def create(self, request: CreateRequest, *, idempotency_key: str, timeout_s: float) -> Instance:
        self.limits_s["create"].append(timeout_s)
        self._reach("call create")
        made = self.client.create(request, idempotency_key=idempotency_key, timeout_s=timeout_s)
        self._reach("answered create")
        return made

    def get(self, instance_id: str, *, timeout_s: float | None = None) -> Instance:
        self.limits_s["get"].append(timeout_s)
        self._reach("call get")
        return self.client.get(instance_id, timeout_s=timeout_s)

    def inventory(self, *, timeout_s: float | None = None) -> Inventory:
        self.limits_s["list"].append(timeout_s)
        self._reach("call list")
        return self.client.inventory(timeout_s=timeout_s)

    def delete(self, instance_id: str, *, timeout_s: float | None = None) -> None:
        self.limits_s["delete"].append(timeout_s)
        self._reach("call delete")
        self.client.delete(instance_id, timeout_s=timeout_s)
        self._reach("answered delete")

    def account(self, *, timeout_s: float | None = None) -> Account:
        self.limits_s["billing"].append(timeout_s)
        self._reach("call billing")
        return self.client.account(timeout_s=timeout_s)


class WatchedKeys:
    """The real keys."""

    def __init__(self, keys: LeaseKeys, boundaries: Boundaries) -> None:
        self._keys = keys
        self._reach = boundaries.reach

    def make(self, lease_id: str) -> str:
        self._reach("make key")
        made = self._keys.make(lease_id)
        self._reach("made key")
        return made

    def destroy(self, lease_id: str) -> None:
        self._reach("destroy key")
        self._keys.destroy(lease_id)
        self._reach("destroyed key")

    def private_path(self, lease_id: str) -> Path:
        return self._keys.private_path(lease_id)


class WatchedClock:
    """The virtual clock."""

    def __init__(self, clock: VirtualClock, boundaries: Boundaries) -> None:
        self.now = clock.now
        self.monotonic_s = clock.monotonic_s
        self.boot = clock.boot
        self._clock = clock
        self._reach = boundaries.reach

    def sleep(self, seconds: float) -> None:
        self._reach("sleep")
        self._clock.sleep(seconds)


def watched_write(boundaries: Boundaries) -> Callable[[Path, bytes], None]:
    """The real writing of a spool file."""

    def write(path: Path, content: bytes) -> None:
        boundaries.reach("spool")
        keep_private_file(path, content)
        boundaries.reach("spooled")

    return write


class WatchedLock:
    """The real lock, waited for in virtual time, or in real time where there is no clock."""

    def __init__(self, lock: LeaseLock, boundaries: Boundaries, clock: VirtualClock | None) -> None:
        self._lock = lock
        self._reach = boundaries.reach
        self._clock = clock

    def acquire(self, *, timeout_s: float) -> None:
        self._reach("lock")
        clock = self._clock
        if clock is None:
            self._lock.acquire(timeout_s)
        else:
            self._lock.acquire(timeout_s, monotonic=clock.monotonic_s, sleep=lambda _short: clock.sleep(0.5))
        self._reach("locked")

    def try_acquire(self) -> bool:
        self._reach("try lock")
        taken = self._lock.try_acquire()
        if taken:
            self._reach("locked")
        return taken

    @property
    def is_held(self) -> bool:
        return self._lock.is_held

    def release(self) -> None:
        self._reach("unlock")
        self._lock.release()
        self._reach("unlocked")

    def die(self) -> None:
        """What the operating system does when its holder dies."""
        self._lock.release()


class WatchedRegister:
    """The real SQLite ledger: `append X` before, `appended X` before the commit, `committed X` after it."""

    def __init__(self, register: SqliteRegister, boundaries: Boundaries) -> None:
        self._register = register
        self._reach = boundaries.reach

    @contextmanager
    def transaction(self) -> Iterator["WatchedTransaction"]:
        self._reach("begin")
        with self._register.transaction() as transaction:
            watched = WatchedTransaction(transaction, self._reach)
            yield watched
        for name in watched.appended:
            self._reach(f"committed {name}")

    def load(self, lease_id: str) -> Lease:
        self._reach("load")
        return self._register.load(lease_id)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._register, name)


class WatchedTransaction:
    """One real transaction."""

    def __init__(self, transaction: SqliteTransaction, reach: Callable[[str], None]) -> None:
        self.appended: list[str] = []
        self._transaction = transaction
        self._reach = reach

    def append(self, lease: Lease, facts: Sequence[LeaseEvent], *, at: datetime, actor: str) -> Lease:
        names = [fact.TYPE for fact in facts]
        for name in names:
            self._reach(f"append {name}")
        appended = self._transaction.append(lease, facts, at=at, actor=actor)
        for name in names:
            self._reach(f"appended {name}")
        self.appended += names
        return appended

    def append_account(self, fact: AccountEvent, *, at: datetime, actor: str) -> int:
        self._reach(f"append {fact.TYPE}")
        position = self._transaction.append_account(fact, at=at, actor=actor)
        self._reach(f"appended {fact.TYPE}")
        self.appended.append(fact.TYPE)
        return position

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)
