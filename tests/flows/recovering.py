"""One pass of recovery by a program, told as what was done and what came of it."""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import NamedTuple

from ledger.domain.claim import Claim
from ledger.domain.errors import RentrollError
from ledger.domain.plan import Around
from ledger.flows.recover import Done, Pass, recover
from ledger.store.locks import is_worked_on
from providers.emulator.faults import DropAfter
from providers.emulator.machines import InstanceView
from providers.emulator.serve import ACCOUNT
from tests.flows.world import LEASE, Program, World
from tests.world.death import Crash

PASS_EVERY_S = 300.0


class Told(NamedTuple):
    """What became of one lease; `failure` is the code of its error."""

    action: str
    result: str
    failure: str | None = None


def passed(program: Program, *, only: Iterable[str] | None = None, expires: bool = True) -> dict[str, Told]:
    """Makes one pass, one lease after the other; gives what became of each lease by its id."""
    return {done.action.lease_id: _told(done) for done in done_by(program, only=only, expires=expires)}


def done_by(program: Program, *, only: Iterable[str] | None = None, expires: bool = True) -> list[Done]:
    """Makes one pass, as `cleanup` does, or `recover` without `expires`."""
    wish = Pass(
        around=around_in(program.world, expires=expires),
        token=program.token,
        side_by_side=1,
        only=None if only is None else frozenset(only),
    )
    return recover(program.services, wish)


def around_in(world: World, *, expires: bool) -> Callable[[list[Claim]], Around]:
    """Who is at work in a world, by the locks of its leases."""

    def around(claims: list[Claim]) -> Around:
        worked_on = {claim.lease_id for claim in claims if is_worked_on(world.lock_folder, claim.lease_id)}
        return Around(now=world.clock.now(), worked_on=frozenset(worked_on), expires=expires)

    return around


def _told(done: Done) -> Told:
    return Told(done.action.action, done.result, done.error.code if done.error is not None else None)


def dies_at(program: Program, boundary: str, act: Callable[[], object]) -> None:
    """Does it until the boundary, and no further."""
    program.boundaries.fail(boundary, Crash())
    try:
        act()
    except (Crash, RentrollError):
        pass
    else:
        raise AssertionError(f"{boundary} was never reached")
    program.die()


def lost(world: World, program: Program) -> InstanceView:
    """A create whose answer was lost with its program: the box that it made, in doubt in the ledger."""
    world.fault("create", DropAfter())
    dies_at(program, "committed create-in-doubt", program.acquire)
    [box] = world.boxes()
    return box


def stranger(world: World, **changes: object) -> str:
    """Another box in our account, which no lease made."""
    return world.emulator.change(lambda state, now: state.add_instance(ACCOUNT, now, **changes))  # type: ignore[arg-type]


def damage(world: World, lease_id: str) -> None:
    """Makes a lease's second event unreadable, as only somebody with the file at hand can."""
    with closing(sqlite3.connect(world.folder / "ledger.db", isolation_level=None)) as raw:
        raw.execute("DROP TRIGGER events_no_update")
        raw.execute("UPDATE events SET payload = '{' WHERE stream = ? AND sequence = 2", (lease_id,))


def until_settled(world: World, *, most: int = 40, lease_id: str = LEASE) -> list[Told]:
    """Passes five minutes apart, each by a process of its own, until the lease is released; what each said of it."""
    said = []
    for _ in range(most):
        program = world.program()
        said.append(passed(program).get(lease_id, Told("none", "not open")))
        program.die()
        if not world.lease(lease_id).is_open:
            return said
        world.clock.sleep(PASS_EVERY_S)
    raise AssertionError(f"still open after {most} passes: {said[-1]}")
