"""`recover`: what dead processes left is given back, whatever they left; what is alive, kept or foreign stays."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cli.app import App
from providers.emulator.faults import DropAfter, DropBefore, Fault, Hide, IgnoreDelete
from providers.emulator.serve import ACCOUNT, Emulator
from tests.cli.leftovers import (
    BOX,
    action,
    actions_object,
    ago,
    alive,
    booted,
    halted_before,
    in_doubt,
    killed_before,
    nothing,
)
from tests.cli.running import LEASE_ID, Like, Rentroll, spawn

WARMUP = ("warmup", "--slug", "job")
RUN = ("run", "--no-sync", "--slug", "job", "--", "true")
NO_KEY = {"RENTROLL_FAL_KEY": None}
GONE_RUN = "the run that leased it is gone"
DELETING = "its deletion is not finished (deleting)"


report = partial(actions_object, "recover")


@pytest.mark.holds("CLN-06", "CLN-07", "CLN-13", "CLN-17", "DEL-13", "W-03")
@pytest.mark.parametrize(
    ("kind", "words", "planned", "reason", "outcome"),
    [
        ("create-sent", WARMUP, "cancel", "nothing was sent", "cancelled"),
        ("instance-id-bound", WARMUP, "settle", "its create may have made a box", "rolled-back"),
        ("ready", WARMUP, "roll-back", "its acquirer is gone", "rolled-back"),
        ("run-started", RUN, "delete", GONE_RUN, "completed"),
        ("delete-requested", RUN, "delete", GONE_RUN, "completed"),
        ("delete-accepted", RUN, "delete", DELETING, "completed"),
        ("deletion-confirmed", RUN, "delete", DELETING, "completed"),
        ("released", RUN, "finish", "nothing of it exists", "completed"),
    ],
)
def test_what_a_killed_process_left_is_given_back(
    rentroll: Rentroll, emulator: Emulator, kind: str, words: tuple[str, ...], planned: str, reason: str, outcome: str
) -> None:
    """Killed in the instant before it appends that fact; the next `recover` finds nothing to do."""
    killed_before(kind, *words)
    booted(emulator)

    ran = rentroll("recover", "--json")

    known = BOX if planned != "cancel" else None
    done = action(instance_id=known, action=planned, reason=reason, result=outcome)
    assert (ran.code, ran.json) == (0, report(done, done=1))
    assert (alive(emulator), rentroll("list", "-q").out, rentroll("verify").code) == ([], "", 0)
    assert list((Path(os.environ["RENTROLL_STATE_DIR"]) / "keys").iterdir()) == []
    again = rentroll("recover", "--json")
    assert (again.code, again.json) == (0, report())


@pytest.mark.holds("CLN-12", "CLN-13")
def test_what_a_living_acquirer_works_on_is_left_alone_until_it_dies(rentroll: Rentroll, emulator: Emulator) -> None:
    with halted_before("ready", *WARMUP):
        lives = rentroll("recover", "--json")
        assert (lives.code, lives.json) == (0, report(nothing("somebody is working on it"), kept=1))
    dead = rentroll("recover", "--json")
    done = action(action="roll-back", reason="its acquirer is gone", result="rolled-back")
    assert (dead.code, dead.json, alive(emulator)) == (0, report(done, done=1), [])


def test_the_lease_of_a_run_lives_as_long_as_its_client(rentroll: Rentroll, emulator: Emulator) -> None:
    """Ready, and no command was started yet: that the client lives is all that there is."""
    with halted_before("run-started", *RUN):
        lives = rentroll("recover", "--json")
        assert (lives.code, lives.json) == (0, report(nothing("inside its time"), kept=1))
    dead = rentroll("recover", "--json")
    done = action(action="delete", reason=GONE_RUN, result="completed")
    assert (dead.code, dead.json, alive(emulator)) == (0, report(done, done=1), [])


def test_the_lease_of_another_hosts_run_lives_until_it_gives_no_sign_of_life_for_three_minutes(
    rentroll: Rentroll, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its locks cannot be seen from here. It is killed, and no command of it was started."""
    killed_before("run-started", *RUN)
    monkeypatch.setattr(App, "host", "another-host")

    lives = rentroll("recover", "--json")
    with ago(emulator, minutes=-3):
        silent = rentroll("recover", "--json")

    assert (lives.code, lives.json) == (0, report(nothing("inside its time"), kept=1))
    done = action(action="delete", reason=GONE_RUN, result="completed")
    assert (silent.code, silent.json, alive(emulator)) == (0, report(done, done=1), [])


