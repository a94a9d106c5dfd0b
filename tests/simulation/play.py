"""One run: programs that take turns at their boundaries, what happens to them there, and the rules after every step."""

import signal
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, Protocol

from ledger.domain.errors import Interrupted, RentrollError, UsageFailure
from tests.flows.world import Program
from tests.simulation.chooser import ALL_WAIT, ALL_WAIT_LONG, IDLE, NOBODY
from tests.simulation.commands import COMMANDS, lease_id_of
from tests.simulation.ending import Ending
from tests.simulation.happening import happen
from tests.simulation.steps import (
    Decision,
    Die,
    DiskFull,
    ForeignComes,
    GiveWay,
    Hang,
    Interrupt,
    Reboot,
    Setup,
    Start,
    Step,
    Wait,
)
from tests.simulation.turns import Turn
from tests.simulation.witness import Violation, Witness
from tests.simulation.world import SimulatedWorld
from tests.world.death import Crash
from tests.world.ledgers import quick_folder

LONG_MS = 30_000
HELD_UP = timedelta(seconds=1)
AFTER_AN_ANSWER = ("call get", "call list", "call billing", "call create", "check", "probe", "unlock")
"""What a program that was given an id must not do before the id is recorded."""


class Chooser(Protocol):
    """Says what happens at each boundary."""

    @property
    def setup(self) -> Setup: ...
    def at(self, label: str, crossing: int, boundary: str) -> Sequence[Step]: ...
    def has_more(self, crossing: int) -> bool:
        """Whether anything happens after so many moments at which nobody could go on."""
        ...


class Played(NamedTuple):
    """What came of a run; `trace` is every step that was worth a line."""

    violation: Violation | None
    decisions: list[Decision]
    trace: list[str]
    crossings: int


