"""The SSH side of the emulated boxes without a network: what a box would say follows from fal's state alone."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from ledger.domain.errors import SshFailure
from ledger.domain.ports import (
    BoxFacts,
    Ended,
    Endpoint,
    Holder,
    NoAgent,
    Place,
    Probe,
    RemoteCommand,
    RemoteExit,
    RemoteRun,
    Running,
    Sink,
    Workspace,
)
from providers.emulator.machines import InstanceView
from providers.emulator.state import FalState
from providers.ssh.keys import LeaseKeys, public_key_path

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEmulatedBox"
TOOLS = {"sh": True, "tar": True, "git": True, "rsync": True, "python3": True}
LOGIN = ("ubuntu", 22)
"""Who may log in, and where: other users are refused, other ports do not answer."""

T = TypeVar("T")


class Fal(Protocol):
    """The emulated fal, over HTTP or not."""

    def change(self, action: Callable[[FalState, datetime], T]) -> T: ...


class MemoryBox:
    """The port `Box`. Each box lets in whom its `ssh_policy` says; one whose id is in `silent` does not answer.

    `check` fails first with the next of `failures`, or always with `always`.
    """

    def __init__(self, fal: Fal, keys: LeaseKeys, silent: set[str], reach: Callable[[str], None]) -> None:
        self.failures: list[SshFailure | Callable[[], None]] = []
        self.always: SshFailure | None = None
        self.answering_port: int | None = None
        self.checks: list[tuple[str, str, tuple[int, ...]]] = []
        self.probes: list[tuple[str, int, str]] = []
        self.ends: Callable[[RemoteCommand], RemoteExit] = lambda _command: RemoteExit(exit_code=0)
        self._fal = fal
        self._keys = keys
        self._silent = silent
        self._reach = reach

    def check(self, endpoint: Endpoint, *, ports: Sequence[int], timeout_s: float | None = None) -> BoxFacts:
        self._reach("check")
        self.checks.append((endpoint.user, endpoint.host, tuple(ports)))
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, SshFailure):
                raise failure
            failure()
        if self.always is not None:
            raise SshFailure(self.always.message, stage=self.always.stage)
        box = self._box_at(endpoint.host)
        if box is None:
            raise SshFailure("no TCP connection: Connection refused", stage="tcp")
        if not _lets_in(box, self._public_key(endpoint.lease_id)):
            raise SshFailure("the lease's key was refused", stage="authentication")
        self._reach("checked")
        return BoxFacts(
            port=self.answering_port or ports[0], host_key=HOST_KEY, host_key_fingerprint="SHA256:box", tools=TOOLS
        )

    def run(self, endpoint: Endpoint, command: RemoteCommand) -> RemoteExit:
        self._reach("run")
        ended = self.ends(command)
        self._reach("ran")
        return ended

    def probe(self, endpoint: Endpoint, public_key: str) -> Probe:
        self._reach("probe")
        self.probes.append((endpoint.host, endpoint.port, endpoint.user))
        box = self._box_at(endpoint.host) if endpoint.port == LOGIN[1] else None
        if box is None:
            return Probe(verdict="no-answer", host_key=None, detail="no TCP connection")
        verdict = _verdict(box, public_key if endpoint.user == LOGIN[0] else None)
        self._reach("probed")
        return Probe(verdict=verdict, host_key=HOST_KEY, detail=f"{box.ssh_policy}")

    def open(
        self,
        endpoint: Endpoint,
        place: Place,
        holder: Holder,
        *,
        wait_s: float,
        waiting: Callable[[Holder], None] = lambda _holder: None,
    ) -> Workspace:
        raise NoAgent("the box has no python3", stage="tools")

    def attach(
        self,
        endpoint: Endpoint,
        place: Place,
        run_id: str,
        *,
        from_stdout: int = 0,
        from_stderr: int = 0,
        stdin: int | None = None,
        on_stdout: Sink,
        on_stderr: Sink,
        told: Callable[[str], None] = lambda _sentence: None,
    ) -> Running:
        raise NoAgent("the box has no python3", stage="tools")

    def runs(self, endpoint: Endpoint, place: Place) -> list[RemoteRun]:
        raise NoAgent("the box has no python3", stage="tools")

    def stop_run(self, endpoint: Endpoint, place: Place, run_id: str, *, grace_s: float) -> Ended:
        raise NoAgent("the box has no python3", stage="tools")

    def warm(self, endpoint: Endpoint) -> None:
        """There is no connection to keep."""

    def _box_at(self, address: str) -> InstanceView | None:
        up = self._fal.change(lambda state, now: state.answering_ssh(now))
        return next((box for box in up if box.ip == address and box.id not in self._silent), None)

    def _public_key(self, lease_id: str) -> str | None:
        path = public_key_path(self._keys.root, lease_id)
        return path.read_text().strip() if path.exists() else None


def _lets_in(box: InstanceView, public_key: str | None) -> bool:
    if box.ssh_policy == "own-key":
        return public_key is not None and box.public_key == public_key
    return box.ssh_policy != "no-key"


def _verdict(box: InstanceView, public_key: str | None) -> str:
    if box.ssh_policy in ("every-key", "anybody"):
        return "unproven"
    return "accepted" if _lets_in(box, public_key) else "refused"
