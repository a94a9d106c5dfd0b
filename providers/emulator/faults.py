"""Scripted faults of the emulated fal: what goes wrong, for which call, how often. Pure data."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from providers.emulator.messages import Call


class DropBefore(Struct, frozen=True, tag="drop-before"):
    """The request never reaches fal; the connection is reset."""


class DropAfter(Struct, frozen=True, tag="drop-after"):
    """fal acts on the request; the connection is reset without an answer."""


class Truncate(Struct, frozen=True, tag="truncate"):
    """fal acts on the request; the connection is closed after this many bytes of the answer's body."""

    sent_bytes: int = 1


class Delay(Struct, frozen=True, tag="delay"):
    """fal acts at once and answers after this many seconds of the emulator's clock."""

    seconds: float


class Defer(Struct, frozen=True, tag="defer"):
    """fal acts, and answers, only after this many seconds, even if the client has gone by then."""

    seconds: float


class Status(Struct, frozen=True, tag="status"):
    """This status instead of the call's own. With `handled`, fal acts on the request first.

    The body is fal's error object where `error_type` is given, else `body` as it is.
    """

    status: int
    error_type: str | None = None
    message: str = "scripted fault"
    body: str = ""
    retry_after_s: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    handled: bool = False


class Garbage(Struct, frozen=True, tag="garbage"):
    """The call's own status with a body that is not JSON."""

    body: str = "<html>bad gateway</html>"


class Rewrite(Struct, frozen=True, tag="rewrite"):
    """Changes the top level of a successful JSON answer: sets fields and leaves others out.

    `omit=["id"]` is a create without an id; `put={"id": ...}` is a wrong instance; on a list it makes a
    malformed page.
    """

    put: Mapping[str, Any] = field(default_factory=dict)
    omit: tuple[str, ...] = ()


class Stale(Struct, frozen=True, tag="stale"):
    """A read answers as of this many seconds ago."""

    seconds: float


class Hide(Struct, frozen=True, tag="hide"):
    """A get answers 404, or a list leaves the instance out, while the other call still shows it.

    Without an id it hides every instance.
    """

    instance_id: str | None = None


class LateVisible(Struct, frozen=True, tag="late-visible"):
    """A create whose instance no read shows for this many seconds."""

    seconds: float


class Linger(Struct, frozen=True, tag="linger"):
    """A delete whose instance reads still show for this many seconds, on top of the ordinary time."""

    seconds: float


class IgnoreDelete(Struct, frozen=True, tag="ignore-delete"):
    """A delete that is accepted and does nothing."""


class DateSkew(Struct, frozen=True, tag="date-skew"):
    """The `Date` header is off by this many seconds; None leaves the header out."""

    seconds: float | None


Effect = (
    DropBefore
    | DropAfter
    | Truncate
    | Delay
    | Defer
    | Status
    | Garbage
    | Rewrite
    | Stale
    | Hide
    | LateVisible
    | Linger
    | IgnoreDelete
    | DateSkew
)


class Fault(Struct, frozen=True, kw_only=True):
    """All of `effects` on the next `count` matching requests, after `skip` that pass unharmed.

    `call` is the kind of call or `any`; `instance_id` narrows a get or a delete; `count` None is for ever.
    """

    call: Call | Literal["any"]
    effects: tuple[Effect, ...]
    count: int | None = 1
    skip: int = 0
    instance_id: str | None = None

    def matches(self, call: Call, instance_id: str | None) -> bool:
        """Whether a request of this kind, for this instance, is one that the fault waits for."""
        return self.call in ("any", call) and self.instance_id in (None, instance_id)


class FaultScript:
    """The faults still to come. Each request takes the first that matches it and is past its `skip`."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Puts a fault behind those already waiting."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Forgets every fault."""
        self._faults.clear()

    def pending(self) -> tuple[Fault, ...]:
        """The faults still to come, in order, with what is left of their counts."""
        return tuple(self._faults)

    def take(self, call: Call, instance_id: str | None) -> tuple[Effect, ...]:
        """The effects on a request that has just arrived; counts it against the fault."""
        for index, fault in enumerate(self._faults):
            if not fault.matches(call, instance_id):
                continue
            if fault.skip:
                self._faults[index] = replace(fault, skip=fault.skip - 1)
                continue
            if fault.count is not None:
                self._faults[index : index + 1] = [replace(fault, count=fault.count - 1)] if fault.count > 1 else []
            return fault.effects
        return ()
