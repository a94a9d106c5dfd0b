"""A world for flows: an emulated fal, a real ledger, real keys, virtual time, and programs that share them."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from cli.interrupts import SignalInterrupts
from ledger.domain import events as e
from ledger.domain.claim import Claim
from ledger.domain.credentials import credential_binding
from ledger.domain.ports import Box
from ledger.domain.rows import Verification
from ledger.domain.state import Lease
from ledger.flows.acquire import Wanted, acquire
from ledger.flows.book import Book
from ledger.flows.services import Services, Stage
from ledger.flows.spool import Spool
from ledger.flows.stop import Stop, stop
from ledger.store.locks import LeaseLock
from ledger.store.sqlite import SqliteRegister
from providers.emulator.faults import Effect, Fault
from providers.emulator.machines import InstanceView, Settings
from providers.emulator.messages import Call, Request
from providers.emulator.serve import ACCOUNT, Emulator
from providers.fal.client import FalClient
from providers.fal.network import Network, Sockets
from providers.ssh.keys import LeaseKeys
from tests.flows.boundaries import (
    Boundaries,
    WatchedClock,
    WatchedKeys,
    WatchedLock,
    WatchedProvider,
    WatchedRegister,
    watched_write,
)
from tests.flows.clock import VirtualClock
from tests.world.box import HOST_KEY as HOST_KEY
from tests.world.box import TOOLS as TOOLS
from tests.world.box import MemoryBox
from tests.world.fal import MemoryFal
from tests.world.ledgers import open_ledger, put_ledger
from tests.world.network import VirtualNetwork

STARTED_AT = datetime(2026, 8, 21, 12, tzinfo=UTC)
POLL_S = 3.0
LEASE = "rl_" + "0" * 26
OTHER = "rl_" + "1" * 26
MINUTE_MS = 60_000
ACQUIRED = ["create-requested", "create-sent", "instance-id-bound", "ready"]
GONE = ["delete-requested", "delete-accepted", "deletion-confirmed", "released"]
"""The facts of a lease that goes well, and of a box that is given back."""


class Program:
    """One process: its own connection to the ledger, its own client, locks and signals."""

    def __init__(self, world: "World", token: str, *, key: str, api_url: str, box: Box | None, ssh_port: int) -> None:
        self.world = world
        self.token = token
        self.boundaries = Boundaries()
        self.told: list[Stage] = []
        self.memory_box = MemoryBox(world.emulator, world.keys, world.silent, self.boundaries.reach)
        self.register = world.open_ledger()
        self.interrupts = SignalInterrupts(world.clock.monotonic_s)
        self.client = FalClient(api_url, key, now=world.clock.now, network=world.network(self.boundaries))
        self.provider = WatchedProvider(self.client, self.boundaries)
        self.locks: list[WatchedLock] = []
        self.ssh_port = ssh_port
        self.waits_in_real_time = False
        register: Any = WatchedRegister(self.register, self.boundaries)
        clock = WatchedClock(world.clock, self.boundaries)
        self.book = Book(register, clock, "tester@host")
        self.services = Services(
            book=self.book,
            provider=self.provider,
            credential_binding=credential_binding(self.register.salt(), key),
            box=box or self.memory_box,
            keys=WatchedKeys(world.keys, self.boundaries),
            locks=self._lock,
            clock=clock,
            interrupts=self.interrupts,
            spool=Spool(world.spool_folder, watched_write(self.boundaries)),
            tell=self.told.append,
            host="host",
            pid=os.getpid(),
            poll_interval_s=POLL_S,
        )

    def _lock(self, lease_id: str) -> WatchedLock:
        clock = None if self.waits_in_real_time else self.world.clock
        lock = WatchedLock(self.world.lease_lock(lease_id), self.boundaries, clock)
        self.locks.append(lock)
        return lock

    def wanted(self, lease_id: str = LEASE, **changes: Any) -> Wanted:
        """A box for 90 minutes, 30 idle, to be ready within 15."""
        usual: dict[str, Any] = {
            "lease_id": lease_id,
            "slug": "gpu-box",
            "slug_is_explicit": True,
            "instance_type": "gpu_1x_h100_sxm5",
            "sector": None,
            "ttl_ms": 90 * MINUTE_MS,
            "idle_timeout_ms": 30 * MINUTE_MS,
            "keep": None,
            "timeout_ms": 15 * MINUTE_MS,
            "purpose": "warmup",
            "acquirer": f"acquirer of {lease_id}",
            "rate": None,
            "repository": None,
            "ssh_user": "ubuntu",
            "ssh_port": self.ssh_port,
            "work_root": "~/rentroll",
        }
        return Wanted(**usual | changes)

    def acquire(self, lease_id: str = LEASE, **changes: Any) -> Lease:
        return acquire(self.services, self.wanted(lease_id, **changes))

    def stop(self, lease_id: str = LEASE, **changes: Any) -> Lease:
        wish: dict[str, Any] = {"lease_id": lease_id, "reason": "enough", "token": "stopper"}
        return stop(self.services, Stop(**wish | changes))

    def die(self) -> None:
        """Frees what the operating system frees."""
        for lock in self.locks:
            lock.die()
        self.client.close()
        self.register.close()


class World:
    """What all programs share, and what a test asks about afterwards.

    fal is its pure state, called directly; with `sockets` it is served over HTTP, with real SSH servers. `silent` are
    the ids of boxes whose SSH server does not answer.
    """

    def __init__(self, folder: Path, settings: Settings | None = None, *, sockets: bool = False) -> None:
        self.folder = folder
        self.clock = VirtualClock(STARTED_AT)
        self.arrived: list[Callable[[Request], None]] = []
        self.keys = LeaseKeys(folder / "keys")
        self.spool_folder = folder / "spool"
        self.lock_folder = folder / "locks"
        self.silent: set[str] = set()
        self.emulator = self._serve(settings) if sockets else self._imagine(settings)
        self.clock.on_advance.append(self.emulator.advance)
        self._programs: list[Program] = []
        self._lease_ids = 100
        self._reader: SqliteRegister | None = None

    def _serve(self, settings: Settings | None) -> Emulator:
        boxes = self.folder / "boxes"
        boxes.mkdir()
        # Time stands still unless the flows sleep.
        return Emulator(
            boxes, started_at=STARTED_AT, settings=settings, observer=self._observe, monotonic_s=lambda: 0.0
        )

    def _imagine(self, settings: Settings | None) -> MemoryFal:
        return MemoryFal(STARTED_AT, settings=settings, observer=self._observe, seed="emulator")

    def __enter__(self) -> Self:
        if isinstance(self.emulator, Emulator):
            self.emulator.start()
        put_ledger(self.folder / "ledger.db", STARTED_AT)
        self._reader = self.open_ledger()
        return self

    def __exit__(self, *failure: object) -> None:
        for program in self._programs:
            program.die()
        self.reader.close()
        if isinstance(self.emulator, Emulator):
            self.emulator.stop()

    @property
    def fal(self) -> MemoryFal:
        """fal itself, where it is not behind sockets."""
        if isinstance(self.emulator, Emulator):
            raise TypeError("this world's fal is served over HTTP")
        return self.emulator

    @property
    def ssh_port(self) -> int:
        """Where the boxes answer SSH."""
        return self.emulator.ssh_port if isinstance(self.emulator, Emulator) else 22

    def network(self, boundaries: Boundaries) -> Network:
        """What a program's calls travel on."""
        if isinstance(self.emulator, Emulator):
            return Sockets()
        return VirtualNetwork(self.fal, self.clock, boundaries.reach)

    def program(
        self, *, key: str | None = None, api_url: str | None = None, box: Box | None = None, ssh_port: int = 22
    ) -> Program:
        """A new process, by default with the account's own key."""
        made = Program(
            self,
            f"process {len(self._programs) + 1}",
            key=key or self.emulator.key,
            api_url=api_url or self.emulator.url,
            box=box,
            ssh_port=ssh_port,
        )
        self._programs.append(made)
        return made

    @property
    def reader(self) -> SqliteRegister:
        """A second connection to the ledger: it sees what is committed."""
        if self._reader is None:
            raise RuntimeError("the world is not entered")
        return self._reader

    def open_ledger(self) -> SqliteRegister:
        return open_ledger(self.folder / "ledger.db", STARTED_AT)

    def new_lease_id(self) -> str:
        """The next id that nothing has yet."""
        self._lease_ids += 1
        return f"rl_{self._lease_ids:026}"

    def lease_lock(self, lease_id: str) -> LeaseLock:
        return LeaseLock(self.lock_folder, lease_id, purpose="test")

    def fault(self, call: Call, *effects: Effect, count: int | None = 1, skip: int = 0) -> None:
        self.emulator.add_fault(Fault(call=call, effects=effects, count=count, skip=skip))

    def types(self, lease_id: str = LEASE) -> list[str]:
        """The types of a lease's events, in order."""
        return [row.type for row in self.reader.rows(lease_id)]

    def payloads(self, kind: str, lease_id: str = LEASE) -> list[dict[str, Any]]:
        """The payloads of a lease's events of one type, in order."""
        return [json.loads(row.payload) for row in self.reader.rows(lease_id, types=(kind,))]

    def recorded_at(self, kind: str, lease_id: str = LEASE) -> datetime:
        """When a lease's only event of one type was recorded."""
        [row] = self.reader.rows(lease_id, types=(kind,))
        return datetime.fromisoformat(row.recorded_at)

    def lease(self, lease_id: str = LEASE) -> Lease:
        return self.reader.load(lease_id)

    def claim(self, lease_id: str = LEASE) -> Claim:
        claim = self.reader.claim(lease_id)
        if claim is None:
            raise AssertionError(f"no claim of {lease_id}")
        return claim

    def calls(self, *kinds: str) -> list[str]:
        """The kinds of the requests that the provider saw, in order; of the given kinds, if any."""
        seen = [entry.call for entry in self.emulator.journal()]
        return [call for call in seen if not kinds or call in kinds]

    def posts(self) -> list[tuple[str | None, str]]:
        """The idempotency key and the body of every create that the provider saw."""
        return [(entry.idempotency_key, entry.body) for entry in self.emulator.journal() if entry.call == "create"]

    def boxes(self) -> list[InstanceView]:
        """Our account's boxes that run, and so bill."""
        return [box for box in self.emulator.instances() if box.account == ACCOUNT and box.deleted_at is None]

    def key_folders(self) -> list[str]:
        root = self.keys.root
        return sorted(path.name for path in root.iterdir()) if root.exists() else []

    def verification(self) -> Verification:
        return self.reader.verify()

    def when(self, method: str, look: Callable[[], None], path: str = "") -> None:
        """Calls `look` at the instant at which such a request arrives, before it is handled."""
        self.arrived.append(lambda request: look() if request.method == method and path in request.target else None)

    def is_free(self, lease_id: str = LEASE) -> bool:
        """Whether nobody holds the lease's lock."""
        lock = self.lease_lock(lease_id)
        taken = lock.try_acquire()
        lock.release()
        return taken

    def keep(self, **lengths: float) -> e.Keep:
        """A promise from now on, for so long."""
        return e.Keep(until=self.clock.now() + timedelta(**lengths), reason="debugging")

    def _observe(self, request: Request) -> None:
        for look in list(self.arrived):
            look(request)
