"""The network without sockets tells the client what HTTP over sockets tells it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.domain.ports import CallFailed, CreateRequest
from providers.emulator.faults import (
    DateSkew,
    Defer,
    Delay,
    DropAfter,
    DropBefore,
    Effect,
    Garbage,
    Rewrite,
    Status,
    Truncate,
)
from tests.flows.world import LEASE, Program, World

BODY = CreateRequest(instance_type="gpu_1x_h100_sxm5", ssh_key="ssh-ed25519 key")
Call = Callable[[Program], object]


def create(program: Program, timeout_s: float = 30.0) -> object:
    return program.client.create(BODY, idempotency_key=LEASE, timeout_s=timeout_s)


def outcome(program: Program, call: Call) -> object:
    """Everything that a flow can see of a call."""
    try:
        return call(program), program.client.server_date
    except CallFailed as failure:
        told = (failure.sent, failure.answered, failure.settles, failure.status, failure.error_type)
        return type(failure), failure.message, told, failure.retry_after_s, program.client.server_date


CALLS: dict[str, Call] = {
    "create": create,
    "list": lambda program: program.client.inventory(),
    "get": lambda program: program.client.get("inst_unknown"),
    "delete": lambda program: program.client.delete("inst_unknown"),
    "billing": lambda program: program.client.account(),
}
EFFECTS: list[tuple[Effect, ...]] = [
    (),
    (DropBefore(),),
    (DropAfter(),),
    (Truncate(0),),
    (Truncate(5),),
    (Status(500, error_type="server_error"),),
    (Status(503, body="<html>", retry_after_s=7),),
    (Status(429, error_type="rate_limited", retry_after_s=20),),
    (Status(401, error_type="authorization_error"),),
    (Status(302, headers={"location": "https://elsewhere.example/"}),),
    (Garbage(),),
    (Rewrite(omit=("id", "instances", "username")),),
    (DateSkew(90),),
    (DateSkew(None),),
]


@pytest.mark.parametrize("call", CALLS)
def test_every_answer_is_what_it_is_over_sockets(call: str, tmp_path: Path) -> None:
    """Each fault, for each call: type, text, how far it came, what it settles, the date."""
    folders = (tmp_path / "sockets", tmp_path / "memory")
    for folder in folders:
        folder.mkdir()
    with World(folders[0], sockets=True) as real, World(folders[1]) as imagined:
        over_sockets, in_memory = real.program(), imagined.program()
        for effects in EFFECTS:
            for world in (real, imagined):
                world.fault(call, *effects)  # type: ignore[arg-type]

            assert (effects, outcome(in_memory, CALLS[call])) == (effects, outcome(over_sockets, CALLS[call]))
        assert [(e.call, e.status, e.connection) for e in imagined.emulator.journal()] == [
            (e.call, e.status, e.connection) for e in real.emulator.journal()
        ]


def test_an_answer_within_the_limit_takes_its_time(world: World) -> None:
    world.fault("create", Delay(29))

    create(world.program())

    assert (world.clock.monotonic_s(), world.clock.slept) == (29.0, [])


@pytest.mark.parametrize(("effect", "made_at_s"), [(Delay(40), 0.0), (Defer(40), 40.0)])
def test_an_answer_past_the_limit_is_a_deadline_and_fal_acts_all_the_same(
    effect: Effect, made_at_s: float, world: World
) -> None:
    """At once, or later when the client has long gone."""
    world.fault("create", effect)

    with pytest.raises(CallFailed) as failure:
        create(world.program(), timeout_s=10)

    assert (failure.value.sent, failure.value.answered, type(failure.value.__cause__)) == (True, False, TimeoutError)
    assert world.clock.monotonic_s() == 10.0
    assert len(world.boxes()) == (made_at_s == 0)
    world.clock.wait(30)
    [box] = world.boxes()
    assert (box.created_at - world.emulator.now()).total_seconds() == made_at_s - 40


def test_what_a_dead_process_had_sent_arrives_all_the_same(world: World) -> None:
    """A minute later, and nobody hears the answer."""
    program = world.program()
    program.boundaries.fail("sent create", SystemExit())

    with pytest.raises(SystemExit):
        create(program)

    assert (world.boxes(), world.posts()) == ([], [])
    world.clock.wait(60)
    assert (len(world.boxes()), len(world.posts())) == (1, 1)


def test_another_address_cannot_be_reached(world: World) -> None:
    with pytest.raises(CallFailed) as failure:
        create(world.program(api_url="https://elsewhere.test/v1"))

    assert (failure.value.sent, failure.value.message) == (
        False,
        "fal cannot be reached: [Errno 111] Connection refused",
    )
