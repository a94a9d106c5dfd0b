"""fal with more than one account, more than one key, and requests that outlive their senders for a bounded time."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus

import msgspec

from providers.emulator.accounts import Permissions
from providers.emulator.faults import Fault, Rewrite, Status
from providers.emulator.machines import Settings
from providers.emulator.messages import Request, Response
from providers.emulator.serve import ACCOUNT, api_key
from tests.world.fal import MemoryFal

STRAY_S = 20
"""How long after its sender died a request arrives. With the longest deferral it is over within 90 s: what the design
takes for granted of a POST in flight."""
LONGEST_DEFERRAL_S = 65
OTHERS = "somebody-else"


class SimulatedFal(MemoryFal):
    """`foreign` are the boxes that are not ours; `answered` is the id in the newest 201, by idempotency key.

    `is_late_send` says that whoever sends now was held up between its last look and the first byte. `observer` is told
    of each request, and whether its sender was dead when it arrived.
    """

    def __init__(self, started_at: datetime, *, settings: Settings, observer: Callable[[Request, bool], None]) -> None:
        self.foreign: list[str] = []
        self.keys = [api_key("emulator")]
        self.stranger = api_key("stranger")
        self.answered: dict[str, str] = {}
        self.is_late_send = False
        self.was_foreign_first = False
        self._stray = False
        self._tickets: dict[int, Request] = {}
        super().__init__(
            started_at, settings=settings, observer=lambda request: observer(request, self._stray), seed="emulator"
        )
        self.state.add_account(OTHERS, self.stranger)

    def receive(self, request: Request) -> Response:
        response = super().receive(request)
        if response.ticket is not None:
            self._tickets[response.ticket] = request
        return self._noted(request, response)

    def resumed(self, ticket: int) -> Response:
        return self._noted(self._tickets[ticket], super().resumed(ticket))

    def receive_late(self, request: Request) -> None:
        is_late_send = self.is_late_send

        def arrive() -> None:
            self.is_late_send, self._stray = is_late_send, True
            try:
                super(SimulatedFal, self).receive(request)
            finally:
                self.is_late_send = self._stray = False

        self._plan(STRAY_S, arrive)

    def _noted(self, request: Request, response: Response) -> Response:
        if request.method == "POST" and response.status == HTTPStatus.CREATED:
            with suppress(msgspec.DecodeError, KeyError):
                self.answered[request.headers["idempotency-key"]] = msgspec.json.decode(response.body)["id"]
        return response

    @property
    def first_foreign(self) -> str | None:
        """A box that was there before every lease, if there is one."""
        return self.foreign[0] if self.was_foreign_first and self.foreign else None

    def new_key(self, *, billing: bool) -> None:
        """One more key of our account, the newest."""
        self.keys.append(api_key(f"rotated {len(self.keys)}"))
        self.state.accounts.accept_key(self.keys[-1], Permissions(account=ACCOUNT, billing=billing))

    def revoke_old(self) -> None:
        """Leaves the newest key alone."""
        for key in self.keys[:-1]:
            self.state.accounts.revoke_key(key)

    def restore(self) -> None:
        """Nothing goes wrong any more, and every key of our account is accepted for everything."""
        self.state.script.clear()
        for key in self.keys:
            self.state.accounts.accept_key(key, Permissions(account=ACCOUNT))

    def refuse(self, calls: int) -> None:
        """A time in which no key is accepted."""
        fault = Status(401, error_type="authorization_error", message="Authentication required")
        self.add_fault(Fault(call="any", effects=(fault,), count=calls))

    def answer_with_other(self, instance_id: str) -> None:
        """The next create is answered with that id."""
        self.add_fault(Fault(call="create", effects=(Rewrite(put={"id": instance_id}),)))
