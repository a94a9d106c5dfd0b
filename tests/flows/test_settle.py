"""A create in doubt, settled by a later process: looked for, proven by its key, or proven never to have been."""

from datetime import timedelta

import pytest

from ledger.domain.errors import CredentialsFailure, InDoubt
from ledger.flows.settle import settle
from providers.emulator.faults import DropAfter, Hide, LateVisible, Status
from tests.flows.recovering import PASS_EVERY_S, Told, dies_at, lost, passed, stranger, until_settled
from tests.flows.world import LEASE, Program, World

IN_DOUBT = Told("settle", "failed", "in-doubt")
DELETED = ["delete-requested", "delete-accepted", "deletion-confirmed", "released"]
WINDOW_S = 540.0


def never_sent(world: World, program: Program) -> None:
    """A create that was announced by a program which died before its first byte left."""
    dies_at(program, "committed create-sent", program.acquire)


@pytest.mark.holds("W-01", "HOLE-07", "CRE-17", "CLN-09", "PEER-13")
def test_past_the_window_its_key_finds_the_box_among_strangers_and_no_post_is_sent(
    world: World, program: Program
) -> None:
    made = lost(world, program)
    strangers = [stranger(world), stranger(world, instance_type="gpu_8x_h100_sxm5")]
    world.clock.sleep(WINDOW_S + 60)

    assert passed(world.program())[LEASE] == Told("settle", "rolled-back")
    tried = {one["instance_id"]: one["verdict"] for one in world.payloads("candidate-tried")}
    assert tried == {made.id: "accepted", **dict.fromkeys(strangers, "refused")}
    assert world.payloads("instance-id-bound")[0]["evidence"] == "key-proof"
    assert world.payloads("instance-id-bound")[0]["instance_id"] == made.id
    assert (world.calls("create", "delete"), [box.id for box in world.boxes()]) == (["create", "delete"], strangers)
    assert (world.claim().outcome, world.key_folders()) == ("rolled-back", [])


@pytest.mark.holds("W-01", "CRE-17")
def test_five_spaced_looks_after_the_window_prove_that_nothing_was_made(world: World, program: Program) -> None:
    never_sent(world, program)
    said = until_settled(world)

    closed_at = world.recorded_at("create-sent") + timedelta(seconds=WINDOW_S)
    looked_at = [seen.recorded_at for seen in world.reader.inventories(after=0)]
    named = world.payloads("released")[0]["inventories"]
    assert said[-1] == Told("settle", "never-created")
    assert set(said[:-1]) == {IN_DOUBT}
    assert len(named) == 5
    assert [at for at in looked_at if at >= closed_at] == [
        closed_at + timedelta(seconds=60 + number * PASS_EVERY_S) for number in range(5)
    ]
    assert (world.posts(), world.key_folders()) == ([], [])


@pytest.mark.holds("W-13")
def test_inside_the_window_nothing_is_replayed_where_nothing_new_is_there(world: World, program: Program) -> None:
    never_sent(world, program)
    world.clock.sleep(120)

    assert passed(world.program())[LEASE] == IN_DOUBT
    assert world.posts() == []


@pytest.mark.holds("W-13")
def test_inside_the_window_nothing_is_replayed_where_all_that_is_new_has_refused_the_key(
    world: World, program: Program
) -> None:
    never_sent(world, program)
    stranger(world)
    world.clock.sleep(120)

    assert passed(world.program())[LEASE] == IN_DOUBT
    assert (world.payloads("candidate-tried")[0]["verdict"], world.posts()) == ("refused", [])


@pytest.mark.holds("CRE-14", "CLN-07", "KEEP-07")
def test_inside_the_window_a_box_that_cannot_answer_yet_is_learnt_by_one_replay(world: World, program: Program) -> None:
    made = lost(world, program)
    world.silent.add(made.id)
    world.clock.sleep(120)

    assert passed(world.program())[LEASE] == Told("settle", "rolled-back")
    [first, second] = world.posts()
    assert first == second
    assert world.payloads("instance-id-bound")[0]["evidence"] == "create-answer"
    assert world.types()[-6:] == ["create-sent", "instance-id-bound", *DELETED]
    assert world.boxes() == []


@pytest.mark.holds("CRE-16")
def test_a_replay_that_is_rejected_settles_nothing(world: World, program: Program) -> None:
    made = lost(world, program)
    world.silent.add(made.id)
    world.clock.sleep(120)
    world.fault("create", Status(403, error_type="authorization_error"))

    assert passed(world.program())[LEASE] == IN_DOUBT
    assert (world.claim().phase, world.calls("delete"), world.key_folders()) == ("in-doubt", [], [LEASE])
    assert world.types()[-1] == "create-in-doubt"


@pytest.mark.holds("CRE-30")
def test_an_id_that_a_replay_learns_and_the_ledger_does_not_take_is_deleted_and_spooled(
    world: World, program: Program
) -> None:
    made = lost(world, program)
    world.silent.add(made.id)
    world.clock.sleep(120)
    recovering = world.program()
    recovering.boundaries.fail("append instance-id-bound", OSError(28, "No space left on device"), times=4)

    assert passed(recovering)[LEASE].failure == "provider"
    assert (world.boxes(), world.calls("delete")) == ([], ["delete"])
    assert [spooled.instance_id for _, spooled in recovering.services.spool.waiting()] == [made.id]


@pytest.mark.holds("W-15", "CRE-18")
def test_a_machine_that_has_booted_since_never_replays(world: World, program: Program) -> None:
    made = lost(world, program)
    world.silent.add(made.id)
    world.clock.sleep(120)
    world.clock.boot_id = "boot-2"

    assert passed(world.program())[LEASE] == IN_DOUBT
    assert len(world.posts()) == 1


