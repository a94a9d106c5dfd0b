"""Where the steps of a run come from: a seed, or a list of decisions that was recorded."""

from collections.abc import Iterable, Sequence
from random import Random

from providers.emulator.machines import SshPolicy
from tests.simulation.profiles import Menu, menu_of
from tests.simulation.steps import (
    Decision,
    Die,
    DiskFull,
    ForeignComes,
    ForeignGoes,
    GiveWay,
    Hang,
    Interrupt,
    NewKey,
    PutFault,
    Refuse,
    Setup,
    SetWall,
    Start,
    Step,
    Suspend,
    Vanish,
    Wait,
)

NOBODY = "world"
IDLE = "idle"
ALL_WAIT = "all wait"
ALL_WAIT_LONG = "all wait long"
"""The boundaries of nobody: no program runs, or each waits for its moment, or for one that is far away."""
POLICIES: tuple[SshPolicy, ...] = ("own-key", "no-key", "every-key", "anybody")


class Recorded:
    """The decisions of an earlier run, or some of them."""

    def __init__(self, setup: Setup, decisions: Iterable[Decision]) -> None:
        self.setup = setup
        self._steps: dict[tuple[str, int], list[Step]] = {}
        for decision in decisions:
            self._steps.setdefault((decision.label, decision.crossing), []).append(decision.step)
        self._last = max((crossing for label, crossing in self._steps if label == NOBODY), default=0)

    def at(self, label: str, crossing: int, boundary: str) -> Sequence[Step]:
        return self._steps.get((label, crossing), ())

    def has_more(self, crossing: int) -> bool:
        return crossing < self._last


class Seeded:
    """The decisions that follow from a seed and a menu of what may happen."""

    def __init__(self, seed: int, menu: Menu | None = None) -> None:
        self._random = Random(seed)
        self._menu = menu or menu_of(seed)
        self.setup = self._menu.setup(self._random)
        self._commands_left = self._random.randint(*self._menu.commands_between)
        self._started = 0
        self._leases = 0

    def at(self, label: str, crossing: int, boundary: str) -> Sequence[Step]:
        if boundary == IDLE:
            return self._while_idle()
        if boundary == ALL_WAIT_LONG:
            return self._meanwhile()
        if self._random.random() >= self._menu.rate * _liveliness(boundary):
            return ()
        made = self._draw(boundary)
        return () if made is None else (made,)

    def has_more(self, crossing: int) -> bool:
        return self._commands_left > 0

    def _while_idle(self) -> Sequence[Step]:
        """The next command, after a pause and whatever happened meanwhile."""
        start = self._start()
        if start is None:
            return ()
        steps: list[Step] = [Wait(self._random.choice(self._menu.pauses_s))] if self._started > 1 else []
        while self._random.random() < self._menu.eventful:
            made = self._draw(IDLE)
            steps += [made] if made is not None else []
        return [*steps, start]

    def _meanwhile(self) -> Sequence[Step]:
        """While programs hang, others are started, at any time of it."""
        if self._random.random() >= self._menu.eventful:
            return ()
        made = self._draw(ALL_WAIT)
        pause = Wait(self._random.choice(self._menu.pauses_s))
        return (pause,) if made is None else (pause, made)

    def _draw(self, boundary: str) -> Step | None:
        kinds = [kind for kind in self._menu.weights if _may_happen(kind, boundary)]
        if not kinds:
            return None
        return self._make(self._random.choices(kinds, [self._menu.weights[kind] for kind in kinds])[0])

    def _start(self) -> Start | None:
        if self._commands_left <= 0:
            return None
        self._commands_left -= 1
        self._started += 1
        draw = self._random
        command = "acquire" if not self._leases else draw.choices(*self._menu.commands)[0]
        if command == "acquire":
            self._leases += 1
        lease = self._leases if command == "acquire" else draw.randint(1, self._leases)
        key = "newest" if command == "acquire" else draw.choices(("newest", "oldest", "stranger"), self._menu.keys)[0]
        return Start(f"p{self._started}", command, lease, draw.randrange(1 << 16), key)

    def _make(self, kind: type[Step]) -> Step | None:
        draw, menu = self._random, self._menu
        if kind is Start:
            return self._start()
        if kind is PutFault:
            return PutFault(menu.fault(draw))
        if kind is Hang:
            return Hang(draw.choice(menu.hangs_s))
        if kind is Refuse:
            return Refuse(draw.randint(1, 4))
        if kind is ForeignComes:
            return ForeignComes(
                draw.choices(POLICIES, menu.policies)[0], draw.random() < 0.2, draw.random() < menu.lively
            )
        if kind in (ForeignGoes, Vanish):
            return kind(draw.randrange(8))
        if kind is NewKey:
            return NewKey(draw.random() < 0.7)
        if kind is SetWall:
            return SetWall(draw.choice((-7200, -600, -100, -30, 0, 0, 0, 0, 20, 50, 100, 600, 7200)))
        if kind is Suspend:
            return Suspend(draw.choice((20, 100, 400, 700, 4000)))
        return kind()


def _liveliness(boundary: str) -> float:
    """How much is to happen at a boundary, against the others: most are crossed while somebody waits."""
    if boundary in ("sleep", ALL_WAIT):
        return 0.1
    if boundary.startswith(("append", "appended")):
        return 0.3
    return 0.5 if boundary == "begin" else 1.0


def _may_happen(kind: type[Step], boundary: str) -> bool:
    """Inside a transaction a program can die or fail; while a request leaves it can only die."""
    if boundary == IDLE:
        return kind not in (Die, GiveWay, Hang, Interrupt, DiskFull, Start)
    if boundary == ALL_WAIT:
        return kind not in (Die, GiveWay, Hang, Interrupt, DiskFull)
    if boundary.startswith(("append ", "appended ")):
        return kind is Die or (kind is DiskFull and boundary.startswith("append "))
    if boundary.startswith("sent "):
        return kind is Die
    return kind is not DiskFull