@pytest.mark.holds("W-09")
def test_the_lease_of_a_killed_run_whose_command_still_runs_stays_until_idle_time_passes(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    limits = ("--slug", "job", "--idle-timeout", "1s")
    with spawn(["run", "--no-sync", *limits, "--", "sh", "-c", "echo up; exec sleep 60"]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.kill()
    with ago(emulator, hours=1):  # its idle time lies ahead then
        stays = rentroll("recover", "--json")
    assert (stays.code, stays.json) == (0, report(nothing("inside its time"), kept=1))
    with ago(emulator, seconds=-2):
        ended = rentroll("cleanup", "--json")
    assert (ended.code, [a["result"] for a in ended.json["actions"]], alive(emulator)) == (0, ["completed"], [])


@pytest.mark.holds("W-09")
@pytest.mark.parametrize("fact", ["run-started", "run-finished"])
def test_the_lease_of_a_killed_run_whose_command_does_not_run_goes_at_once(
    rentroll: Rentroll, emulator: Emulator, fact: str
) -> None:
    """Neither before it has begun nor after it has ended: the box says so."""
    killed_before(fact, "run", "--no-sync", "--slug", "job", "--", "true")
    ran = rentroll("recover", "--json")
    assert (ran.code, [a["result"] for a in ran.json["actions"]], alive(emulator)) == (0, ["completed"], [])


@pytest.mark.parametrize("flags", [("--stop-after", "success"), ("--keep-on-failure",)])
def test_a_lease_that_the_policy_of_its_run_keeps_ends_with_no_run_any_more(
    rentroll: Rentroll, emulator: Emulator, flags: tuple[str, ...]
) -> None:
    """And one that its run could never have given back is nobody's run from the start."""
    rentroll("run", "--no-sync", "--slug", "job", *flags, "--", "false")
    rentroll("run", "--no-sync", "--slug", "never", "--stop-after", "never", "--", "true")

    ran = rentroll("recover", "--json")

    assert (ran.code, sorted(a["reason"] for a in ran.json["actions"])) == (0, ["inside its time", "inside its time"])
    assert len(alive(emulator)) == 2
    moved = rentroll("events", "job", "--type", "claim-moved", "--jsonl").out.splitlines()
    assert [f"run {' '.join(flags)}" in line for line in moved] == [True]
    assert rentroll("events", "never", "--type", "claim-moved", "--jsonl").out == ""


def test_what_has_expired_is_left_to_cleanup_and_counts_as_left(rentroll: Rentroll, emulator: Emulator) -> None:
    with ago(emulator, hours=2):
        rentroll("warmup", "--slug", "job", "--ttl", "1h")

    ran = rentroll("recover", "--json")

    expired = nothing(Like(r"expired at \S+Z: `rentroll cleanup` deletes it"))
    assert (ran.code, ran.json) == (10, report(expired, still_billable=1))
    assert len(alive(emulator)) == 1


@pytest.mark.holds("CLN-01", "KEEP-06")
def test_kept_running_and_foreign_boxes_are_not_touched(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    rentroll("warmup", "--slug", "kept", "--keep", "--reason", "debugging")
    foreign = emulator.change(lambda state, now: state.add_instance(ACCOUNT, now))
    before = alive(emulator)

    ran = rentroll("recover", "--json")

    actions = {shown["slug"]: shown["reason"] for shown in ran.json["actions"]}
    assert (ran.code, actions, ran.json["tally"]["kept"]) == (0, {"box": "inside its time", "kept": "kept"}, 2)
    assert (alive(emulator), foreign in before) == (before, True)


@pytest.mark.holds("CLN-07", "CRE-14", "W-13")
def test_a_create_whose_answer_was_lost_is_found_by_its_key_and_a_foreign_box_is_not(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    in_doubt(rentroll, emulator, DropAfter())
    foreign = emulator.change(lambda state, now: state.add_instance(ACCOUNT, now))
    booted(emulator)
    posts = [entry.call for entry in emulator.journal()].count("create")

    ran = rentroll("recover", "--json")

    done = action(action="settle", reason="its create may have made a box", result="rolled-back")
    assert (ran.code, ran.json) == (0, report(done, done=1))
    assert (alive(emulator), [entry.call for entry in emulator.journal()].count("create")) == ([foreign], posts)


@pytest.mark.holds("CLN-09", "CRE-17", "W-01", "HOLE-07")
def test_a_create_that_made_nothing_is_left_with_10_until_five_looks_have_shown_it(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    in_doubt(rentroll, emulator, DropBefore(), minutes=60)
    for minutes in (50, 45, 40, 35):
        with ago(emulator, minutes=minutes):
            left = rentroll("recover", "--json")
        assert (left.code, left.json) == (
            10,
            report(
                action(
                    instance_id=None,
                    action="settle",
                    reason="its create may have made a box",
                    result="failed",
                    error={
                        "code": "in-doubt",
                        "exit_code": 75,
                        "message": "whether a box was made for lease job is not known yet, and the lease stays open",
                        "hint": Like(
                            "fal shows no instance that could be its box; five looks five minutes apart settle it, "
                            r"next at \d\d:\d\d:\d\dZ; `rentroll watch` goes on by itself"
                        ),
                        "next": "rentroll recover --only job",
                        "lease_id": LEASE_ID,
                    },
                ),
                failed=1,
                still_billable=1,
            ),
        )

    settled = rentroll("recover", "--json")

    done = action(instance_id=None, action="settle", reason="its create may have made a box", result="never-created")
    assert (settled.code, settled.json) == (0, report(done, done=1))


@pytest.mark.holds("W-06")
def test_a_released_box_that_is_back_is_opened_again_and_deleted(
    rentroll: Rentroll, box: Any, emulator: Emulator
) -> None:
    emulator.add_fault(Fault(call="delete", effects=(IgnoreDelete(),)))
    emulator.add_fault(Fault(call="get", effects=(Hide(),), skip=1, count=2))
    emulator.add_fault(Fault(call="list", effects=(Hide(),)))
    assert rentroll("stop", "box").code == 0
    assert alive(emulator) == [box["instance_id"]]

    ran = rentroll("recover", "--json")

    reason = "its deletion is not finished (rolling-back)"
    done = action(slug="box", instance_id=box["instance_id"], action="delete", reason=reason, result="completed")
    assert (ran.code, ran.json, alive(emulator)) == (0, report(done, done=1), [])
