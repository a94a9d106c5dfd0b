"""What `cleanup --dry-run` says is to be done, from claims that real flows have left.

Each rule by itself is in `tests/domain/test_plan.py`.
"""

from collections.abc import Callable

import pytest

from ledger.domain.errors import ProviderFailure, SshFailure, UsageFailure
from ledger.domain.plan import Action, Around, plan
from providers.emulator.faults import Linger, Status
from tests.flows.world import LEASE, MINUTE_MS, OTHER, Program, World
from tests.world.death import Crash


def planned(world: World, *, held: bool = False, later_s: float = 0) -> list[tuple[str, str]]:
    """The actions of the open leases and suspects as (action, reason)."""
    world.clock.sleep(later_s)
    actions = _plan(world, held=held)
    return [(action.action, action.reason) for action in actions]


def _plan(world: World, *, held: bool = False) -> list[Action]:
    around = Around(now=world.clock.now(), worked_on=frozenset({LEASE} if held else ()))
    return plan(world.reader.claims(include_released=True), around)


def _dies_at(boundary: str) -> Callable[[World, Program], None]:
    def die(world: World, program: Program) -> None:
        program.boundaries.fail(boundary, Crash())
        with pytest.raises(Crash):
            program.acquire()

    return die


@pytest.mark.holds("CLN-08", "CLN-12")
@pytest.mark.parametrize(
    ("dies_at", "action"),
    [
        ("committed create-requested", ("cancel", "nothing was sent")),
        ("committed create-sent", ("settle", "its create may have made a box")),
        ("committed instance-id-bound", ("roll-back", "its acquirer is gone")),
    ],
)
def test_an_abandoned_acquire_is_finished_and_a_live_one_is_left_alone(
    world: World, program: Program, dies_at: str, action: tuple[str, str]
) -> None:
    """A lock that is held counts until the acquire's deadline, no longer."""
    _dies_at(dies_at)(world, program)
    calls = world.calls()

    assert planned(world) == [action]
    assert planned(world, held=True) == [("none", "somebody is working on it")]
    assert planned(world, held=True, later_s=17 * 60 + 1) == [action]
    assert world.calls() == calls


@pytest.mark.holds("CLN-01", "CLN-03", "CLN-04", "CLN-05", "HOLE-03")
def test_a_ready_lease_is_deleted_when_its_time_is_over_whoever_holds_its_lock(world: World, program: Program) -> None:
    """Idle time here; the foreign instance is in no plan."""
    world.emulator.change(lambda state, now: state.add_instance("emulated-team", now))
    program.acquire(idle_timeout_ms=5 * MINUTE_MS)

    assert planned(world) == [("none", "inside its time")]
    assert planned(world, held=True, later_s=300) == [("delete", "expired at 2026-08-21T12:05:03Z")]


@pytest.mark.holds("KEEP-06", "CLN-03", "W-25")
def test_a_kept_lease_is_left_until_its_keep_ends(world: World, program: Program) -> None:
    program.acquire(keep=world.keep(hours=3))

    assert planned(world, later_s=2 * 3_600) == [("none", "kept")]
    assert planned(world, later_s=3_600) == [("delete", "expired at 2026-08-21T15:00:00Z")]


@pytest.mark.holds("KEEP-01", "CLN-03")
def test_a_kept_failed_acquire_is_left_until_its_keep_ends(world: World, program: Program) -> None:
    program.memory_box.always = SshFailure("the box does not listen", stage="tcp")
    with pytest.raises(SshFailure):
        program.acquire(timeout_ms=MINUTE_MS, keep=world.keep(hours=1))

    assert planned(world) == [("none", "kept")]
    assert planned(world, later_s=3_600) == [("delete", "expired at 2026-08-21T13:00:00Z")]


@pytest.mark.holds("CLN-04")
def test_a_deletion_that_was_begun_is_resumed_whatever_its_time(world: World, program: Program) -> None:
    program.acquire(keep=world.keep(hours=1))
    world.fault("delete", Linger(600))
    with pytest.raises(ProviderFailure):
        program.stop()

    assert planned(world) == [("delete", "its deletion is not finished (deleting)")]


@pytest.mark.holds("CRE-11")
@pytest.mark.parametrize("fault", [None, Status(429, error_type="rate_limited")])
def test_where_nothing_exists_any_more_only_the_record_is_finished(
    world: World, program: Program, fault: Status | None
) -> None:
    """A confirmed deletion or a rejection whose key could not be removed."""
    if fault is None:
        program.acquire()
    else:
        world.fault("create", fault)
    program.boundaries.fail("destroy key", UsageFailure("the key could not be removed"))
    with pytest.raises((UsageFailure, ProviderFailure)):
        program.stop() if fault is None else program.acquire()

    assert planned(world) == [("finish", "nothing of it exists")]


@pytest.mark.holds("CLN-02", "CLN-04")
def test_released_leases_and_an_empty_ledger_need_nothing(world: World, program: Program) -> None:
    empty = planned(world)
    program.acquire()
    program.stop()

    assert (empty, planned(world)) == ([], [])


@pytest.mark.holds("CLN-27")
def test_a_contradictory_claim_is_for_a_person(world: World, program: Program) -> None:
    """Rule 10: nothing is done with it, and the others are planned all the same."""
    program.acquire(OTHER, slug="first")
    _dies_at("committed instance-id-bound")(world, program)
    claims = [
        claim._replace(contradiction="two leases claim one box") if claim.lease_id == LEASE else claim
        for claim in world.reader.claims()
    ]

    actions = plan(claims, Around(now=world.clock.now()))

    assert [(action.lease_id, action.action, action.reason) for action in actions] == [
        (LEASE, "none", "two leases claim one box"),
        (OTHER, "none", "inside its time"),
    ]


@pytest.mark.holds("CLN-01")
def test_a_plan_changes_nothing_and_names_slug_and_box(world: World, program: Program) -> None:
    """Planning is pure."""
    program.acquire()
    calls, types = world.calls(), world.types()
    box = world.claim().instance_id

    assert _plan(world) == [
        Action(lease_id=LEASE, slug="gpu-box", instance_id=box, action="none", reason="inside its time")
    ]
    assert (world.calls(), world.types()) == (calls, types)
