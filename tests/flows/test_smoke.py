"""The live smoke's whole flow in virtual time: what it proves, what excuses it, and that it leaves nothing behind."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from cli.interrupts import SignalInterrupts
from ledger.domain.errors import Interrupted, SshFailure
from ledger.domain.plan import Around
from ledger.domain.ports import RemoteCommand, RemoteExit
from ledger.domain.smoke import ending_of
from ledger.flows.recover import Pass, recover
from ledger.flows.smoke import Smoke, Step, Told, smoke
from providers.emulator.accounts import Account
from providers.emulator.faults import (
    DateSkew,
    DropAfter,
    DropBefore,
    Effect,
    Garbage,
    Hide,
    IgnoreDelete,
    Linger,
    Rewrite,
    Status,
)
from providers.emulator.machines import Settings
from providers.emulator.serve import ACCOUNT
from providers.emulator.state import FalState
from tests.flows.boundaries import WatchedKeys
from tests.flows.world import ACQUIRED, GONE, LEASE, MINUTE_MS, OTHER, Program, World
from tests.world.ledgers import quick_folder

SLUG = "live-smoke-1"
ANSWER = f"live smoke of {LEASE}\n".encode()
LIMITS: dict[str, Any] = {
    "slug": SLUG,
    "purpose": "live-smoke",
    "ttl_ms": 20 * MINUTE_MS,
    "idle_timeout_ms": 5 * MINUTE_MS,
}
STORY = ["account", "inventory", "ledger", "armed", "warm-up", "command", "list", "stop", "gone", "nothing left"]
TRIES = 65
NO_CAPACITY = Status(status=429, error_type="rate_limited", message="No capacity")
NO_MONEY = Status(status=402, error_type="authorization_error", message="Top up")
DENIED = Status(status=403, error_type="authorization_error", message="Access denied")


class Ended(NamedTuple):
    """How a smoke ended, as its report has it."""

    classification: str
    beside: str | None
    reason: str
    exit_code: int


PASSED = Ended("passed", None, "passed", 0)


def go(program: Program, **changes: Any) -> Told:
    """One whole smoke by this program."""
    wanted = program.wanted(**LIMITS | changes)
    return smoke(program.services, Smoke(wanted=wanted, run_id="run_1", token="smoker", on_step=lambda _step: None))


def ended(told: Told) -> Ended:
    ending = ending_of(told.failure, told.left, told.lease, balance=told.balance)
    return Ended(ending.classification, ending.beside, ending.reason, ending.exit_code)


def kinds(told: Told) -> list[str]:
    """The kinds of what is left."""
    return [one.kind for one in told.left]


def step(told: Told, name: str) -> Step:
    (found,) = [one for one in told.steps if one.name == name]
    return found


def tries(told: Told) -> int:
    """How often the cleanup tried."""
    return int(step(told, "cleanup").detail.rpartition("tries: ")[2])


def deleted(world: World) -> set[str]:
    """The ids for which a DELETE arrived."""
    return {entry.path.rpartition("/")[2] for entry in world.emulator.journal() if entry.call == "delete"}


def add_box(world: World, instance_id: str, **options: Any) -> str:
    return world.emulator.change(
        lambda state, now: state.add_instance(ACCOUNT, now, instance_id=instance_id, **options)
    )


def answering(answer: bytes, *, exit_code: int = 0) -> Callable[[RemoteCommand], RemoteExit]:
    def run(command: RemoteCommand) -> RemoteExit:
        command.on_stderr(b"a word that is nobody's business\n")
        command.on_stdout(answer)
        return RemoteExit(exit_code=exit_code)

    return run


@pytest.fixture
def program(world: World) -> Program:
    """A program whose box answers as it must."""
    made = world.program()
    made.memory_box.ends = answering(ANSWER)
    return made


@pytest.mark.holds("SMK-03")
def test_it_goes_through_a_whole_lease_in_one_order_and_leaves_nothing(world: World, program: Program) -> None:
    told = go(program)

    assert ended(told) == PASSED
    assert [(one.name, one.ok) for one in told.steps] == [(name, True) for name in [*STORY, "cleanup"]]
    assert world.types() == [*ACQUIRED, "run-started", "run-finished", *GONE]
    assert world.calls() == [
        *["billing", "list"],  # what the key may see
        *["list", "billing", "create", "get", "get"],  # warm-up, until it is ready
        "list",  # list
        *["get", "delete", "get"],  # stop: looks, deletes, sees it there for a moment
        *["get", "list", "get"],  # and gone
        "list",  # gone
        "list",  # cleanup
    ]
    assert (world.boxes(), world.key_folders(), told.lease.outcome) == ([], [], "completed")
    (requested,) = world.payloads("create-requested")
    assert {name: requested[name] for name in (*LIMITS, "keep")} == {**LIMITS, "keep": None}


@pytest.mark.holds("W-39")
def test_what_others_lease_and_give_back_meanwhile_changes_nothing(world: World, program: Program) -> None:
    add_box(world, "inst_goes")
    add_box(world, "inst_stays")

    def meanwhile() -> None:
        add_box(world, "inst_comes")
        world.emulator.change(lambda state, now: state.remove_instance("inst_goes", now))

    program.boundaries.on("run", meanwhile)
    told = go(program)

    assert ended(told) == PASSED
    assert step(told, "gone").detail.endswith("is not listed; of others 1 came and 1 went")
    assert sorted(box.id for box in world.boxes()) == ["inst_comes", "inst_stays"]
    assert deleted(world) == {told.lease.instance_id}


@pytest.mark.holds("SMK-04")
def test_a_ledger_with_an_open_lease_ends_it_before_any_create(world: World, program: Program) -> None:
    world.program().acquire(OTHER, slug="somebodys")

    told = go(program)

    assert ended(told) == ("validation_failed", None, "open-leases", 1)
    assert step(told, "ledger").detail == "the ledger has open leases: somebodys"
    assert (len(world.posts()), world.types(), world.lease(OTHER).phase) == (1, [], "ready")
    assert [one.name for one in told.steps] == ["account", "inventory", "ledger"]  # nothing to clean up


BEFORE: list[Any] = [
    pytest.param("list", Status(status=401, error_type="authorization_error"), ("environment_blocked", "key-refused")),
    pytest.param("list", DENIED, ("environment_blocked", "key-refused")),
    pytest.param("list", NO_MONEY, ("billing_blocked", "payment-required")),
    pytest.param("list", NO_CAPACITY, ("environment_blocked", "rate-limited")),
    pytest.param("list", Status(status=503, body="down"), ("environment_blocked", "provider-error")),
    pytest.param("list", DropAfter(), ("environment_blocked", "no-answer")),
    pytest.param("list", DateSkew(seconds=90), ("environment_blocked", "clock")),
    pytest.param("billing", NO_MONEY, ("billing_blocked", "payment-required")),
]


@pytest.mark.holds("SMK-02")
@pytest.mark.parametrize(("call", "effect", "blocked"), BEFORE)
def test_what_is_nobodys_bug_blocks_it_before_any_create(
    world: World, program: Program, call: Any, effect: Effect, blocked: tuple[str, str]
) -> None:
    world.fault(call, effect)

    told = go(program)

    assert ended(told) == (blocked[0], None, blocked[1], 0)
    assert (world.posts(), world.types(), world.key_folders()) == ([], [], [])


def test_a_fal_that_cannot_be_reached_blocks_it(world: World) -> None:
    program = world.program(api_url="https://elsewhere.test/v1")
    assert ended(go(program)) == ("environment_blocked", None, "unreachable", 0)


@pytest.mark.holds("SMK-02")
def test_a_key_that_is_refused_only_by_the_warm_up_blocks_it_and_leaves_no_key_folder(
    world: World, program: Program
) -> None:
    world.fault("list", DENIED, skip=1)

    told = go(program)

    assert ended(told) == ("environment_blocked", None, "key-refused", 0)
    assert (step(told, "warm-up").ok, "Access denied" in step(told, "warm-up").detail) == (False, True)
    assert (world.posts(), world.key_folders(), step(told, "cleanup").ok) == ([], [], True)


def test_a_key_that_may_not_read_the_account_is_good_enough(world: World, program: Program) -> None:
    world.fault("billing", DENIED, count=None)

    told = go(program)

    assert (ended(told), told.balance) == (PASSED, None)
    assert step(told, "account").detail == "this key may not read it"


@pytest.mark.holds("SMK-04")
@pytest.mark.parametrize("call", ["list", "billing"])
@pytest.mark.parametrize(
    "effect",
    [
        pytest.param(Rewrite(omit=("has_more", "username")), id="not whole"),
        pytest.param(Garbage(), id="not readable"),
        pytest.param(Status(status=400, error_type="validation_error", message="no capacity, no credit"), id="400"),
    ],
)
def test_an_answer_that_fal_does_not_document_fails_it_before_any_create(
    world: World, program: Program, call: Any, effect: Effect
) -> None:
    world.fault(call, effect)

    assert ended(go(program)) == ("validation_failed", None, "provider", 5)
    assert (world.posts(), world.types()) == ([], [])


@pytest.mark.holds("SMK-05")
def test_a_deletion_that_takes_a_while_is_waited_for(world: World, program: Program) -> None:
    world.fault("delete", Linger(seconds=40))

    told = go(program)

    assert (ended(told), world.boxes()) == (PASSED, [])
    assert step(told, "stop").seconds >= 40


@pytest.mark.holds("SMK-05")
def test_an_inventory_that_still_lists_the_released_box_once_is_read_again(world: World, program: Program) -> None:
    _lists_it_after_its_release(world, program, count=1)

    told = go(program)

    assert (ended(told), step(told, "gone").seconds) == (PASSED, 2.0)


@pytest.mark.holds("SMK-06")
def test_a_box_that_is_listed_for_ever_fails_it_and_its_cleanup(world: World, program: Program) -> None:
    _lists_it_after_its_release(world, program, count=None)

    told = go(program)

    assert ended(told) == ("cleanup_failed", "validation_failed", "gone", 1)
    assert (kinds(told), tries(told), told.lease.phase) == (["listed"], TRIES, "released")
    assert told.left[0].told == f"fal lists box {told.lease.instance_id} after its lease {SLUG} was released"


def _lists_it_after_its_release(world: World, program: Program, *, count: int | None) -> None:
    """Inventories show the box although it is gone, and a GET of it says so."""

    def list_it() -> None:
        box = {"id": world.lease().instance_id, "instance_type": "gpu_1x_h100_sxm5", "region": "us-west"}
        world.fault("list", Rewrite(put={"instances": [box | {"status": "ready"}]}), count=count)

    program.boundaries.on("committed released", list_it)


@pytest.mark.holds("SMK-06", "W-06")
def test_a_box_that_comes_back_after_its_release_is_deleted_and_fails_it(world: World, program: Program) -> None:
    """fal says that it is gone, while it is not: the cleanup opens the lease again and deletes the box."""
    world.fault("delete", IgnoreDelete())

    def hide_it() -> None:
        world.fault("get", Hide(), count=2)
        world.fault("list", Hide())

    program.boundaries.on("answered delete", hide_it)

    told = go(program)

    assert ended(told) == ("validation_failed", None, "gone", 1)
    assert world.types()[-len(GONE) - 1 :] == ["reopened", *GONE]
    assert (world.boxes(), tries(told)) == ([], 2)


@pytest.mark.holds("SMK-06", "SMK-16")
def test_a_box_that_cannot_be_deleted_is_named_and_the_code_of_the_stop_is_kept(world: World, program: Program) -> None:
    world.fault("delete", Status(status=500, error_type="server_error"), count=None)

    told = go(program)

    assert ended(told) == ("cleanup_failed", "validation_failed", "provider", 5)
    assert (kinds(told), tries(told)) == (["open", "stop"], TRIES)
    (box,) = world.boxes()
    assert told.left[0].told == f"lease {SLUG} is open (deleting, box {box.id})"
    assert step(told, "cleanup").detail.startswith(told.left[0].told)
    assert world.clock.slept.count(2.0) >= TRIES - 1
    assert world.key_folders() == [LEASE]  # the box is still to be reached


@pytest.mark.holds("SMK-16")
def test_the_cleanup_goes_on_until_a_try_succeeds(world: World, program: Program) -> None:
    failures = 40
    world.fault("delete", Status(status=500, error_type="server_error"), count=failures)

    told = go(program)

    assert ended(told) == ("validation_failed", None, "provider", 5)
    assert (world.boxes(), world.key_folders(), world.calls().count("delete")) == ([], [], failures + 1)
    assert 1 < tries(told) < TRIES


@pytest.mark.holds("SMK-07", "W-39")
def test_a_lack_of_capacity_blocks_it_and_nobody_elses_lease_or_box_is_touched(world: World, program: Program) -> None:
    """Another lease of this ledger has expired by then: that is the general cleanup's, not the smoke's."""
    add_box(world, "inst_foreign")
    neighbour = world.program()

    def meanwhile() -> None:
        neighbour.acquire(OTHER, slug="expired", ttl_ms=MINUTE_MS)
        world.clock.wait(2 * 60)
        world.fault("create", NO_CAPACITY)

    program.boundaries.on("make key", meanwhile)
    told = go(program)

    assert ended(told) == ("capacity_blocked", None, "rate_limited", 0)
    assert (told.lease.outcome, deleted(world), world.lease(OTHER).phase) == ("rejected", set(), "ready")
    assert (len(world.boxes()), world.key_folders()) == (2, [OTHER])


@pytest.mark.holds("SMK-07")
def test_a_refusal_for_capacity_after_a_create_without_an_answer_excuses_nothing(
    world: World, program: Program
) -> None:
    """What the first request made is found by its key and given back; a second box is not ruled out yet."""
    world.fault("create", DropAfter())
    world.fault("create", NO_CAPACITY, count=None)

    told = go(program)

    assert ended(told) == ("cleanup_failed", "validation_failed", "in-doubt", 75)
    assert (told.lease.outcome, world.boxes(), world.key_folders()) == ("rolled-back", [], [])
    assert deleted(world) == {told.lease.instance_id}


@pytest.mark.holds("SMK-08", "W-39")
@pytest.mark.parametrize("message", ["no capacity: try another region", "credit balance too low: top up"])
def test_a_failure_of_ours_fails_it_with_its_own_code_whatever_words_are_in_it(
    world: World, program: Program, message: str
) -> None:
    program.memory_box.always = SshFailure(message, stage="host-key")

    told = go(program)

    assert ended(told) == ("validation_failed", None, "ssh", 7)
    assert (message in step(told, "warm-up").detail, world.boxes(), world.key_folders()) == (True, [], [])


@pytest.mark.holds("SMK-08")
@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_create_that_fal_finds_wrong_fails_it(world: World, program: Program, status: int) -> None:
    world.fault("create", Status(status=status, error_type="validation_error", message="capacity, credit, limit"))

    assert ended(go(program)) == ("validation_failed", None, "provider", 5)
    assert world.lease().outcome == "rejected"


@pytest.mark.holds("SMK-08")
def test_a_bug_of_ours_fails_it_with_1_and_leaves_nothing(world: World, program: Program) -> None:
    program.boundaries.fail("run", RuntimeError("429 no capacity"))

    told = go(program)

    assert ended(told) == ("validation_failed", None, "internal", 1)
    assert step(told, "command").detail == "RuntimeError: 429 no capacity"
    assert (world.boxes(), world.key_folders()) == ([], [])


@pytest.mark.holds("SMK-08", "W-39")
@pytest.mark.parametrize(
    ("status", "reason", "code"), [(402, "provider", 5), (403, "credentials", 3), (429, "provider", 5)]
)
def test_what_blocks_a_create_excuses_nothing_once_there_is_a_box(
    world: World, program: Program, status: int, reason: str, code: int
) -> None:
    refused = Status(status=status, error_type="authorization_error")
    program.boundaries.on("ran", lambda: world.fault("list", refused))

    assert ended(go(program)) == ("validation_failed", None, reason, code)
    assert world.boxes() == []


@pytest.mark.holds("SMK-09")
def test_a_lack_of_credit_blocks_it_once_a_look_has_shown_that_nothing_was_made(world: World, program: Program) -> None:
    world.fault("create", NO_MONEY)

    told = go(program)

    assert ended(told) == ("billing_blocked", None, "payment-required", 0)
    assert (told.lease.outcome, tries(told), world.boxes()) == ("rejected", 1, [])
    assert world.calls() == ["billing", "list", "list", "billing", "create", "list"]


@pytest.mark.holds("SMK-09", "W-39")
@pytest.mark.parametrize(
    ("balance", "blocked"),
    [("0", ("billing_blocked", "no-credit")), ("0.01", ("environment_blocked", "key-refused"))],
)
def test_a_create_that_is_not_allowed_is_a_lack_of_credit_only_where_the_balance_says_so(
    world: World, program: Program, balance: str, blocked: tuple[str, str]
) -> None:
    world.emulator.change(lambda state, _now: state.accounts.add(Account(username=ACCOUNT, balance=Decimal(balance))))
    world.fault("create", DENIED)

    assert ended(go(program)) == (blocked[0], None, blocked[1], 0)


@pytest.mark.holds("SMK-11")
def test_a_refused_create_that_made_a_box_all_the_same_fails_it_and_the_box_goes(
    world: World, program: Program
) -> None:
    world.fault("create", replace(NO_MONEY, handled=True))

    told = go(program)

    assert ended(told) == ("validation_failed", None, "provider", 5)
    (bound,) = world.payloads("instance-id-bound")
    assert (bound["evidence"], deleted(world), world.boxes()) == ("key-proof", {bound["instance_id"]}, [])


@pytest.mark.holds("SMK-11")
def test_a_new_box_that_does_not_say_whose_it_is_after_a_refused_create_fails_the_cleanup(
    world: World, program: Program
) -> None:
    world.fault("create", NO_MONEY)
    world.silent.add("inst_new")
    program.boundaries.on("call create", lambda: add_box(world, "inst_new"))

    told = go(program)

    assert ended(told) == ("cleanup_failed", "billing_blocked", "payment-required", 1)
    assert [one.told for one in told.left] == [f"box inst_new is new and has not refused the key of lease {SLUG}"]
    assert (tries(told), deleted(world)) == (TRIES, set())


@pytest.mark.holds("SMK-11", "W-39")
def test_somebody_elses_new_box_that_refuses_the_key_excuses_nothing_away(world: World, program: Program) -> None:
    world.fault("create", NO_MONEY)
    program.boundaries.on("call create", lambda: add_box(world, "inst_theirs"))

    told = go(program)

    assert (ended(told), tries(told)) == (("billing_blocked", None, "payment-required", 0), 1)
    assert ([box.id for box in world.boxes()], deleted(world)) == (["inst_theirs"], set())


@pytest.mark.holds("SMK-11")
def test_a_create_told_to_have_failed_whose_box_is_there_is_found_by_its_key_and_fails_it(
    world: World, program: Program
) -> None:
    world.fault("create", Status(status=500, error_type="server_error", handled=True), count=None)

    told = go(program)

    assert ended(told) == ("cleanup_failed", "validation_failed", "in-doubt", 75)
    assert (told.lease.outcome, world.boxes(), world.key_folders()) == ("rolled-back", [], [])


def passes(world: World, count: int, *, apart_s: float) -> list[str]:
    """The results of so many passes of `recover`, with time between them."""
    results = []
    for _ in range(count):
        world.clock.wait(apart_s)
        program = world.program()
        wish = Pass(around=lambda _claims: Around(now=world.clock.now()), token=program.token, side_by_side=1)
        results += [done.result for done in recover(program.services, wish)]
    return results


@pytest.mark.holds("SMK-10", "SMK-12")
@pytest.mark.parametrize("timeout_ms", [MINUTE_MS, 15 * MINUTE_MS])
def test_a_create_in_doubt_fails_the_cleanup_whatever_the_time_limit(
    world: World, program: Program, timeout_ms: int
) -> None:
    """Sixty-five inventories in two minutes prove nothing: five that are five minutes apart do, after the window."""
    world.fault("create", DropBefore(), count=None)

    told = go(program, timeout_ms=timeout_ms)

    assert ended(told) == ("cleanup_failed", "validation_failed", "in-doubt", 75)
    assert (kinds(told)[0], tries(told), told.lease.phase) == ("in-doubt", TRIES, "in-doubt")
    assert told.left[0].told == f"whether a box was made for lease {SLUG} is not known"

    results = passes(world, 6, apart_s=300)
    assert "never-created" in results
    sent_at, released_at = world.lease().first_sent_at, world.lease().released_at
    assert sent_at is not None
    assert released_at is not None
    assert (released_at - sent_at).total_seconds() >= 540 + 4 * 300
    (released,) = world.payloads("released")
    assert len(set(released["inventories"])) == 5


@pytest.mark.holds("SMK-12")
def test_no_number_of_looks_proves_it_while_a_new_box_may_be_its_own(world: World, program: Program) -> None:
    world.fault("create", DropBefore(), count=None)
    go(program)
    world.clock.wait(600)
    assert passes(world, 3, apart_s=300) == ["failed"] * 3

    world.silent.add("inst_late")
    add_box(world, "inst_late")
    assert passes(world, 8, apart_s=300) == ["failed"] * 8

    world.emulator.change(lambda state, now: state.remove_instance("inst_late", now))
    results = passes(world, 5, apart_s=300)
    assert (results[0], "never-created" in results) == ("failed", True)  # one look without it may be a glitch


class Forgetful(WatchedKeys):
    """Keys of which none is ever destroyed."""

    def destroy(self, lease_id: str) -> None:
        self._reach("destroy key")


@pytest.mark.holds("SMK-13")
def test_key_files_that_are_left_over_fail_it_and_are_left_for_a_look(world: World, program: Program) -> None:
    program.services = replace(program.services, keys=Forgetful(world.keys, program.boundaries))

    told = go(program)

    assert ended(told) == ("cleanup_failed", "validation_failed", "left", 1)
    assert (kinds(told), tries(told), world.key_folders()) == (["key"], TRIES, [LEASE])
    assert (world.keys.root / LEASE / "id_ed25519").exists()
    assert told.left[0].told == f"the key folder {world.keys.root / LEASE} was not removed"
    assert world.boxes() == []


@pytest.mark.holds("SMK-14")
def test_a_box_that_never_becomes_ready_fails_it_with_the_warm_ups_code_after_a_stop(
    world: World, program: Program
) -> None:
    world.when("GET", lambda: _pin(world, "provisioning"), "/instances/")

    told = go(program)

    assert ended(told) == ("validation_failed", None, "provider", 5)
    assert (told.lease.outcome, world.boxes(), world.key_folders()) == ("rolled-back", [], [])


def _pin(world: World, status: str) -> None:
    def pin(state: FalState, _now: datetime) -> None:
        for box in ids:
            state.force_status(box, status)

    ids = [box.id for box in world.boxes()]
    world.emulator.change(pin)


@pytest.mark.holds("SMK-14")
def test_a_box_that_is_not_listed_as_ready_any_more_fails_it(world: World, program: Program) -> None:
    program.boundaries.on("ran", lambda: _pin(world, "unknown"))

    told = go(program)

    assert ended(told) == ("validation_failed", None, "list", 1)
    assert step(told, "list").detail == f"fal shows box {told.lease.instance_id} as unknown, not as ready"
    assert world.boxes() == []


def test_a_lease_that_appears_beside_its_own_fails_it_and_stays(world: World, program: Program) -> None:
    program.boundaries.on("ran", lambda: world.program().acquire(OTHER, slug="another"))

    told = go(program)

    assert ended(told) == ("validation_failed", None, "list", 1)
    assert world.lease(OTHER).phase == "ready"
    assert (told.lease.phase, len(world.boxes()), deleted(world)) == ("released", 1, {told.lease.instance_id})


@pytest.mark.holds("SMK-15")
@pytest.mark.parametrize(
    ("answer", "exit_code"),
    [
        pytest.param(b"Welcome!\n" + ANSWER, 0, id="a line more"),
        pytest.param(ANSWER.strip(), 0, id="a line end less"),
        pytest.param(b"", 0, id="nothing"),
        pytest.param(b"\xff" * 10_000, 0, id="much that is no text"),
        pytest.param(ANSWER, 3, id="another exit code"),
    ],
)
def test_an_answer_that_differs_fails_it_naming_what_was_expected(
    world: World, program: Program, answer: bytes, exit_code: int
) -> None:
    program.memory_box.ends = answering(answer, exit_code=exit_code)

    told = go(program)

    assert ended(told) == ("validation_failed", None, "output", 1)
    detail = step(told, "command").detail
    assert detail.startswith(f"expected the one line {ANSWER.decode()!r} and exit code 0, not ")
    assert detail.endswith(f", exit code {exit_code}")
    assert len(detail) < 1200
    assert (world.boxes(), world.key_folders()) == ([], [])


def test_a_box_of_a_replayed_create_that_was_made_twice_is_given_back_as_well(tmp_path: Path) -> None:
    """fal forgets at once what it has answered, so that a replay makes a second box (W-14); a third may be slow."""
    with World(tmp_path, Settings(idempotency_s=0.0)) as world:
        program = world.program()
        program.memory_box.ends = answering(ANSWER)
        world.fault("create", DropAfter())

        told = go(program)

        assert (ended(told), world.boxes(), len(world.posts())) == (("cleanup_failed", None, "suspect", 1), [], 2)
        assert [claim.is_open for claim in world.reader.claims(include_released=True)] == [0, 0]


@pytest.fixture
def signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize(
    "boundary", ["call create", "answered create", "committed ready", "run", "call delete", "committed released"]
)
def test_a_stop_signal_gives_the_box_back_and_ends_it_with_its_own_code(
    world: World, program: Program, boundary: str
) -> None:
    program.interrupts.install()
    program.boundaries.on(boundary, lambda: os.kill(os.getpid(), signal.SIGTERM))

    told = go(program)

    assert isinstance(told.failure, Interrupted)
    assert ended(told) == ("validation_failed", None, "interrupted", 143)
    assert (world.boxes(), world.key_folders(), step(told, "cleanup").ok) == ([], [], True)


class Late(SignalInterrupts):
    """Interrupts of which one comes in the instant before a shield, counted from 1."""

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self._entered = 0
        self._at = at

    @contextmanager
    def shielded(self) -> Iterator[None]:
        self._entered += 1
        if self._entered == self._at:
            raise Interrupted(signal.SIGTERM)
        with super().shielded():
            yield


def test_a_stop_signal_in_the_instant_before_any_shield_leaves_nothing_or_it_is_said() -> None:
    """The three are the create's, the run's and the cleanup's, which here has a box to give back.

    Before the first one a create was announced and is not sent: whether it was is in doubt.
    """
    ends = [_interrupted_before(at) for at in (1, 2, 3, None)]
    assert [(end.exit_code, left, boxes) for end, left, boxes in ends] == [
        (143, ["in-doubt"], []),
        (143, [], []),
        (1, [], []),  # the wrong answer came first
        (1, [], []),
    ]


def _interrupted_before(shield: int | None) -> tuple[Ended, list[str], list[Any]]:
    with quick_folder() as folder, World(Path(folder)) as world:
        program = world.program()
        program.memory_box.ends = answering(b"wrong")
        program.services = replace(program.services, interrupts=Late(shield))
        told = go(program)
        return ended(told), kinds(told)[:1], world.boxes()


@pytest.mark.usefixtures("signals")
def test_a_stop_signal_during_the_cleanup_breaks_none_of_its_tries_off() -> None:
    waits = []
    for is_stopped in (False, True):
        with quick_folder() as folder, World(Path(folder)) as world:
            program = world.program()
            program.interrupts.install()
            world.fault("delete", Status(status=500, error_type="server_error"), count=None)
            program.memory_box.ends = answering(b"wrong")
            if is_stopped:
                world.clock.plan(200, be_stopped)
            told = go(program)
            waits.append((tries(told), kinds(told), world.clock.slept))
            assert ended(told).exit_code == 1  # the wrong answer came first
    assert waits[0] == waits[1]


def fail() -> None:
    raise RuntimeError("a bug")


def be_stopped() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("happen", [fail, be_stopped], ids=["a bug", "a stop signal"])
def test_whatever_happens_at_whatever_step_nothing_is_left_or_it_is_said(
    happen: Callable[[], None],
) -> None:
    """At each single boundary that a smoke crosses, one after another."""
    _, _, crossed = _with(happen, at=None)
    silent = []
    for number in range(1, crossed + 1):
        told, leftovers, _ = _with(happen, at=number)
        if leftovers and not told.left:
            silent.append((number, leftovers))
    assert (silent, crossed > 50) == ([], True)


def _with(happen: Callable[[], None], *, at: int | None) -> tuple[Told, list[str], int]:
    """One smoke in which something happens at a boundary, what that left, and how many boundaries it crossed."""
    with quick_folder() as folder, World(Path(folder)) as world:
        program = world.program()
        program.interrupts.install()
        program.memory_box.ends = answering(ANSWER)

        def reach(_name: str) -> None:
            if len(program.boundaries.crossed) == at:
                happen()

        program.boundaries.everywhere = reach
        told = go(program)
        left = [*(box.id for box in world.boxes()), *world.key_folders()]
        return told, left, len(program.boundaries.crossed)
