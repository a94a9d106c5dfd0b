"""kill -9 of real programs at moments of fal's journal: the next `recover` finishes what they left behind."""

from typing import Any

import pytest

from providers.emulator.faults import Delay, DropBefore, Fault, Rewrite
from providers.emulator.serve import Emulator
from tests.cli.leftovers import ago, alive, booted, killed_before
from tests.cli.running import Ran, Rentroll
from tests.kills.door import Door
from tests.kills.left import (
    GONE,
    MADE,
    WARMUP,
    Answered,
    Left,
    calls,
    kill,
    left,
    process_of,
    wait_for_call,
    wait_for_line,
)

RUN = ("run", "--no-sync", "--slug", "job", "--", "sh", "-c", "echo up; exec sleep 60")
SENT = ["create-requested", "create-sent"]
BOUND = [*SENT, "instance-id-bound"]
READY = [*BOUND, "ready"]
PROVEN = ["acquire-fenced", "candidate-tried", "instance-id-bound"]
ROLLED_BACK = ["acquire-fenced", "rollback"]
DELETED = ["delete-requested", "delete-accepted", "deletion-confirmed", "released"]
LOST: Answered = ("delete", None)


def told(ran: Ran) -> tuple[int, list[tuple[str, str]]]:
    """The exit code of a pass, and of each lease what was to be done and what came of it."""
    return ran.code, [(shown["action"], shown["result"]) for shown in ran.json["actions"]]


@pytest.mark.holds("CLN-07", "W-13", "PEER-06", "PEER-41")
def test_killed_before_fal_acts_on_its_create_the_box_is_waited_for_and_found_by_its_key(
    rentroll: Rentroll, emulator: Emulator, door: Door
) -> None:
    """The POST has arrived; fal makes the box after the program's death, and after a first `recover`."""
    with door.held("create") as post:
        with process_of(*WARMUP) as process:
            post.arrived()
            kill(process)
        assert told(rentroll("recover", "--json")) == (10, [("settle", "failed")])
        assert left(emulator) == Left([*SENT, "acquire-fenced"], [], 0)
    wait_for_call(emulator, MADE)
    booted(emulator)

    ran = rentroll("recover", "--json")

    assert told(ran) == (0, [("settle", "rolled-back")])
    assert left(emulator) == Left([*SENT, *PROVEN, *DELETED], [MADE, GONE], 0)


@pytest.mark.holds("CLN-07", "W-01", "HOLE-07")
@pytest.mark.parametrize("hours_later", [0, 1], ids=["inside the window", "past the window"])
def test_killed_before_fals_answer_arrives_its_box_is_found_by_its_key_and_no_create_is_sent_again(
    rentroll: Rentroll, emulator: Emulator, hours_later: int
) -> None:
    """A foreign box that is there by then is not touched."""
    emulator.add_fault(Fault(call="create", effects=(Delay(seconds=3600.0),)))
    with process_of(*WARMUP) as process:
        wait_for_call(emulator, MADE)
        kill(process)
    assert left(emulator) == Left(SENT, [MADE], 1)
    foreign = emulator.change(lambda state, now: state.add_instance("emulated-team", now))
    booted(emulator)

    with ago(emulator, hours=-hours_later):
        ran = rentroll("recover", "--json")

    assert told(ran) == (0, [("settle", "rolled-back")])
    facts, sent, _ = left(emulator)
    tried = facts.count("candidate-tried")
    assert 1 <= tried <= 2
    assert (facts[:3], facts[3 + tried :]) == ([*SENT, "acquire-fenced"], ["instance-id-bound", *DELETED])
    assert (sent, alive(emulator)) == ([MADE, GONE], [foreign])


