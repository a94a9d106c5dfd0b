"""The autopsy sees what it is for: each kind of harm, done on purpose, is named."""

from collections.abc import Callable

import pytest

from ledger.domain.ports import CreateRequest
from providers.emulator.faults import DropAfter
from providers.emulator.serve import ACCOUNT
from tests.crash.autopsy import Witness, problems, remains
from tests.crash.scenarios import Scenario
from tests.flows.world import LEASE, Program, World

ANY = Scenario("any", lambda _world, _program: None, Program.acquire)


def _post_behind_the_ledgers_back(program: Program) -> None:
    body = CreateRequest(instance_type="gpu_1x_h100_sxm5", ssh_key="ssh-ed25519 nobody")
    program.client.create(body, idempotency_key=LEASE, timeout_s=30)


def _post_twice(program: Program) -> None:
    program.acquire()
    lease = program.world.lease()
    assert lease.request is not None
    body = CreateRequest(instance_type="gpu_1x_h100_sxm5", ssh_key=lease.request.public_key)
    program.client.create(body, idempotency_key="another", timeout_s=30)


def _delete_at_once(program: Program) -> None:
    lease = program.acquire()
    program.client.delete(lease.instance_id or "")


def _delete_of_a_stranger(program: Program) -> None:
    stranger = program.world.fal.state.add_instance(ACCOUNT, program.world.fal.now())
    program.client.delete(stranger)


def _release_without_a_delete(program: Program) -> None:
    """The box comes back to life behind a released lease."""
    lease = program.acquire()
    assert lease.request is not None
    program.stop()
    program.world.fal.state.add_instance(ACCOUNT, program.world.fal.now(), public_key=lease.request.public_key)


def _lose_the_key(program: Program) -> None:
    program.acquire()
    program.world.keys.destroy(LEASE)


def _hold_the_lock(program: Program) -> None:
    program.acquire()
    program.services.locks(LEASE).acquire(timeout_s=0)


def _tamper(program: Program) -> None:
    program.acquire()
    program.register._connection.execute("UPDATE claims SET phase = 'released'")


HARM: list[tuple[Callable[[Program], object], list[str]]] = [
    (_post_behind_the_ledgers_back, [f"not announced: create {LEASE}: seen 1, announced 0"]),
    (
        _post_twice,
        [
            "not announced: create another: seen 1, announced 0",
            "box {second} of lease {lease} (ready) runs and nobody knows it",
            "2 boxes were made for lease {lease}",
        ],
    ),
    (_delete_at_once, ["not announced: delete {first}: seen 1, announced 0"]),
    (
        _delete_of_a_stranger,
        ["not announced: delete {first}: seen 1, announced 0", "box {first} of somebody else was deleted"],
    ),
    (
        _release_without_a_delete,
        [
            "box {second} of lease {lease} (released) runs and nobody knows it",
            "2 boxes were made for lease {lease}",
        ],
    ),
    (_lose_the_key, ["the key of {lease} is gone too early"]),
    (_hold_the_lock, ["the lock of {lease} is held"]),
]


@pytest.mark.parametrize(("harm", "named"), HARM, ids=lambda value: getattr(value, "__name__", "named"))
def test_every_harm_is_named(harm: Callable[[Program], object], named: list[str], world: World) -> None:
    witness = Witness(world)
    program = world.program()

    harm(program)

    boxes = [box.id for box in world.emulator.instances()]
    names = {"lease": LEASE, **dict(zip(("first", "second"), boxes, strict=False))}
    assert problems(world, witness, ANY) == [text.format(**names) for text in named]


def test_a_ledger_that_does_not_verify_is_named(world: World) -> None:
    _tamper(world.program())

    [problem] = problems(world, Witness(world), ANY)
    assert problem.startswith("the ledger does not verify: ")


def test_a_lease_in_doubt_covers_its_box_but_does_not_end_so(world: World) -> None:
    """At any time that is enough; in the end nothing of it may be left."""
    witness = Witness(world)
    program = world.program()
    world.fault("create", DropAfter(), count=None)
    program.boundaries.fail("committed create-in-doubt", SystemExit())
    with pytest.raises(SystemExit):
        program.acquire()
    program.die()

    [box] = world.boxes()
    assert problems(world, witness, ANY) == []
    assert remains(world) == [
        f"box {box.id} still runs",
        f"lease {LEASE} is in-doubt",
        f"the key of {LEASE} is still there",
    ]