class Run:
    """One world and its programs, until nobody has anything left to do; then it is brought to its end."""

    def __init__(self, chooser: Chooser) -> None:
        self.decisions: list[Decision] = []
        self.trace: list[str] = []
        self.crossings = 0
        self.witness = Witness(chooser.setup, lambda: self.current.label if self.current else None)
        self.current: Turn | None = None
        self.world: SimulatedWorld
        self._chooser = chooser
        self._turns: deque[Turn] = deque()
        self._waiting: list[Turn] = []
        self._programs: dict[str, Program] = {}
        self._told: list[str] = []

    def play(self) -> Played:
        """The whole run."""
        setup = self._chooser.setup
        with quick_folder() as folder:
            world = SimulatedWorld(Path(folder), setup, lay_aside=self._lay_aside, observer=self.witness.arrives)
            with world:
                self.world = world
                self.witness.enter(world)
                for _ in range(setup.foreign):
                    happen(world, ForeignComes("own-key", eight=False, lives=True))
                world.cloud.was_foreign_first = bool(setup.foreign) and not setup.lying
                try:
                    self._schedule()
                finally:
                    self.end_programs()
                if self.witness.violation is None:
                    Ending(world, self.witness, self._told, self.tell).bring_about()
        return Played(self.witness.violation, self.decisions, self.trace, self.crossings)

    def tell(self, line: str) -> None:
        """One line of the trace."""
        who = self.current.label if self.current else NOBODY
        self.trace.append(f"{self.world.time.elapsed_ms / 1000:9.3f} s  {who:>5}  {line}")

    def end_programs(self) -> None:
        """Every program dies, wherever it stands."""
        turns = [*self._turns, *self._waiting]
        self._turns.clear()
        self._waiting.clear()
        for turn in turns:
            turn.is_doomed = True
            self._go_on(turn)

    def _schedule(self) -> None:
        world_crossings = 0
        while self.witness.violation is None:
            if self._turns:
                self._go_on(self._turns[0])
                continue
            world_crossings += 1
            self._happen(NOBODY, world_crossings, self._idleness())
            if self._turns:
                continue
            if not self._waiting:
                if not self._chooser.has_more(world_crossings):
                    return
                continue
            first = min(self._waiting, key=lambda turn: turn.wakes_at_ms or 0)
            self._wake(first.wakes_at_ms or 0)

    def _idleness(self) -> str:
        if not self._waiting:
            return IDLE
        left_ms = min(turn.wakes_at_ms or 0 for turn in self._waiting) - self.world.time.elapsed_ms
        return ALL_WAIT_LONG if left_ms >= LONG_MS else ALL_WAIT

    def _wake(self, moment_ms: int) -> None:
        self.world.time.reach(moment_ms)
        for turn in [turn for turn in self._waiting if (turn.wakes_at_ms or 0) <= moment_ms]:
            self._waiting.remove(turn)
            self._turns.append(turn)

    def _go_on(self, turn: Turn) -> None:
        self.current = turn
        turn.go_on()
        self.current = None
        if turn.is_over:
            with suppress(ValueError):
                self._turns.remove(turn)

    def _lay_aside(self, until_ms: int) -> bool:
        turn = self.current
        if turn is None:
            return False
        if turn.is_doomed:
            raise Crash
        turn.wakes_at_ms = until_ms
        self._turns.remove(turn)
        self._waiting.append(turn)
        turn.give_way()
        return True

    def _start(self, start: Start) -> None:
        keys = {"newest": self.world.cloud.keys[-1], "oldest": self.world.cloud.keys[0]}
        program = self.world.program(key=keys.get(start.key, self.world.cloud.stranger))
        program.interrupts._say = lambda what: None  # type: ignore[method-assign]
        turn = Turn(start.label, lambda: self._live(program, start))
        program.boundaries.everywhere = lambda name: self._cross(turn, name)
        self._programs[start.label] = program
        if start.command == "acquire":
            self.witness.acquirers[lease_id_of(start.lease)] = start.label
        self._turns.append(turn)

    def _live(self, program: Program, start: Start) -> None:
        """A program from its start to its end, which may be its death."""
        outcome = "ended"
        try:
            COMMANDS[start.command](self.world, program, start, lease_id_of(start.lease))
        except Crash:
            outcome = "died"
        except (RentrollError, Interrupted) as failure:
            outcome = f"failed: {failure}"
            self._told += [str(failure), str(getattr(failure, "hint", "")), str(getattr(failure, "next_step", ""))]
        except BaseException as bug:  # noqa: BLE001 - whatever it is, it is what is looked for
            self.witness.note("bug", f"{start.command} ended with {type(bug).__name__}: {bug}")
        self._told += [f"{stage.name} {stage.detail}" for stage in program.told]
        program.die()
        self.tell(outcome)
        if self.witness.violation is None:
            if outcome == "died":
                self._verify()
            else:
                self._require_recorded(start.label)
            self.witness.look()

    def _verify(self) -> None:
        for problem in self.world.verification().problems:
            self.witness.note("projection", str(problem))

    def _cross(self, turn: Turn, name: str) -> None:
        """The program is at a boundary: others may go on here, and anything may happen."""
        if turn.is_doomed or self.witness.violation is not None:
            turn.is_doomed = True
            raise Crash
        self.crossings += 1
        turn.crossings += 1
        if name == "load":
            return
        if name.startswith(("committed", "call", "answered", "sent", "check", "probe")):
            self.tell(name)
        self._judge(turn, name)
        self._happen(turn.label, turn.crossings, name, turn)
        if self.witness.violation is not None:
            turn.is_doomed = True
            raise Crash

    def _happen(self, label: str, crossing: int, name: str, turn: Turn | None = None) -> None:
        for step in self._chooser.at(label, crossing, name):
            self.decisions.append(Decision(label, crossing, step))
            self.tell(f"{name}: {step}")
            if turn is None or isinstance(step, Start | Reboot):
                self._happen_to_all(step)
            else:
                self._happen_to(turn, step)
            if turn is not None and turn.is_doomed:
                raise Crash

    def _happen_to(self, turn: Turn, step: Step) -> None:
        match step:
            case Die():
                turn.is_doomed = True
            case GiveWay():
                self._turns.rotate(-1)
                turn.give_way()
            case Hang(seconds):
                self.world.time.wait(seconds)
            case Interrupt():
                interrupts = self._programs[turn.label].interrupts
                if not interrupts.is_asked:
                    interrupts._handle(signal.SIGINT, None)
            case DiskFull():
                raise UsageFailure("disk full")
            case _:
                happen(self.world, step)

    def _happen_to_all(self, step: Step) -> None:
        match step:
            case Start():
                self._start(step)
            case Reboot():
                self.world.time.reboot()
                self._turns.extend(self._waiting)
                self._waiting.clear()
                for turn in self._turns:
                    turn.is_doomed = True
            case Wait(seconds):
                until_ms = self.world.time.elapsed_ms + 1000 * seconds
                self._wake(min([until_ms, *(turn.wakes_at_ms or 0 for turn in self._waiting)]))
            case _:
                happen(self.world, step)

    def _judge(self, turn: Turn, name: str) -> None:
        now = self.world.cloud.now()
        if name == "call create":
            turn.called_at = now
        elif name == "sent create":
            self.world.cloud.is_late_send = turn.called_at is not None and now - turn.called_at > HELD_UP
        if name in AFTER_AN_ANSWER:
            self._require_recorded(turn.label)
        if not name.startswith("unlock"):
            self._require_not_fenced(turn)
        if name == "answered create":
            self.witness.owe(turn.label)
        if name.startswith(("committed", "answered")):
            self.witness.look()

    def _require_recorded(self, label: str) -> None:
        """Rule 3: an id is appended before anything else is tried."""
        story = self.witness.owed.get(label)
        if story is not None and not self.witness.is_recorded(story):
            self.witness.note("id first", f"{label} was given the id of {story.lease_id}'s box and did not record it")

    def _require_not_fenced(self, turn: Turn) -> None:
        """Rule 6: nobody is taken over as dead while it lives."""
        for lease_id in self.witness.stories.fenced:
            if self.witness.acquirers.get(lease_id) == turn.label:
                self.witness.note("fenced", f"{turn.label} was taken over as dead while it leased {lease_id}")