def test_a_request_that_may_still_be_running_is_not_replayed(world: World, program: Program) -> None:
    made = lost(world, program)
    world.silent.add(made.id)
    world.clock.sleep(60)

    assert passed(world.program())[LEASE] == IN_DOUBT
    assert len(world.posts()) == 1


@pytest.mark.holds("PEER-39", "W-05")
def test_a_box_that_shows_up_late_is_found_while_its_lease_is_in_doubt(world: World, program: Program) -> None:
    world.fault("create", LateVisible(25 * 60))
    dies_at(program, "answered create", program.acquire)

    said = until_settled(world)

    assert said[-1] == Told("settle", "rolled-back")
    assert world.boxes() == []


@pytest.mark.holds("PEER-13")
def test_a_box_that_shows_up_after_never_created_reopens_its_lease_and_is_deleted(
    world: World, program: Program
) -> None:
    world.fault("create", LateVisible(2 * 3600))
    dies_at(program, "answered create", program.acquire)
    until_settled(world)
    assert world.claim().outcome == "never-created"
    world.clock.sleep(2 * 3600)

    assert passed(world.program())[LEASE].action == "search"
    assert (world.claim().phase, world.claim().outcome, world.boxes()) == ("released", "rolled-back", [])


@pytest.mark.holds("PEER-16", "CRE-34")
def test_a_box_that_lets_everybody_in_is_neither_bound_nor_deleted_and_the_lease_stays_open(
    world: World, program: Program
) -> None:
    never_sent(world, program)
    trap = stranger(world, ssh_policy="every-key")
    world.clock.sleep(WINDOW_S)
    for _ in range(14):
        assert passed(world.program())[LEASE] == IN_DOUBT
        world.clock.sleep(PASS_EVERY_S)

    assert {tried["verdict"] for tried in world.payloads("candidate-tried")} == {"unproven"}
    assert ([box.id for box in world.boxes()], world.calls("delete")) == ([trap], [])


@pytest.mark.holds("W-40")
def test_a_box_that_one_listing_leaves_out_is_not_gone(world: World, program: Program) -> None:
    made = lost(world, program)
    world.silent.add(made.id)
    world.clock.sleep(WINDOW_S)
    for number in range(12):
        if number % 2:
            world.fault("list", Hide())
        assert passed(world.program())[LEASE] == IN_DOUBT
        world.clock.sleep(PASS_EVERY_S)
    world.silent.clear()

    assert until_settled(world)[-1] == Told("settle", "rolled-back")
    assert world.boxes() == []


@pytest.mark.holds("CRE-23", "W-21")
def test_another_key_without_proof_settles_nothing(world: World, program: Program) -> None:
    lost(world, program)
    world.emulator.change(lambda state, _now: state.add_account("other", "another-account:key"))
    world.clock.sleep(WINDOW_S)

    assert passed(world.program(key="another-account:key"))[LEASE] == Told("settle", "failed", "credentials")
    assert (world.calls("delete"), world.payloads("candidate-tried")) == ([], [])


@pytest.mark.holds("KEEP-04", "W-03", "HOLE-01")
@pytest.mark.parametrize(
    ("boundary", "outcome"),
    [
        ("committed create-requested", "cancelled"),
        ("committed create-in-doubt", "rolled-back"),
        ("committed instance-id-bound", "rolled-back"),
    ],
)
def test_keep_protects_nothing_that_was_never_ready(
    world: World, program: Program, boundary: str, outcome: str
) -> None:
    if "in-doubt" in boundary:
        world.fault("create", DropAfter())
    dies_at(program, boundary, lambda: program.acquire(keep=world.keep(days=6)))
    world.clock.sleep(WINDOW_S)

    assert passed(world.program())[LEASE].result == outcome
    assert world.boxes() == []


def test_what_is_waited_for_is_said(world: World, program: Program) -> None:
    never_sent(world, program)
    services = world.program().services

    with pytest.raises(InDoubt) as raised:
        settle(services, LEASE, lock=services.locks(LEASE), token="a later process")

    assert raised.value.message == (
        "whether a box was made for lease gpu-box is not known yet, and the lease stays open"
    )
    assert raised.value.hint == (
        "fal shows no instance that could be its box; five looks five minutes apart settle it, next at 12:09:00Z;"
        " `rentroll watch` goes on by itself"
    )
    assert raised.value.next_step == "rentroll recover --only gpu-box"


def test_a_key_of_another_account_is_refused_by_name(world: World, program: Program) -> None:
    never_sent(world, program)
    world.emulator.change(lambda state, _now: state.add_account("other", "another-account:key"))
    services = world.program(key="another-account:key").services

    with pytest.raises(CredentialsFailure):
        settle(services, LEASE, lock=services.locks(LEASE), token="a later process")


def test_the_first_look_after_the_window_counts_however_short_after_another_one(world: World, program: Program) -> None:
    never_sent(world, program)
    world.clock.sleep(WINDOW_S - 60)
    passed(world.program())
    world.clock.sleep(63)

    passed(world.program())

    with pytest.raises(InDoubt) as raised:
        settle(world.program().services, LEASE, lock=None, token="a later process")
    assert "next at 12:14:03Z" in (raised.value.hint or "")


@pytest.mark.holds("PEER-16")
def test_where_only_a_person_can_end_it_it_is_said_what_to_type(world: World, program: Program) -> None:
    never_sent(world, program)
    stranger(world, ssh_policy="every-key")
    world.clock.sleep(WINDOW_S)
    passed(world.program())

    with pytest.raises(InDoubt) as raised:
        settle(world.program().services, LEASE, lock=None, token="a later process")

    assert raised.value.next_step == "rentroll recover --only gpu-box --write-off --reason TEXT"
    assert "a person has to end it" in (raised.value.hint or "")
