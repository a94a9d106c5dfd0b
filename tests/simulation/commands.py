"""What the programs of a run do: the commands of `cli/`, as calls of the flows that they are made of."""

from collections.abc import Callable
from typing import Any

from ledger.domain import events as e
from ledger.domain.claim import Claim
from ledger.domain.credentials import credential_binding
from ledger.domain.plan import Around
from ledger.flows.recover import Done, Pass, recover
from ledger.flows.rotate import OldKey, rotate
from ledger.flows.spool import merge
from ledger.flows.stop import Stop, stop
from ledger.flows.write_off import possible_boxes, write_off
from ledger.store.locks import is_worked_on
from providers.fal.client import FalClient
from tests.flows.world import MINUTE_MS, Program
from tests.simulation.steps import Start
from tests.simulation.world import SimulatedWorld

SLUGS = ("gpu-box", "", "")
"""An empty one stands for a generated one."""
PASS_EVERY_S = 60.0
Act = Callable[[SimulatedWorld, Program, Start, str], object]


def lease_id_of(number: int) -> str:
    """The id of the run's lease of that number."""
    return f"rl_{number:026}"


def _acquire(world: SimulatedWorld, program: Program, start: Start, lease_id: str) -> object:
    number = start.number
    slug = SLUGS[number % 3]
    wish: dict[str, Any] = {
        "slug": slug or f"box-{start.lease}",
        "slug_is_explicit": bool(slug),
        "timeout_ms": (2, 5, 15, 15)[number // 3 % 4] * MINUTE_MS,
        "ttl_ms": (20, 90)[number // 12 % 2] * MINUTE_MS,
        "keep": world.keep(minutes=40) if number // 24 % 4 == 0 else None,
        "purpose": "run" if number // 96 % 4 == 0 else "warmup",
        "instance_type": "gpu_8x_h100_sxm5" if number // 384 % 4 == 0 else "gpu_1x_h100_sxm5",
    }
    return program.acquire(lease_id, **wish)


def _stop(_world: SimulatedWorld, program: Program, start: Start, lease_id: str) -> object:
    return stop(program.services, Stop(lease_id=lease_id, reason="enough", token=program.token))


def a_pass(world: SimulatedWorld, program: Program, *, expires: bool = True, waits: bool = False) -> list[Done]:
    """What `recover`, `cleanup` and `watch` do once."""
    merge(str(world.spool_folder), program.book)

    def around(claims: list[Claim]) -> Around:
        worked_on = {claim.lease_id for claim in claims if is_worked_on(world.lock_folder, claim.lease_id)}
        return Around(now=world.clock.now(), worked_on=frozenset(worked_on), expires=expires, waits=waits)

    return recover(program.services, Pass(around=around, token=program.token, side_by_side=1))


def _recover(world: SimulatedWorld, program: Program, start: Start, lease_id: str) -> object:
    return a_pass(world, program, expires=False)


def _cleanup(world: SimulatedWorld, program: Program, start: Start, lease_id: str) -> object:
    return a_pass(world, program)


def _watch(world: SimulatedWorld, program: Program, start: Start, lease_id: str) -> None:
    for _ in range(2 + start.number % 6):
        a_pass(world, program, waits=True)
        program.services.clock.sleep(PASS_EVERY_S)


def _touch(world: SimulatedWorld, program: Program, start: Start, lease_id: str) -> object:
    facts: list[e.LeaseEvent] = [e.Touched(cause="touch", ttl_ms=60 * MINUTE_MS if start.number % 2 else None)]
    if start.number % 3 == 0:
        facts.append(e.KeepGranted(keep=world.keep(minutes=30), cause="user"))
    return program.book.record(lease_id, *facts)


def _rotate(world: SimulatedWorld, program: Program, start: Start, lease_id: str) -> object:
    key = world.cloud.keys[start.number % len(world.cloud.keys)]
    with FalClient(world.cloud.url, key, now=world.clock.now, network=world.network(program.boundaries)) as old:
        return rotate(program.services, OldKey(provider=old, credential_binding=binding_of(program, key)))


def _write_off(_world: SimulatedWorld, program: Program, start: Start, lease_id: str) -> object:
    possible_boxes(program.services, lease_id)
    return write_off(program.services, lease_id, reason="nobody knows", token=program.token)


def binding_of(program: Program, key: str) -> str:
    """What stands for a key in the ledger."""
    return credential_binding(program.register.salt(), key)


COMMANDS: dict[str, Act] = {
    "acquire": _acquire,
    "stop": _stop,
    "recover": _recover,
    "cleanup": _cleanup,
    "watch": _watch,
    "touch": _touch,
    "rotate": _rotate,
    "write-off": _write_off,
}
