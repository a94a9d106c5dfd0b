"""What can happen in a simulated run besides the programs' own steps: one record each, whole and printable."""

from msgspec import Struct

from providers.emulator.faults import Fault
from providers.emulator.machines import SshPolicy


class Step(Struct, frozen=True):
    """Something that happens at one boundary of one program, or while all wait."""


class Die(Step, frozen=True):
    """The program dies here, as by a kill."""


class GiveWay(Step, frozen=True):
    """Another program goes on here."""


class Hang(Step, frozen=True):
    """The program is not scheduled for so long."""

    seconds: int


class Interrupt(Step, frozen=True):
    """A person presses Ctrl-C."""


class DiskFull(Step, frozen=True):
    """This append, or its commit, fails."""


class PutFault(Step, frozen=True):
    """fal will fail so."""

    fault: Fault


class AnswerWithOther(Step, frozen=True):
    """The next create is answered with the id of a box that was there before everything."""


class Refuse(Step, frozen=True):
    """fal accepts no key for so many calls."""

    calls: int


class ForeignComes(Step, frozen=True):
    """Somebody else makes a box at the same account. `lives` is False where it never gets an address."""

    policy: SshPolicy
    eight: bool
    lives: bool


class ForeignGoes(Step, frozen=True):
    """Somebody else deletes one of theirs."""

    which: int


class Vanish(Step, frozen=True):
    """One of our boxes is gone by itself."""

    which: int


class NewKey(Step, frozen=True):
    """Somebody makes another API key of our account, which may read the account's name or not."""

    billing: bool


class RevokeOld(Step, frozen=True):
    """All keys of our account but the newest are revoked."""


class SetWall(Step, frozen=True):
    """The wall clock is set so far off."""

    seconds: int


class Suspend(Step, frozen=True):
    """The machine sleeps for so long."""

    seconds: int


class Reboot(Step, frozen=True):
    """The machine starts anew: every program dies."""


class Wait(Step, frozen=True):
    """Nothing happens for so long."""

    seconds: int


class Start(Step, frozen=True):
    """A person types a command: a new program.

    `lease` and `number` choose among what there is and what it may do; `key` is newest, oldest or stranger.
    """

    label: str
    command: str
    lease: int
    number: int
    key: str


class Decision(Struct, frozen=True):
    """A step at the `crossing`-th boundary of the program `label`; of nobody's (`world`) while nobody can go on."""

    label: str
    crossing: int
    step: Step

    def __str__(self) -> str:
        return f"{self.label}@{self.crossing}: {self.step}"


class Setup(Struct, frozen=True, kw_only=True):
    """How the world is from the beginning. `forgetful` is a fal that makes a second box for a replayed create.

    `lying` is one that shows and hides what it likes for a while.
    """

    latency_s: float = 0.0
    boot_s: float = 2.0
    ssh_delay_s: float = 0.0
    delete_s: float = 1.0
    foreign: int = 0
    forgetful: bool = False
    lying: bool = False
