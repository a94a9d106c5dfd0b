"""The boxes of the emulated fal: brings the running SSH servers to what the state says, as time passes."""

import asyncio
import logging
from pathlib import Path

from providers.emulator.box import Box, listening_socket
from providers.emulator.clock import EmulatorClock
from providers.emulator.state import FalState

_LOG = logging.getLogger(__name__)
_IDLE_S = 3600.0


class Boxes:
    """Every running box, by instance id. All listen on the same port, each on its own loopback address.

    Folders are made below `root` when a box comes up and are removed with it.
    """

    def __init__(self, state: FalState, clock: EmulatorClock, *, root: Path, user: str) -> None:
        self.port = 0
        self._state = state
        self._clock = clock
        self._root = root
        self._user = user
        self._boxes: dict[str, Box] = {}
        self._lock = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None

    async def start(self, port: int) -> int:
        """Reserves the port (0 for any), watches the time, and gives the port. Raises `OSError` if it is taken."""
        # Bound to every address and not listening: no other program gets this port on an address of a later box.
        self._reservation = listening_socket("0.0.0.0", port)  # noqa: S104 - it never listens
        self.port = self._reservation.getsockname()[1]
        self._watcher = asyncio.create_task(self._watch())
        return self.port

    async def stop(self) -> None:
        """Stops every box and removes its folder."""
        if self._watcher is None:
            return
        self._watcher.cancel()
        await asyncio.gather(self._watcher, return_exceptions=True)
        self._watcher = None
        async with self._lock:
            for box in self._boxes.values():
                await box.stop()
            self._boxes.clear()
        self._reservation.close()

    async def settle(self) -> None:
        """Starts and stops boxes until they are what the state says now. Raises `OSError` for a port in use."""
        async with self._lock:
            wanted = {instance.id: instance for instance in self._state.answering_ssh(self._clock.now())}
            for instance_id in self._boxes.keys() - wanted.keys():
                await self._boxes.pop(instance_id).stop()
            for instance_id in wanted.keys() - self._boxes.keys():
                box = Box(wanted[instance_id], folder=self._root / instance_id, user=self._user)
                await box.start(self.port)
                self._boxes[instance_id] = box
            for instance_id, box in self._boxes.items():
                box.ssh_policy = wanted[instance_id].ssh_policy
        self._clock.wake()

    async def rekey(self, instance_id: str) -> None:
        """Gives a box another host key. Raises `KeyError` where no such box is running."""
        await self.settle()
        async with self._lock:
            await self._boxes[instance_id].rekey(self.port)

    async def _watch(self) -> None:
        while True:
            now = self._clock.now()
            moment = self._state.next_change(now)
            left_s = _IDLE_S if moment is None else (moment - now).total_seconds()
            await self._clock.wait_for_move(left_s)
            try:
                await self.settle()
            except OSError as error:
                _LOG.warning("a box's SSH server did not come up: %s", error)