@pytest.mark.holds("CLN-09", "CRE-17")
def test_killed_with_a_create_that_never_reached_fal_five_looks_past_the_window_end_it(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    emulator.add_fault(Fault(call="create", effects=(DropBefore(),)))
    killed_before("create-in-doubt", *WARMUP)
    assert left(emulator) == Left(SENT, [("create", None)], 0)

    passes = []
    for minutes in (10, 15, 20, 25, 30):
        with ago(emulator, minutes=-minutes):
            passes.append(told(rentroll("recover", "--json")))

    assert passes == [(10, [("settle", "failed")])] * 4 + [(0, [("settle", "never-created")])]
    assert left(emulator) == Left([*SENT, "acquire-fenced", "released"], [("create", None)], 0)


@pytest.mark.holds("CLN-13")
def test_killed_while_its_box_boots_the_box_is_rolled_back(rentroll: Rentroll, emulator: Emulator, door: Door) -> None:
    with door.held("get") as get, process_of(*WARMUP) as process:
        get.arrived()
        lives = rentroll("recover", "--json")
        kill(process)
    assert told(lives) == (0, [("none", "nothing to do")])
    assert left(emulator) == Left(BOUND, [MADE], 1)

    ran = rentroll("recover", "--json")

    assert told(ran) == (0, [("roll-back", "rolled-back")])
    assert left(emulator) == Left([*BOUND, *ROLLED_BACK, *DELETED], [MADE, GONE], 0)


def test_killed_while_it_waits_for_ssh_the_box_is_rolled_back(
    rentroll: Rentroll, emulator: Emulator, door: Door
) -> None:
    with process_of(*WARMUP) as process:
        with door.held("get") as get:
            get.arrived()
            (box,) = alive(emulator)
            emulator.change(lambda state, _now: state.set_ssh_policy(box, "no-key"))
        wait_for_line(process, "ssh authentication")
        kill(process)
    assert left(emulator) == Left(BOUND, [MADE], 1)

    ran = rentroll("recover", "--json")

    assert told(ran) == (0, [("roll-back", "rolled-back")])
    assert left(emulator) == Left([*BOUND, *ROLLED_BACK, *DELETED], [MADE, GONE], 0)


def test_killed_while_its_roll_backs_delete_is_on_its_way_no_second_one_is_sent(
    rentroll: Rentroll, emulator: Emulator, door: Door
) -> None:
    """fal acts on it after the program's death."""
    emulator.add_fault(Fault(call="create", effects=(Rewrite(put={"instance_type": "gpu_8x_h100_sxm5"}),)))
    with door.held("delete") as delete, process_of(*WARMUP) as process:
        delete.arrived()
        kill(process)
    wait_for_call(emulator, GONE)
    assert left(emulator) == Left([*BOUND, "rollback", "delete-requested"], [MADE, GONE], 0)

    ran = rentroll("recover", "--json")

    assert told(ran) == (0, [("delete", "rolled-back")])
    ended = [*BOUND, "rollback", "delete-requested", "deletion-confirmed", "released"]
    assert left(emulator) == Left(ended, [MADE, GONE], 0)


def test_killed_with_a_delete_that_never_reached_fal_another_one_is_announced_and_sent(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    emulator.add_fault(Fault(call="delete", effects=(DropBefore(),)))
    killed_before("delete-deferred", "stop", "box")
    assert left(emulator) == Left([*READY, "delete-requested"], [MADE, LOST], 1)

    ran = rentroll("recover", "--json")

    assert told(ran) == (0, [("delete", "completed")])
    assert left(emulator) == Left([*READY, "delete-requested", *DELETED], [MADE, LOST, GONE], 0)


def test_a_stop_killed_between_its_delete_and_the_confirmation_is_confirmed_without_another_delete(
    rentroll: Rentroll, box: Any, emulator: Emulator, door: Door
) -> None:
    with door.held("get", skip=1) as get, process_of("stop", "box") as process:
        get.arrived()
        kill(process)
    assert left(emulator) == Left([*READY, "delete-requested", "delete-accepted"], [MADE, GONE], 0)

    ran = rentroll("recover", "--json")

    assert told(ran) == (0, [("delete", "completed")])
    assert left(emulator) == Left([*READY, *DELETED], [MADE, GONE], 0)


@pytest.mark.holds("HOLE-03", "W-09")
def test_a_run_killed_while_its_command_runs_keeps_its_box_until_idle_time_is_over(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    with process_of(*RUN) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        kill(process)
    assert told(rentroll("cleanup", "--json")) == (0, [("none", "nothing to do")])
    assert left(emulator) == Left([*READY, "run-started"], [MADE], 1)

    with ago(emulator, hours=-1):
        ran = rentroll("cleanup", "--json")

    assert told(ran) == (0, [("delete", "completed")])
    assert left(emulator) == Left([*READY, "run-started", *DELETED], [MADE, GONE], 0)


def test_a_recover_killed_while_its_delete_is_on_its_way_is_finished_by_the_next(
    rentroll: Rentroll, emulator: Emulator, door: Door
) -> None:
    killed_before("ready", *WARMUP)
    with door.held("delete") as delete, process_of("recover") as process:
        delete.arrived()
        kill(process)
    wait_for_call(emulator, GONE)

    ran = rentroll("recover", "--json")

    assert told(ran) == (0, [("delete", "rolled-back")])
    ended = [*BOUND, *ROLLED_BACK, "delete-requested", "deletion-confirmed", "released"]
    assert left(emulator) == Left(ended, [MADE, GONE], 0)


@pytest.mark.holds("PEER-43")
def test_a_watch_killed_during_a_pass_leaves_no_lock_and_the_next_one_finishes(
    rentroll: Rentroll, emulator: Emulator, door: Door
) -> None:
    killed_before("ready", *WARMUP)
    with door.held("delete") as delete, process_of("watch") as process:
        delete.arrived()
        assert rentroll("watch", "--once").code == 11
        kill(process)
    wait_for_call(emulator, GONE)

    assert rentroll("watch", "--once").code == 0

    assert (left(emulator).facts[-2:], calls(emulator)) == (["deletion-confirmed", "released"], [MADE, GONE])
    assert rentroll("verify").code == 0
