"""The port `ledger.domain.ports.Box` over SSH: a connection for each call, opened with the lease's own key."""

import contextlib
import signal
from collections.abc import Sequence

from ledger.domain.errors import Interrupted, SshFailure
from ledger.domain.ports import BoxFacts, Endpoint, RemoteCommand, RemoteExit
from providers.ssh import readiness
from providers.ssh.connection import Limits, connect
from providers.ssh.keys import LeaseKeys

GRACE_S: dict[int, float] = {signal.SIGINT: 10.0, signal.SIGTERM: 0.5, signal.SIGHUP: 0.5}
"""How long an interrupted command may take to end; after SIGTERM the box's DELETE must leave within two seconds."""


class SshBox:
    """Reaches boxes with the keys of `keys`."""

    def __init__(self, keys: LeaseKeys, *, limits: Limits | None = None) -> None:
        self._keys = keys
        self._limits = limits or Limits()

    def check(self, endpoint: Endpoint, *, ports: Sequence[int]) -> BoxFacts:
        """One staged attempt. Raises SshFailure with the furthest stage that any port reached."""
        return readiness.check(endpoint, self._keys.root, ports=ports, limits=self._limits)

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
                with contextlib.suppress(SshFailure, TimeoutError):
                    session.signal(signal.Signals(interrupted.signal_number).name.removeprefix("SIG"))
                    session.wait(GRACE_S[interrupted.signal_number])
                raise
