"""The last resort for an id, and what the pen refuses."""

from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger.domain import events as e
from ledger.domain.errors import Conflict, RentrollError, UsageFailure
from ledger.flows.book import Book
from ledger.flows.create import IdNotRecorded
from ledger.flows.spool import Spool, SpooledId, merge
from ledger.store.private_files import keep_private_file
from providers.emulator.faults import DropAfter
from tests.flows.world import ACQUIRED, LEASE, OTHER, Program, World
from tests.world.death import Crash

FIRST = SpooledId(lease_id=LEASE, instance_id="inst_1", acquirer="somebody", attempt=1)


@pytest.mark.holds("CRE-29", "LCK-08", "W-41")
def test_a_spooled_id_is_appended_at_the_next_start_and_its_box_given_back(world: World, program: Program) -> None:
    """Rule 3."""
    program.boundaries.fail("append instance-id-bound", UsageFailure("disk full"), times=4)
    program.boundaries.fail("call delete", Crash())
    with pytest.raises(Crash):
        program.acquire()
    program.die()
    next_one = world.program()

    merge(str(world.spool_folder), next_one.book)
    bound = (world.claim().phase, world.claim().instance_id)
    released = next_one.stop()

    assert bound == ("rolling-back", world.emulator.instances()[0].id)
    assert (released.outcome, world.boxes(), next_one.services.spool.waiting()) == ("rolled-back", [], [])
    assert world.payloads("instance-id-bound")[0]["evidence"] == "spool"


def test_a_key_that_somebody_typed_is_in_no_fact(world: World, program: Program) -> None:
    """Rule 8: keys end up in commands and reasons; every text of a fact is masked before it is decided on."""
    program.acquire()
    pen = Book(program.register, world.clock, "tester@host", secrets=("fal-key:123", "x"))
    run_id = "run_" + "3" * 26

    pen.record(
        LEASE,
        e.RunStarted(
            run_id=run_id,
            command=("env", "FAL_KEY=fal-key:123", "true"),
            work_dir="~/x",
            repository=e.Repository(path="/srv/fal-key:123"),
            host="desk",
            pid=1,
        ),
    )

    assert world.payloads("run-started") == [
        {
            "run_id": run_id,
            "command": ["env", "FAL_KEY=[redacted]", "true"],
            "work_dir": "~/x",
            "repository": {"origin": None, "root_commit": None, "path": "/srv/[redacted]"},
            "host": "desk",
            "pid": 1,
            "kind": "argv",
            "commit": None,
            "dirty": None,
            "manifest_digest": None,
            "fence": None,
        }
    ]


def test_an_id_that_still_cannot_be_appended_stays_in_the_spool(world: World, program: Program) -> None:
    """Rule 3: and a start is not stopped by it."""
    program.services.spool.put(FIRST)

    merge(str(world.spool_folder), program.book)

    assert [spooled for _path, spooled in program.services.spool.waiting()] == [FIRST]


def test_a_lease_may_wait_with_two_ids(tmp_path: Path) -> None:
    """Rule 3: a second box of one lease does not overwrite the first."""
    spool = Spool(tmp_path / "spool", keep_private_file)
    second = replace(FIRST, instance_id="../inst_2")

    paths = {spool.put(FIRST), spool.put(second), spool.put(FIRST)}

    assert sorted(spooled.instance_id for _path, spooled in spool.waiting()) == ["../inst_2", "inst_1"]
    assert {path.parent for path in paths} == {tmp_path / "spool"}
    assert sorted(paths) == sorted((tmp_path / "spool").iterdir())


def test_damaged_and_hostile_files_in_the_spool_are_left_alone(tmp_path: Path, world: World, program: Program) -> None:
    """A name that is no lease id never becomes a stream."""
    spool = Spool(world.spool_folder, keep_private_file)
    hostile = spool.put(replace(FIRST, lease_id="account"))
    damaged = hostile.with_name("damaged.json")
    damaged.write_text("{")

    merge(str(world.spool_folder), program.book)

    assert (spool.waiting(), sorted(world.spool_folder.iterdir())) == ([], sorted([hostile, damaged]))


