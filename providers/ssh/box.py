"""The port `ledger.domain.ports.Box` over SSH: a connection for each call, opened with the lease's own key."""

import contextlib
import signal
from collections.abc import Sequence
from time import monotonic

from msgspec.structs import replace

from ledger.domain.errors import Interrupted, SshFailure
from ledger.domain.ports import BoxFacts, Endpoint, Probe, RemoteCommand, RemoteExit
from providers.ssh import proof, readiness
from providers.ssh.connection import connect
from providers.ssh.handshake import Limits
from providers.ssh.keys import LeaseKeys

GRACE_S: dict[int, float] = {signal.SIGINT: 10.0, signal.SIGTERM: 0.5, signal.SIGHUP: 0.5}
"""How long it may take to tell an interrupted command and to see it end, by the signal.

After SIGTERM the box's DELETE has to leave within two seconds.
"""


class SshBox:
    """Reaches boxes with the keys of `keys`."""

    def __init__(self, keys: LeaseKeys, *, limits: Limits | None = None) -> None:
        self._keys = keys
        self._limits = limits or Limits()

    def check(self, endpoint: Endpoint, *, ports: Sequence[int], timeout_s: float | None = None) -> BoxFacts:
        """One staged attempt. Raises SshFailure with the furthest stage that any port reached."""
        limits = self._limits if timeout_s is None else replace(self._limits, end_s=monotonic() + timeout_s)
        return readiness.check(endpoint, self._keys.root, ports=ports, limits=limits)

    def run(self, endpoint: Endpoint, command: RemoteCommand) -> RemoteExit:
        """Runs one command to its end, streaming both outputs as they come.

        An interrupt is passed on to the command, which has a moment to end before `Interrupted` goes on. When the wait
        is broken off in another way (a sink that fails) the command is hung up. Raises SshFailure naming the stage, and
        whatever a sink raised.
        """
        with (
            connect(endpoint, self._keys.root, limits=self._limits) as connection,
            connection.start(command) as session,
        ):
            try:
                return session.wait()
            except Interrupted as interrupted:
                number = interrupted.signal_number
                end_s = monotonic() + GRACE_S[number]
                with contextlib.suppress(SshFailure, TimeoutError):
                    session.signal(signal.Signals(number).name.removeprefix("SIG"), timeout_s=GRACE_S[number])
                    session.wait(max(0.0, end_s - monotonic()))
                session.hurry()
                raise

    def probe(self, endpoint: Endpoint, public_key: str) -> Probe:
        """Whether the server accepts the lease's key and no other. No fault raises; nothing is pinned."""
        return proof.probe(endpoint, public_key, self._keys.root, limits=self._limits)
