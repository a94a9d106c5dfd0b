"""What may happen in a run, how often, and in which worlds: menus for several kinds of trouble."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple

from providers.emulator.faults import (
    DateSkew,
    Defer,
    Delay,
    DropAfter,
    DropBefore,
    Effect,
    Fault,
    Garbage,
    Hide,
    IgnoreDelete,
    LateVisible,
    Linger,
    Rewrite,
    Stale,
    Status,
    Truncate,
)
from providers.emulator.messages import Call
from tests.simulation.fal import LONGEST_DEFERRAL_S
from tests.simulation.steps import (
    AnswerWithOther,
    Die,
    DiskFull,
    ForeignComes,
    ForeignGoes,
    GiveWay,
    Hang,
    Interrupt,
    NewKey,
    PutFault,
    Reboot,
    Refuse,
    RevokeOld,
    Setup,
    SetWall,
    Start,
    Step,
    Suspend,
    Vanish,
)

EffectOf = Callable[[Random], tuple[Effect, ...]]
ERROR = Status(500, error_type="server_error")
ANY: tuple[EffectOf, ...] = (
    lambda _: (DropBefore(),),
    lambda _: (DropAfter(),),
    lambda _: (ERROR,),
    lambda _: (Status(500, error_type="server_error", handled=True),),
    lambda _: (Status(502, body="<html>bad gateway</html>"),),
    lambda draw: (Status(429, error_type="rate_limited", retry_after_s=draw.choice((5, 120))),),
    lambda draw: (Delay(draw.choice((2, 20, 80))),),
    lambda _: (Garbage(),),
    lambda draw: (Truncate(draw.choice((1, 20))),),
    lambda _: (DateSkew(None),),
    lambda draw: (DateSkew(draw.choice((-4000, -90, 30, 700))),),
)
OF_CALL: Mapping[Call, tuple[EffectOf, ...]] = {
    "create": (
        lambda _: (DropAfter(),),
        lambda draw: (Defer(draw.choice((20, 40, LONGEST_DEFERRAL_S))),),
        lambda draw: (Defer(draw.choice((20, 40, LONGEST_DEFERRAL_S))), DropAfter()),
        lambda _: (Rewrite(omit=("id",)),),
        lambda draw: (LateVisible(draw.choice((10, 120, 1500))),),
        lambda draw: (LateVisible(draw.choice((10, 120, 1500))), DropAfter()),
    ),
    "get": (lambda _: (Rewrite(put={"id": "inst_wrong"}),), lambda _: (Rewrite(omit=("status",)),)),
    "list": (lambda _: (Rewrite(put={"instances": 5}),),),
    "delete": (
        lambda draw: (Linger(draw.choice((10, 90, 300))),),
        lambda _: (IgnoreDelete(),),
        lambda draw: (Defer(draw.choice((20, 40, LONGEST_DEFERRAL_S))),),
        lambda _: (Status(404, error_type="not_found"),),
    ),
    "billing": (lambda _: (Status(403, error_type="authorization_error"),),),
}
PROMPT: Mapping[Call, tuple[EffectOf, ...]] = {**OF_CALL, "create": OF_CALL["create"][:-2]}
"""Without boxes that show late: that a second one was made and both show late is more than evidence can settle."""
LIES: Mapping[Call, tuple[EffectOf, ...]] = {
    "get": (lambda _: (Hide(),), lambda draw: (Stale(draw.choice((20, 100, 700))),)),
    "list": (lambda _: (Hide(),), lambda draw: (Stale(draw.choice((20, 100, 700))),)),
    "create": (lambda _: (LateVisible(2400), DropAfter()),),
}
CALLS: tuple[Call, ...] = ("create", "create", "create", "get", "get", "list", "delete", "delete", "delete", "billing")


class Menu(NamedTuple):
    """What may happen. `rate` is how often at a boundary; the weights are against each other;
    `eventful` is how likely something, and something more, happens before each command.

    `keys` weighs the newest, the oldest and a stranger's key; `policies` whom foreign boxes let in; `lively` is the
    share of them that get an address.
    """

    name: str
    weights: Mapping[type[Step], float]
    rate: float = 0.1
    eventful: float = 0.4
    lies: bool = False
    forgetful: bool = False
    commands: tuple[Sequence[str], Sequence[float]] = (
        ("acquire", "stop", "recover", "cleanup", "watch", "touch", "rotate", "write-off"),
        (4, 4, 2, 3, 2, 1, 0.5, 0.3),
    )
    commands_between: tuple[int, int] = (2, 6)
    keys: tuple[float, float, float] = (8, 1, 1)
    policies: tuple[float, float, float, float] = (6, 2, 1, 1)
    lively: float = 0.9
    hangs_s: Sequence[int] = (1, 5, 40, 100, 600, 1200)
    pauses_s: Sequence[int] = (1, 30, 100, 400, 600, 1500, 4000)
    faults: Mapping[Call, tuple[EffectOf, ...]] = OF_CALL
    calls: Sequence[Call] = CALLS

    def setup(self, draw: Random) -> Setup:
        """The world of one run."""
        return Setup(
            latency_s=draw.choice((0.0, 0.0, 0.05, 0.4, 3.0)),
            boot_s=draw.choice((2.0, 2.0, 10.0, 45.0)),
            ssh_delay_s=draw.choice((0.0, 0.0, 8.0)),
            delete_s=draw.choice((0.0, 1.0, 1.0, 20.0)),
            foreign=draw.choice((0, 1, 2)),
            forgetful=self.forgetful,
            lying=self.lies,
        )

    def fault(self, draw: Random) -> Fault:
        """One thing that goes wrong at fal."""
        call = draw.choice(self.calls)
        own = (*self.faults.get(call, ()), *(LIES.get(call, ()) if self.lies else ()))
        effects = draw.choice(own if own and (self.calls is not CALLS or draw.random() < 0.6) else ANY)(draw)
        # The first inventory of a lease is the look before it: without it nothing is asked for, and nothing happens.
        skip = draw.choice((1, 2, 3)) if call == "list" else draw.choice((0, 0, 0, 1))
        return Fault(call=call, effects=effects, count=draw.choice((1, 1, 1, 2, 4)), skip=skip)


_USUAL: Mapping[type[Step], float] = {
    Die: 6,
    GiveWay: 10,
    Hang: 5,
    Interrupt: 1,
    DiskFull: 2,
    PutFault: 14,
    AnswerWithOther: 0.5,
    Refuse: 0.5,
    ForeignComes: 3,
    ForeignGoes: 1,
    Vanish: 1,
    NewKey: 0.7,
    RevokeOld: 0.5,
    SetWall: 0.7,
    Suspend: 0.7,
    Reboot: 0.5,
    Start: 12,
}
MENUS = (
    Menu("everything", _USUAL),
    Menu("storm", _USUAL, rate=0.25, eventful=0.6, commands_between=(6, 12)),
    Menu("crowd", {GiveWay: 20, Hang: 4, Start: 20, Die: 4, PutFault: 4}, rate=0.2, commands_between=(4, 8)),
    Menu("bad network", {PutFault: 20, Die: 2, Hang: 1, Start: 3}, rate=0.12, eventful=0.6),
    Menu("neighbours", {**_USUAL, ForeignComes: 12, ForeignGoes: 3, Die: 10}, policies=(5, 2, 2, 1)),
    Menu("clocks", {**_USUAL, SetWall: 6, Suspend: 4, Reboot: 2, Hang: 10}),
    Menu("keys", {**_USUAL, NewKey: 6, RevokeOld: 3, Refuse: 4}, keys=(4, 3, 3)),
    Menu("liar", _USUAL, lies=True),
    Menu("forgetful", {**_USUAL, Die: 10}, forgetful=True, faults=PROMPT),
)


def menu_of(seed: int) -> Menu:
    """Each kind of trouble in turn."""
    return MENUS[seed % len(MENUS)]