@pytest.mark.holds("W-41")
def test_a_spool_that_cannot_be_written_still_deletes_the_box_and_names_it(world: World, program: Program) -> None:
    """The id is in the error, which goes to stderr."""
    program.boundaries.fail("append instance-id-bound", UsageFailure("disk full"), times=4)
    world.spool_folder.write_text("in the way")

    with pytest.raises(IdNotRecorded) as failure:
        program.acquire()

    [box] = world.emulator.instances()
    assert f"did not take instance {box.id} of lease gpu-box: disk full; its DELETE was accepted" in (
        failure.value.message
    )
    assert failure.value.hint == "the id could not be kept in a file either: write it down"
    assert world.boxes() == []


@pytest.mark.holds("LCK-08")
def test_a_record_that_is_repeated_appends_nothing(world: World, program: Program) -> None:
    """It says so, so that no effect follows."""
    program.acquire()
    fact = e.RunStarted(run_id="run_1", command=("true",), work_dir="w", repository=None, host="host", pid=1)

    first, second = program.book.record(LEASE, fact), program.book.record(LEASE, fact)

    assert (first.appended, second.appended, first.lease == second.lease) == (True, False, True)
    assert world.types() == [*ACQUIRED, "run-started"]


@pytest.mark.holds("LCK-08")
def test_facts_that_are_recorded_together_are_all_or_none(world: World, program: Program) -> None:
    """The second is refused, so the first is not there either."""
    program.acquire()

    with pytest.raises(RentrollError):
        program.book.record(LEASE, e.Touched(cause="run", ttl_ms=60_000), e.Rollback(stage="x", cause="y", shown=True))

    assert world.types() == ACQUIRED


@pytest.mark.holds("LCK-08", "PEER-44")
def test_a_stale_state_is_not_appended_to(world: World, program: Program) -> None:
    """Exit 11, and nothing is written."""
    stale = program.acquire()
    world.clock.sleep(1)
    world.program().book.record(LEASE, e.Touched(cause="touch"))

    with pytest.raises(Conflict) as failure, program.register.transaction() as transaction:
        transaction.append(stale, [e.Touched(cause="late")], at=world.clock.now(), actor="late")

    assert (failure.value.exit_code, world.types()) == (11, [*ACQUIRED, "touched"])


@pytest.mark.holds("W-15")
@pytest.mark.parametrize(
    ("fact", "later_s", "back_s", "told"),
    [("replay", 300, -60, "is behind the newest event of the ledger"), ("expiry", 3_600, -600, "it has time left")],
)
def test_a_clock_behind_the_newest_event_decides_nothing_that_depends_on_time(
    world: World, program: Program, fact: str, later_s: int, back_s: int, told: str
) -> None:
    """Clocks: the newest event may be another lease's."""
    world.fault("create", DropAfter())
    program.boundaries.fail("committed create-in-doubt", Crash())
    with pytest.raises(Crash):
        program.acquire()
    program.die()
    later = world.program()
    later.acquire(OTHER, slug="second")
    world.clock.sleep(later_s)
    later.book.record(OTHER, e.Touched(cause="touch"))
    world.clock.set_wall(back_s)
    lost = world.lease(LEASE)
    facts: dict[str, tuple[str, e.LeaseEvent]] = {
        "replay": (
            LEASE,
            e.CreateSent(
                attempt=2,
                acquirer=f"acquirer of {LEASE}",
                credential_binding=lost.credential_binding,
                request_digest=lost.request.request_digest if lost.request else "",
                boot_id="boot-1",
                uptime_ms=world.clock.boot().uptime_ms,
                provider_date=None,
            ),
        ),
        "expiry": (
            OTHER,
            e.DeleteRequested(
                instance_id=world.claim(OTHER).instance_id or "", attempt=1, reason="expired", shown=True
            ),
        ),
    }

    with pytest.raises(RentrollError) as failure:
        later.book.record(*facts[fact])

    assert failure.value.exit_code == 11
    assert told in failure.value.message
    assert timedelta(0) < world.clock.now() - world.recorded_at("create-requested")


def test_a_claim_that_is_missing_is_told(program: Program) -> None:
    """The projection is not guessed at."""
    with pytest.raises(Conflict) as failure:
        program.book.claim(LEASE)

    assert failure.value.hint == "run `rentroll verify`"
