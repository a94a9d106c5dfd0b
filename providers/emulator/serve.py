"""The whole emulator: fal's HTTP API and the SSH servers of its boxes, on loopback, in a thread of its own."""

import asyncio
import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self, TypeVar

from msgspec.structs import replace

from providers.emulator.box import listening_socket
from providers.emulator.clock import EmulatorClock
from providers.emulator.control import ControlApi
from providers.emulator.faults import Fault
from providers.emulator.http import FalHttpServer, Observer
from providers.emulator.machines import LOOPBACK_ADDRESSES, InstanceView, Settings
from providers.emulator.messages import JournalEntry
from providers.emulator.requests import BASE_PATH
from providers.emulator.ssh import Boxes
from providers.emulator.state import FalState

ACCOUNT = "emulated-team"
"""The account that owns the emulator's own key."""

RATES = {"GPU_1X_H100_SXM5": "3.00", "GPU_8X_H100_SXM5": "24.00"}
"""Made-up rates in dollars an hour: fal's API shows none."""

_T = TypeVar("_T")


class Emulator:
    """Serves an emulated fal between `start` and `stop`; usable as a context manager.

    `folder` is where the boxes live; it must exist and is left empty. `started_at` is what its clock shows first.
    `seed` determines the API key and every instance id. A port of 0 means any free one. `observer` is called with
    each API request before it is handled. Methods may be called from any thread while it runs.
    """

    def __init__(
        self,
        folder: Path,
        *,
        started_at: datetime,
        settings: Settings | None = None,
        seed: str = "emulator",
        http_port: int = 0,
        ssh_port: int = 0,
        user: str = "ubuntu",
        observer: Observer | None = None,
        monotonic_s: Callable[[], float] = monotonic,
    ) -> None:
        self.key = api_key(seed)
        self.http_port = http_port
        self.ssh_port = ssh_port
        self._settings = settings or Settings()
        self._seed = seed
        self._folder = folder
        self._user = user
        self._observer = observer
        self._clock = EmulatorClock(started_at, monotonic_s)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts serving. Raises `OSError` where a port is taken."""
        running: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(running,), name="rentroll-emulator")
        self._thread.start()
        try:
            running.result()
        except BaseException:
            self._thread.join()
            self._thread = None
            raise

    def stop(self) -> None:
        """Stops serving: no process, thread, socket or file of it is left. A repeat does nothing."""
        if self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """fal's base URL, as a client is to be given it."""
        return f"http://127.0.0.1:{self.http_port}{BASE_PATH}"

    def environment(self) -> dict[str, str]:
        """What to put into a program's environment for it to use this emulator. The rates are made up."""
        return {
            "RENTROLL_FAL_API_URL": self.url,
            "RENTROLL_FAL_KEY": self.key,
            "RENTROLL_FAL_SSH_PORT": str(self.ssh_port),
            "RENTROLL_FAL_WORK_ROOT": "~/rentroll",
            **{f"RENTROLL_RATES_{name}": rate for name, rate in RATES.items()},
        }

    def advance(self, seconds: float) -> None:
        """Moves the emulator's clock forward; what has become ready by then answers when this returns."""
        self.change(lambda _state, _now: self._clock.advance(seconds))

    def add_fault(self, fault: Fault) -> None:
        """Puts a fault at the end of the script."""
        self.change(lambda state, _now: state.add_fault(fault))

    def instances(self) -> tuple[InstanceView, ...]:
        """Every instance there ever was, in the order of creation."""
        return self.change(lambda state, now: state.instances(now))

    def journal(self) -> tuple[JournalEntry, ...]:
        """Every API request that arrived, in order."""
        return self.change(lambda state, _now: state.journal())

    def rekey(self, instance_id: str) -> None:
        """Gives a box another host key. Raises `KeyError` where no such box is running."""
        asyncio.run_coroutine_threadsafe(self._boxes.rekey(instance_id), self._loop).result()

    def go_away(self) -> None:
        """Closes the HTTP port and every connection to it, as a server that is stopped; its state and boxes stay."""
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result()

    def come_back(self) -> None:
        """Serves again on the same port, with the same state. Raises `OSError` where it is taken."""
        asyncio.run_coroutine_threadsafe(self._server.start(self.http_port), self._loop).result()

    def now(self) -> datetime:
        """What the emulator's clock shows."""
        return self._clock.now()

    def change(self, action: Callable[[FalState, datetime], _T]) -> _T:
        """Calls `action` with the state and the time in the emulator's thread, then brings the boxes in line."""

        async def run() -> _T:
            result = action(self._state, self._clock.now())
            await self._boxes.settle()
            return result

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def _run(self, running: "Future[None]") -> None:
        try:
            asyncio.run(self._serve(running))
        except BaseException as error:
            if running.done():
                raise
            running.set_exception(error)

    async def _serve(self, running: "Future[None]") -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._state = FalState(_on_this_machine(self._settings), seed=self._seed)
        self._state.add_account(ACCOUNT, self.key)
        boxes = self._boxes = Boxes(self._state, self._clock, root=self._folder, user=self._user)
        control = ControlApi(self._state, self._clock, settle=boxes.settle, rekey=boxes.rekey)
        server = FalHttpServer(self._state, self._clock, settle=boxes.settle, control=control, observer=self._observer)
        self._server = server
        try:
            self.ssh_port = await boxes.start(self.ssh_port)
            self.http_port = await server.start(self.http_port)
            running.set_result(None)
            await self._stopping.wait()
        finally:
            await server.stop()
            await boxes.stop()


def api_key(seed: str) -> str:
    """The emulator's API key: the same for the same seed, and accepted by nobody else."""
    return f"emulator:{hashlib.sha256(f'key:{seed}'.encode()).hexdigest()[:32]}"


def _on_this_machine(settings: Settings) -> Settings:
    # macOS has only 127.0.0.1 unless somebody adds addresses: then there is room for one box at a time.
    if settings.addresses != LOOPBACK_ADDRESSES:
        return settings
    try:
        listening_socket(LOOPBACK_ADDRESSES[0], 0).close()
    except OSError:
        return replace(settings, addresses=("127.0.0.1",))
    return settings
