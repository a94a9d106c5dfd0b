"""The world of a simulated run: keys that follow from the lease, one clock for all programs, fal with several keys."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from providers.emulator.machines import Settings
from providers.emulator.messages import Request
from providers.ssh.keys import LeaseKeys, lease_folder, private_key_path, public_key_path
from tests.flows.world import STARTED_AT, World
from tests.simulation.clock import SharedClock
from tests.simulation.fal import SimulatedFal
from tests.simulation.steps import Setup

PRIVATE = "PRIVATE KEY of "
"""What each private key holds: it must never turn up elsewhere."""


class SeededKeys(LeaseKeys):
    """Key pairs that follow from the lease's id alone, made without the time that real ones take."""

    def make(self, lease_id: str) -> str:
        line = f"ssh-ed25519 {hashlib.sha256(lease_id.encode()).hexdigest()}"
        lease_folder(self.root, lease_id).mkdir(parents=True, exist_ok=True)
        private_key_path(self.root, lease_id).write_text(f"{PRIVATE}{lease_id}\n")
        public_key_path(self.root, lease_id).write_text(f"{line}\n")
        return line


class SimulatedWorld(World):
    """The world of `tests/flows`, for programs that take turns."""

    def __init__(
        self,
        folder: Path,
        setup: Setup,
        *,
        lay_aside: Callable[[int], bool],
        observer: Callable[[Request, bool], None],
    ) -> None:
        settings = Settings(
            boot_s=setup.boot_s,
            ssh_delay_s=setup.ssh_delay_s,
            delete_s=setup.delete_s,
            idempotency_s=0.0 if setup.forgetful else 600.0,
        )
        self._observer = observer
        super().__init__(folder, settings)
        self.time = SharedClock(STARTED_AT, lay_aside)
        self.time.on_advance.append(self.emulator.advance)
        self.clock = self.time
        self.keys = SeededKeys(folder / "keys")
        self.cloud.latency_s = setup.latency_s

    def _imagine(self, settings: Settings | None) -> SimulatedFal:
        self.cloud = SimulatedFal(STARTED_AT, settings=settings or Settings(), observer=self._observer)
        return self.cloud
