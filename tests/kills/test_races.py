"""Two and eight programs at once on one ledger: one of them does it, and nothing is done twice."""

import os
import signal
import sys
from contextlib import ExitStack
from typing import Any

import pytest

from providers.emulator.serve import Emulator
from tests.cli.leftovers import killed_before
from tests.cli.running import Rentroll, finish
from tests.kills.door import Door
from tests.kills.left import GONE, MADE, WARMUP, Left, calls, facts, left, process_of, wait_for_fact

STANDING = """
import os, signal, sys
import cli.leasing, cli.recovering, ledger.flows.stop, providers.fal.client, providers.ssh.box
from cli.main import main
os.kill(os.getpid(), signal.SIGSTOP)
sys.exit(main())
"""
BOUND = ["create-requested", "create-sent", "instance-id-bound"]
DELETED = ["delete-requested", "delete-accepted", "deletion-confirmed", "released"]


def codes_of(count: int, *words: str) -> list[int]:
    """The exit codes, in order of size, of so many programs that were loaded before any of them began."""
    with ExitStack() as stack:
        program = (sys.executable, "-P", "-c", STANDING)
        processes = [stack.enter_context(process_of(*words, program=program)) for _ in range(count)]
        for process in processes:
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        for process in processes:
            process.send_signal(signal.SIGCONT)
        return sorted(finish(process).code for process in processes)


@pytest.mark.holds("LCK-15", "PEER-18", "PEER-45")
def test_of_eight_warmups_with_one_slug_one_gets_it_and_the_others_make_nothing(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    assert codes_of(8, *WARMUP) == [0] + [2] * 7
    assert left(emulator) == Left([*BOUND, "ready"], [MADE], 1)
    assert rentroll("verify").code == 0


@pytest.mark.holds("DEL-03")
def test_eight_stops_of_one_lease_send_one_delete_for_each_that_was_announced(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    codes = codes_of(8, "stop", "box")
    assert (set(codes) <= {0, 11}, codes[0]) == (True, 0)
    assert left(emulator) == Left([*BOUND, "ready", *DELETED], [MADE, GONE], 0)
    assert rentroll("verify").code == 0


def test_eight_recovers_of_one_leftover_take_it_over_once_and_have_one_effect(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    killed_before("ready", *WARMUP)
    assert codes_of(8, "recover") == [0] * 8
    assert left(emulator) == Left([*BOUND, "acquire-fenced", "rollback", *DELETED], [MADE, GONE], 0)
    assert rentroll("verify").code == 0


def test_two_cleanups_of_what_was_left_in_several_phases_finish_each_lease_once(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    """In the middle of its create, of its boot, of its deletion."""
    killed_before("instance-id-bound", "warmup", "--slug", "asked")
    killed_before("ready", "warmup", "--slug", "booted")
    killed_before("delete-accepted", "run", "--no-sync", "--slug", "ended", "--", "true")

    assert codes_of(2, "cleanup") == [0, 0]

    assert sorted(calls(emulator)) == [MADE] * 3 + [GONE] * 3
    told = facts()
    assert [told.count(kind) for kind in ("instance-id-bound", "delete-requested", "released")] == [3, 3, 3]
    assert (left(emulator).alive, rentroll("list", "-q").out, rentroll("verify").code) == (0, "", 0)


@pytest.mark.holds("W-42")
def test_a_stop_during_an_acquire_is_met_by_the_acquirer_and_both_end(emulator: Emulator, door: Door) -> None:
    with process_of(*WARMUP) as acquirer:
        with door.held("create") as post:
            post.arrived()
            with process_of("stop", "job") as stopper:
                wait_for_fact("stop-requested")
                post.open()
                stopped = finish(stopper)
        acquired = finish(acquirer)
    assert (acquired.code, stopped.code) == (11, 0)
    ended = ["create-requested", "create-sent", "stop-requested", "instance-id-bound", *DELETED]
    assert left(emulator) == Left(ended, [MADE, GONE], 0)


@pytest.mark.holds("CLN-12", "CLN-14")
def test_a_recover_during_a_create_touches_nothing_of_it(rentroll: Rentroll, emulator: Emulator, door: Door) -> None:
    with process_of(*WARMUP) as acquirer:
        with door.held("create") as post:
            post.arrived()
            ran = rentroll("recover", "--json")
            assert [shown["reason"] for shown in ran.json["actions"]] == ["somebody is working on it"]
        acquired = finish(acquirer)
    assert (ran.code, acquired.code) == (0, 0)
    assert left(emulator) == Left([*BOUND, "ready"], [MADE], 1)
