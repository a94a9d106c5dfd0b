"""fal without a socket: the emulator's pure state with a time of its own, and what it has still to act on."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from providers.emulator.faults import Fault
from providers.emulator.machines import InstanceView, Settings
from providers.emulator.messages import JournalEntry, Request, Response
from providers.emulator.serve import ACCOUNT, api_key
from providers.emulator.state import FalState

URL = "https://fal.test/v1"
STRAY_S = 60.0
"""How long after its sender died a request that was on its way arrives: well inside the time of a POST in flight."""

T = TypeVar("T")


class MemoryFal:
    """What `Emulator` serves over HTTP, for direct calls: the same methods, the same state below them.

    Its clock stands still but for `advance`, which also does what was deferred until then. `latency_s` is how long
    each answer takes.
    """

    def __init__(
        self, started_at: datetime, *, settings: Settings | None, observer: Callable[[Request], None], seed: str
    ) -> None:
        self.key = api_key(seed)
        self.url = URL
        self.latency_s = 0.0
        self.state = FalState(settings, seed=seed)
        self.state.add_account(ACCOUNT, self.key)
        self._observer = observer
        self._now = started_at
        self._due: list[tuple[datetime, int, Callable[[], object]]] = []
        self._planned = 0
        self._resumed: dict[int, Response] = {}

    def receive(self, request: Request) -> Response:
        """Handles a request that has just arrived; a deferred one later, when its time has come."""
        self._observer(request)
        response = self.state.handle(request, self._now)
        ticket = response.ticket
        if ticket is not None:
            self._plan(response.delay_s, lambda: self._resume(ticket))
        return response

    def receive_late(self, request: Request) -> None:
        """Handles a request that was on its way when its sender died, a while from now. Nobody hears the answer."""
        self._plan(STRAY_S, lambda: self.receive(request))

    def resumed(self, ticket: int) -> Response:
        """The answer to a deferred request, once its time has come."""
        return self._resumed.pop(ticket)

    def advance(self, seconds: float) -> None:
        """Moves its clock forward, and does at its moment what was deferred."""
        end = self._now + timedelta(seconds=seconds)
        while self._due and self._due[0][0] <= end:
            at, _, action = self._due.pop(0)
            self._now = max(self._now, at)
            action()
        self._now = max(self._now, end)

    def now(self) -> datetime:
        """What its clock shows."""
        return self._now

    def add_fault(self, fault: Fault) -> None:
        """Puts a fault at the end of the script."""
        self.state.add_fault(fault)

    def instances(self) -> tuple[InstanceView, ...]:
        """Every instance there ever was, in the order of creation."""
        return self.state.instances(self._now)

    def journal(self) -> tuple[JournalEntry, ...]:
        """Every API request that arrived, in order."""
        return self.state.journal()

    def to_come(self) -> tuple[object, ...]:
        """What is planned: the faults still waiting, and the requests still on their way."""
        return (repr(self.state.script.pending()), *((at, number) for at, number, _ in self._due))

    def change(self, action: Callable[[FalState, datetime], T]) -> T:
        """Calls `action` with the state and the time."""
        return action(self.state, self._now)

    def _plan(self, seconds: float, action: Callable[[], object]) -> None:
        self._planned += 1
        self._due = sorted([*self._due, (self._now + timedelta(seconds=seconds), self._planned, action)])

    def _resume(self, ticket: int) -> None:
        self._resumed[ticket] = self.state.resume(ticket, self._now)
