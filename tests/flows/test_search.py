"""A second box of one create, and a released box that comes back: found, proven and deleted."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger.domain import events as e
from providers.emulator.accounts import Permissions
from providers.emulator.faults import DropAfter, Hide, LateVisible, Rewrite, Status
from providers.emulator.machines import Settings
from providers.emulator.serve import ACCOUNT
from providers.emulator.state import FalState
from tests.flows.recovering import PASS_EVERY_S, Told, damage, dies_at, lost, passed, stranger
from tests.flows.world import ACQUIRED, GONE, LEASE, OTHER, Program, World
from tests.world.ledgers import quick_folder

FORGETFUL = Settings(idempotency_s=0.0)
"""A fal that makes a second box for a replayed create."""
TWICE = ["create-requested", "create-sent", "create-in-doubt", "create-sent", "instance-id-bound"]


@pytest.fixture
def forgetful() -> Iterator[World]:
    with quick_folder() as folder, World(Path(folder), FORGETFUL) as made:
        yield made


@pytest.mark.holds("W-14", "PEER-02", "PEER-18", "PEER-45")
def test_a_second_box_that_a_replay_made_gets_a_lease_of_its_own_and_is_deleted(forgetful: World) -> None:
    forgetful.fault("create", DropAfter())
    lease = forgetful.program().acquire()

    twin = next(c for c in forgetful.reader.claims(include_released=True) if c.lease_id != LEASE)
    assert forgetful.types()[: len(TWICE)] == TWICE
    assert forgetful.types()[len(TWICE) :] == ["ready", "candidate-tried"]
    assert forgetful.types(twin.lease_id) == ["create-requested", "instance-id-bound", *GONE]
    assert forgetful.payloads("create-requested", twin.lease_id)[0]["twin_of"] == LEASE
    assert (twin.slug, twin.outcome) == ("gpu-box-twin", "rolled-back")
    assert [box.id for box in forgetful.boxes()] == [lease.instance_id]


@pytest.mark.holds("W-14")
def test_a_second_box_that_does_not_answer_yet_is_found_by_a_later_pass(forgetful: World) -> None:
    forgetful.fault("create", DropAfter())
    program = forgetful.program()
    made: list[str] = []
    forgetful.when("POST", lambda: forgetful.silent.update(made))
    program.boundaries.on("call create", lambda: made.extend(box.id for box in forgetful.boxes()), times=2)
    program.acquire()
    assert len(forgetful.boxes()) == 2
    forgetful.silent.clear()
    forgetful.clock.sleep(PASS_EVERY_S)

    assert passed(forgetful.program())[LEASE] == Told("search", "1 found and deleted")
    assert len(forgetful.boxes()) == 1


@pytest.mark.holds("W-14")
def test_a_second_box_that_shows_up_half_an_hour_late_is_found(forgetful: World) -> None:
    forgetful.fault("create", LateVisible(25 * 60), Status(500, error_type="server_error", handled=True))
    forgetful.program().acquire()
    assert len(forgetful.boxes()) == 2
    said = []
    while "candidates-settled" not in forgetful.types():
        forgetful.clock.sleep(PASS_EVERY_S)
        forgetful.program().book.record(LEASE, e.Touched(cause="touch"))
        said.append(passed(forgetful.program())[LEASE])

    assert Told("search", "1 found and deleted") in said
    assert len(forgetful.boxes()) == 1


def test_a_stranger_that_came_after_the_search_was_settled_is_never_asked(world: World, program: Program) -> None:
    world.fault("create", DropAfter())
    program.acquire(idle_timeout_ms=90 * 60_000)
    world.clock.sleep(31 * 60)
    passed(world.program())
    settled = world.types()
    stranger(world)
    world.clock.sleep(PASS_EVERY_S)

    passed(world.program())

    assert settled[-1] == "candidates-settled"
    assert world.types() == settled


def test_a_stranger_that_was_there_before_ready_is_asked_until_it_has_refused(world: World, program: Program) -> None:
    world.fault("create", DropAfter())
    strangers: list[str] = []
    world.when("POST", lambda: strangers.append(stranger(world)) if not strangers else None)
    program.acquire(idle_timeout_ms=90 * 60_000)
    said = []
    while "candidates-settled" not in world.types():
        world.clock.sleep(PASS_EVERY_S)
        said.append(passed(world.program())[LEASE])

    assert {tried["verdict"] for tried in world.payloads("candidate-tried")} == {"refused"}
    assert said[0] == Told("search", "failed", "in-doubt")
    assert len(said) < 10
    assert passed(world.program())[LEASE] == Told("none", "nothing to do")


@pytest.mark.holds("W-06", "PEER-11", "PEER-31")
def test_a_released_box_that_comes_back_reopens_its_lease_and_is_deleted_again(world: World, program: Program) -> None:
    program.acquire()
    box_id = world.claim().instance_id or ""
    program.stop()
    world.clock.sleep(3600)
    world.emulator.change(_shown_again(box_id))

    passed(world.program())

    reopened = world.payloads("reopened")
    assert [seen["kind"] for one in reopened for seen in one["evidence"]] == ["inventory", "get-200"]
    assert world.types()[-5:] == ["reopened", *GONE]


def _shown_again(box_id: str) -> Callable[[FalState, datetime], None]:
    """What fal forgot to delete, it shows again."""

    def change(state: FalState, _now: datetime) -> None:
        registry = state._registry
        machine = registry._machines[box_id]
        registry._machines[box_id] = replace(machine, deleted_at=None, visible_until=None)

    return change


@pytest.mark.holds("W-06")
def test_a_reopened_lease_whose_slug_was_given_away_gets_a_suffix(world: World, program: Program) -> None:
    program.acquire()
    box_id = world.claim().instance_id or ""
    program.stop()
    program.acquire(OTHER)
    world.clock.sleep(60)
    world.emulator.change(_shown_again(box_id))
    dying = world.program()
    dies_at(dying, "committed reopened", lambda: passed(dying))

    assert world.claim(OTHER).slug == "gpu-box"
    assert world.claim().slug.startswith("gpu-box-")
    assert (world.claim().phase, world.claim().is_open) == ("rolling-back", 1)


@pytest.mark.holds("W-06", "CRD-02")
def test_a_released_box_of_a_key_that_was_replaced_is_reopened_under_the_new_one(
    world: World, program: Program
) -> None:
    program.acquire()
    box_id = world.claim().instance_id or ""
    program.stop()
    key = "second:key-of-the-same-account"
    world.emulator.change(lambda state, _now: state.accounts.accept_key(key, Permissions(account=ACCOUNT)))
    world.clock.sleep(60)
    world.emulator.change(_shown_again(box_id))

    passed(world.program(key=key))

    assert world.types()[-6:] == ["credential-rebound", "reopened", *GONE]
    assert world.boxes() == []


def test_a_listing_alone_reopens_nothing(world: World, program: Program) -> None:
    program.acquire()
    box_id = world.claim().instance_id or ""
    program.stop()
    world.clock.sleep(60)
    world.emulator.change(_shown_again(box_id))
    world.fault("get", Hide())

    passed(world.program())

    assert world.types() == [*ACQUIRED, *GONE]


def test_a_box_that_comes_back_after_a_week_is_audited_and_not_looked_for(world: World, program: Program) -> None:
    program.acquire()
    program.stop()
    world.clock.suspend(8 * 86_400)
    calls = world.calls()

    assert passed(world.program()) == {}
    assert world.calls() == calls


def test_a_twin_is_announced_with_its_box_in_one_step(forgetful: World) -> None:
    forgetful.fault("create", DropAfter())
    program = forgetful.program()
    dies_at(program, "appended candidate-tried", program.acquire)

    assert [claim.lease_id for claim in forgetful.reader.claims()] == [LEASE]
    assert forgetful.payloads("candidate-tried") == []
    assert isinstance(forgetful.lease().request, e.CreateRequested)


@pytest.mark.holds("W-04")
def test_a_damaged_lease_hides_no_other_ones_box_that_came_back(world: World, program: Program) -> None:
    boxes = []
    for lease_id in (LEASE, OTHER):
        program.acquire(lease_id, slug=f"box-{lease_id[-1]}")
        boxes.append(world.claim(lease_id).instance_id or "")
        program.stop(lease_id)
    world.clock.sleep(60)
    for box_id in boxes:
        world.emulator.change(_shown_again(box_id))
    damage(world, OTHER)

    passed(world.program())

    assert world.types()[-5:] == ["reopened", *GONE]
    assert [box.id for box in world.boxes()] == [boxes[1]]


@pytest.mark.holds("PEER-34")
def test_an_address_that_two_boxes_had_before_proves_neither(world: World, program: Program) -> None:
    made = lost(world, program)
    other = stranger(world)
    world.clock.sleep(600)
    ip = next(box.ip for box in world.boxes() if box.id == made.id)
    both = [{"id": one, "instance_type": "gpu_1x_h100_sxm5", "region": "us-west", "status": "ready", "ip": ip}
            for one in (made.id, other)]  # fmt: skip
    world.fault("list", Rewrite(put={"instances": both}))

    assert passed(world.program())[LEASE].failure == "in-doubt"
    assert world.payloads("candidate-tried") == []
    assert len(world.boxes()) == 2


@pytest.mark.holds("W-37")
def test_a_late_answer_that_names_a_second_box_is_bound_to_a_twin_and_deleted(world: World, program: Program) -> None:
    dies_at(program, "committed create-sent", program.acquire)
    book = world.program().book
    answers = [
        e.InstanceIdBound(instance_id=box, evidence="spool", acquirer="late", attempt=1, instance=None)
        for box in (stranger(world), stranger(world))
    ]

    first, second = (book.bind_answer(LEASE, answer) for answer in answers)
    again = book.bind_answer(LEASE, answers[0])

    assert (first.lease_id, again.lease_id) == (LEASE, LEASE)
    assert (second.slug, second.phase, second.instance_id) == ("gpu-box-twin", "rolling-back", answers[1].instance_id)
    assert {one.result for one in passed(world.program()).values()} == {"rolled-back"}
    assert world.boxes() == []
