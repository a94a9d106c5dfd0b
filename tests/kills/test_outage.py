"""fal goes away in the middle of a pass and comes back: nothing is lost, and everything ends."""

import pytest

from providers.emulator.serve import Emulator
from tests.cli.leftovers import killed_before
from tests.cli.running import finish
from tests.kills.door import Door
from tests.kills.left import GONE, MADE, WARMUP, Left, left, process_of, wait_for_fact

BEGUN = ["create-requested", "create-sent", "instance-id-bound", "acquire-fenced", "rollback"]
PUT_OFF = ["delete-requested", "delete-deferred"]
DELETED = ["delete-requested", "delete-accepted", "deletion-confirmed", "released"]
DONE_ONCE = [MADE, GONE]


@pytest.mark.holds("PEER-30", "PEER-31", "PEER-32")
def test_a_recover_whose_delete_is_cut_off_announces_and_sends_another_where_fal_comes_back(
    emulator: Emulator, door: Door
) -> None:
    killed_before("ready", *WARMUP)
    with process_of("recover") as process:
        with door.held("delete") as delete:
            delete.arrived()
            emulator.go_away()
            wait_for_fact("delete-deferred")
        emulator.come_back()
        ran = finish(process)
    assert (ran.code, left(emulator)) == (0, Left([*BEGUN, *PUT_OFF, *DELETED], DONE_ONCE, 0))


@pytest.mark.holds("W-10", "PEER-30")
def test_a_watch_whose_look_is_cut_off_deletes_nothing_unseen_and_goes_on_where_fal_comes_back(
    emulator: Emulator, door: Door
) -> None:
    killed_before("ready", *WARMUP)
    with process_of("watch", "--interval", "0.2s") as process:
        with door.held("get") as get:
            get.arrived()
            emulator.go_away()
            assert left(emulator) == Left(BEGUN, [MADE], 1)
        emulator.come_back()
        wait_for_fact("released")
        process.terminate()
        ran = finish(process)
    assert (ran.code, left(emulator)) == (0, Left([*BEGUN, *DELETED], DONE_ONCE, 0))


@pytest.mark.holds("PEER-30")
def test_a_watch_outlives_an_outage_that_lasts_over_several_passes(emulator: Emulator) -> None:
    killed_before("instance-id-bound", *WARMUP)
    emulator.go_away()
    with process_of("watch", "--interval", "0.2s", "--jsonl") as process:
        assert process.stdout is not None
        passes = [process.stdout.readline() for _ in range(2)]
        emulator.come_back()
        wait_for_fact("released")
        process.terminate()
        ran = finish(process)
    assert [b'"in-doubt"' in told or b'"provider"' in told for told in passes] == [True, True]
    assert (ran.code, left(emulator).calls, left(emulator).alive) == (0, DONE_ONCE, 0)
