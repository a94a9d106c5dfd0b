"""The flows at whose every boundary a program dies, and what the next process does about it."""

from collections.abc import Callable
from typing import NamedTuple

from ledger.domain import events as e
from ledger.domain.claim import Claim
from ledger.domain.errors import SshFailure, UsageFailure
from ledger.domain.plan import Around
from ledger.flows.recover import Pass, recover
from ledger.flows.rotate import OldKey, rotate
from ledger.flows.spool import merge
from ledger.flows.write_off import write_off
from ledger.store.locks import is_worked_on
from providers.emulator.accounts import Permissions
from providers.emulator.faults import (
    Defer,
    DropAfter,
    DropBefore,
    Effect,
    Hide,
    IgnoreDelete,
    LateVisible,
    Linger,
    Status,
)
from providers.emulator.machines import Settings
from providers.emulator.messages import Call
from providers.emulator.serve import ACCOUNT
from tests.flows.world import LEASE, Program, World
from tests.world.death import Crash

Prepare = Callable[[World, Program], object]
SERVER_ERROR = Status(500, error_type="server_error")
RATE_LIMITED = Status(429, error_type="rate_limited")
NEW_KEY = "new:key-of-the-same-account"
FORGETFUL = Settings(idempotency_s=0.0)
"""A fal that makes a second box for a replayed create."""


class Scenario(NamedTuple):
    """What a program does. `prepare` sets the world up; the boundaries of `act` are where it may die.

    `boxes` is how many boxes one lease's key may come to stand in; `lied` says that fal has shown a box as gone which
    is not. `api_key` is what the program and all that follow use, by default the one that made the leases.
    """

    name: str
    prepare: Prepare
    act: Callable[[Program], object]
    settings: Settings | None = None
    boxes: int = 1
    lied: bool = False
    api_key: str | None = None


def recovery(program: Program) -> object:
    """What every next process does: appends what waits in the spool, then one pass of `cleanup`."""
    world = program.world
    merge(str(world.spool_folder), program.book)

    def around(claims: list[Claim]) -> Around:
        worked_on = {claim.lease_id for claim in claims if is_worked_on(world.lock_folder, claim.lease_id)}
        return Around(now=world.clock.now(), worked_on=frozenset(worked_on))

    return recover(program.services, Pass(around=around, token=program.token, side_by_side=1))


def stopping(program: Program) -> object:
    """What a person does about a crash."""
    merge(str(program.world.spool_folder), program.book)
    return program.stop(token=program.token)


def _nothing(world: World, program: Program) -> None:
    """Nothing to prepare."""


def _faults(call: Call, *effects: Effect, then: Prepare = _nothing, count: int | None = 1) -> Prepare:
    """One fault for each effect, in order, once something else is prepared."""

    def prepare(world: World, program: Program) -> None:
        then(world, program)
        for effect in effects:
            world.fault(call, effect, count=count)

    return prepare


def _dead_ssh(world: World, program: Program) -> None:
    program.memory_box.failures = [SshFailure("another host key", stage="host-key")]


def _stop_asked_meanwhile(world: World, program: Program) -> None:
    program.memory_box.always = SshFailure("no TCP connection", stage="tcp")
    asker = world.program()

    def ask() -> None:
        if world.lease().is_acquiring:
            asker.book.record(LEASE, e.StopRequested(reason="enough"))

    world.clock.plan(20, ask)


def _full_disk(world: World, program: Program) -> None:
    program.boundaries.fail("append instance-id-bound", UsageFailure("disk full"), times=4)


def _leased(world: World, program: Program) -> None:
    world.program().acquire()


def _expired(world: World, program: Program) -> None:
    _leased(world, program)
    world.clock.wait(91 * 60)


def _kept_to_its_end(world: World, program: Program) -> None:
    world.program().acquire(keep=world.keep(hours=2))
    world.clock.wait(121 * 60)


def _dead_in_doubt(world: World, program: Program, *also: Effect) -> None:
    """An acquirer whose create had no answer, and which died of it."""
    acquirer = world.program()
    world.fault("create", DropAfter(), *also)
    acquirer.boundaries.fail("committed create-in-doubt", Crash())
    try:
        acquirer.acquire()
    except Crash:
        acquirer.die()


def _shown_late(world: World, program: Program) -> None:
    """In doubt, and no read shows the box until some while after the window has closed."""
    _dead_in_doubt(world, program, LateVisible(15 * 60))


def _among_strangers(world: World, program: Program) -> None:
    """In doubt, and boxes of somebody else's at the same account came up at the same time."""
    _dead_in_doubt(world, program)
    for key in ("ssh-ed25519 stranger1", "ssh-ed25519 stranger2"):
        world.fal.state.add_instance(ACCOUNT, world.fal.now(), public_key=key)


def _returned(world: World, program: Program) -> None:
    """A box that was released as gone, and is there: its DELETE was ignored and the reads were wrong."""
    _leased(world, program)
    world.fault("delete", IgnoreDelete())
    world.fault("get", Hide(), count=2, skip=1)
    world.fault("list", Hide())
    world.program().stop()
    world.clock.wait(60)


def _with_a_new_key(then: Prepare) -> Prepare:
    """Somebody rotates the account's key; the old one still works."""

    def prepare(world: World, program: Program) -> None:
        world.fal.state.accounts.accept_key(NEW_KEY, Permissions(account=ACCOUNT))
        then(world, program)

    return prepare


def _long_in_doubt(world: World, program: Program) -> None:
    _dead_in_doubt(world, program)
    world.clock.wait(10 * 60)


def _rotated(program: Program) -> object:
    old = program.world.program()
    binding = old.services.credential_binding
    return rotate(program.services, OldKey(provider=old.provider, credential_binding=binding))


def _written_off(program: Program) -> object:
    return write_off(program.services, LEASE, reason="cannot be settled", token=program.token)


def _kept(program: Program) -> object:
    return program.acquire(keep=program.world.keep(hours=1))


SCENARIOS = (
    Scenario("acquire", _nothing, Program.acquire),
    Scenario("acquire, answer lost", _faults("create", DropAfter()), Program.acquire),
    Scenario("acquire, request lost", _faults("create", DropBefore()), Program.acquire),
    Scenario("acquire, effect late", _faults("create", Defer(40)), Program.acquire),
    Scenario("acquire, server errors", _faults("create", SERVER_ERROR, SERVER_ERROR), Program.acquire),
    Scenario("acquire, never answered", _faults("create", DropAfter(), count=None), Program.acquire),
    Scenario("acquire, rejected", _faults("create", RATE_LIMITED), Program.acquire),
    Scenario("acquire, rolled back", _dead_ssh, Program.acquire),
    Scenario("acquire, failed and kept", _dead_ssh, _kept),
    Scenario("acquire, stopped meanwhile", _stop_asked_meanwhile, Program.acquire),
    Scenario("acquire, id not appended", _full_disk, Program.acquire),
    Scenario("acquire, twins", _faults("create", DropAfter()), Program.acquire, settings=FORGETFUL, boxes=9),
    Scenario("stop", _leased, stopping),
    Scenario("stop, faults", _faults("delete", SERVER_ERROR, DropAfter(), then=_leased), stopping),
    Scenario("stop, box lingers", _faults("delete", Linger(70), then=_leased), stopping),
    Scenario("stop, delete ignored", _faults("delete", IgnoreDelete(), then=_leased), stopping),
    Scenario("stop, in doubt", _dead_in_doubt, stopping),
    Scenario("stop, among strangers", _among_strangers, stopping),
    Scenario("cleanup, expired", _expired, recovery),
    Scenario("cleanup, end of keep", _kept_to_its_end, recovery),
    Scenario("recover, in doubt", _dead_in_doubt, recovery),
    Scenario("recover, box shown late", _shown_late, recovery),
    Scenario("recover, among strangers", _among_strangers, recovery),
    Scenario("recover, new key", _with_a_new_key(_expired), recovery, api_key=NEW_KEY),
    Scenario("recover, new key in doubt", _with_a_new_key(_dead_in_doubt), recovery, api_key=NEW_KEY),
    Scenario("rotate", _with_a_new_key(_leased), _rotated, api_key=NEW_KEY),
    Scenario("write off", _long_in_doubt, _written_off),
    Scenario("recover, returned", _returned, recovery, lied=True),
)
