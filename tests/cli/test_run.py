"""`run`: the remote command as it is, its streams, its code, and what becomes of the box."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cli.one_run import OneRun
from ledger.domain.errors import Conflict
from ledger.flows.book import Book
from providers.emulator.faults import Fault, IgnoreDelete, Status
from providers.emulator.serve import Emulator
from tests.cli.leftovers import halted_before
from tests.cli.running import LEASE_ID, RUN_ID, Like, Number, Rentroll, lease_object

RUN = ("run", "--no-sync")


def on(box: Any) -> tuple[str, ...]:
    return (*RUN, "--id", box["lease_id"])


def phases(rentroll: Rentroll) -> list[tuple[str, str | None]]:
    return [(c["phase"], c["outcome"]) for c in rentroll("list", "--all", "--json").json["leases"]]


@pytest.mark.holds("REL-14", "PEER-29")
def test_a_run_leases_runs_and_gives_back_with_the_commands_own_code(rentroll: Rentroll) -> None:
    ran = rentroll(*RUN, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ran.code, ran.out) == (7, "out\n")
    assert "err\n" in ran.err.splitlines(keepends=True)
    assert phases(rentroll) == [("released", "completed")]


def test_on_a_named_lease_the_streams_stay_apart_and_the_lease_stays(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll(*on(box), "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert ran == (3, "out\n", "err\n")
    assert phases(rentroll) == [("ready", None)]


@pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("TERM", 15)])
def test_a_command_that_a_signal_ended_gives_128_and_its_number(
    rentroll: Rentroll, box: Any, name: str, number: int
) -> None:
    assert rentroll(*on(box), "--", "sh", "-c", f"kill -{name} $$").code == 128 + number


def test_argv_arrives_verbatim(rentroll: Rentroll, box: Any) -> None:
    words = ("a b", "", "it's", '"', "line\nbreak", "$HOME", "*", "-n", "--", "\\", "é", "; exit 9")
    ran = rentroll(*on(box), "--", "sh", "-c", 'for a; do printf "<%s>" "$a"; done', "sh", *words)
    assert (ran.code, ran.out) == (0, "".join(f"<{word}>" for word in words))


def test_stdin_reaches_the_command_with_its_end(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll(*on(box), "--", "sh", "-c", "cat; echo end", stdin=b"one\ntwo")
    assert (ran.code, ran.out) == (0, "one\ntwoend\n")


def test_the_command_runs_in_the_leases_own_folder_and_sees_its_ids(rentroll: Rentroll, box: Any) -> None:
    script = 'echo "${PWD#$HOME}"; echo "$RENTROLL_LEASE_ID $RENTROLL_RUN_ID $RENTROLL_INSTANCE_ID"'
    folder, ids = rentroll(*on(box), "--", "sh", "-c", script).out.splitlines()
    assert folder == f"/rentroll/{box['lease_id']}"
    assert ids == Like(rf"{box['lease_id']} run_[0-9a-z]{{26}} {box['instance_id']}")


def test_json_puts_both_remote_streams_on_stderr(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll(*on(box), "--json", "--", "sh", "-c", "echo out; echo err >&2; exit 4")
    assert (ran.code, sorted(ran.err.split())) == (4, ["err", "out"])
    assert ran.json == {
        "schema": "rentroll.run/1",
        "lease": lease_object(lease_id=box["lease_id"], sequence=6, position=6),
        "run": {
            "run_id": RUN_ID,
            "exit_code": 4,
            "signal": None,
            "duration_seconds": Number(),
            "phases": {"lease_seconds": Number(), "ssh_seconds": Number(), "command_seconds": Number()},
        },
    }


def test_json_of_a_signalled_command_names_the_signal(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll(*on(box), "--json", "--", "sh", "-c", "kill -TERM $$")
    assert (ran.code, ran.json["run"]["exit_code"], ran.json["run"]["signal"]) == (143, 143, "TERM")


def test_timing_json_is_written_also_when_the_command_fails(rentroll: Rentroll, tmp_path: Path) -> None:
    file = tmp_path / "timing.json"
    rentroll(*RUN, "--timing-json", str(file), "--", "false")
    assert json.loads(file.read_text()) == {
        "schema": "rentroll.timing/1",
        "run_id": RUN_ID,
        "lease_seconds": Number(),
        "boot_seconds": Number(),
        "ssh_seconds": Number(),
        "command_seconds": Number(),
        "release_seconds": Number(),
    }


def test_a_timing_file_that_cannot_be_written_is_a_warning(rentroll: Rentroll, box: Any, tmp_path: Path) -> None:
    """One that became so while the command ran."""
    path = tmp_path / "timing.json"
    ran = rentroll(*on(box), "--timing-json", str(path), "--", "mkdir", str(path))
    assert (ran.code, ran.err) == (0, f"rentroll: the timing could not be written to {path}: Is a directory\n")


@pytest.mark.holds("REL-14")
@pytest.mark.parametrize(
    ("policy", "command", "stays"),
    [
        ("success", "true", False),
        ("success", "false", True),
        ("failure", "true", True),
        ("failure", "false", False),
        ("always", "false", False),
        ("never", "true", True),
    ],
)
def test_stop_after_says_when_the_box_goes(rentroll: Rentroll, policy: str, command: str, stays: bool) -> None:
    ran = rentroll(*RUN, "--slug", "job", "--stop-after", policy, "--", command)
    assert ran.code == int(command == "false")
    assert phases(rentroll) == ([("ready", None)] if stays else [("released", "completed")])
    assert ("`rentroll stop job` ends it" in ran.err) is stays


@pytest.mark.holds("REL-14", "PEER-29")
@pytest.mark.parametrize(("command", "stays"), [("true", False), ("false", True)])
def test_keep_on_failure_keeps_the_box_of_a_failed_command_only(rentroll: Rentroll, command: str, stays: bool) -> None:
    rentroll(*RUN, "--keep-on-failure", "--", command)
    assert phases(rentroll) == ([("ready", None)] if stays else [("released", "completed")])


@pytest.mark.holds("REL-14")
def test_keep_keeps_the_box(rentroll: Rentroll) -> None:
    assert rentroll(*RUN, "--keep", "--reason", "to look at it", "--", "true").code == 0
    assert phases(rentroll) == [("ready", None)]


def test_a_named_lease_is_given_back_when_a_policy_says_so(rentroll: Rentroll, box: Any) -> None:
    rentroll(*on(box), "--stop-after", "always", "--", "true")
    assert phases(rentroll) == [("released", "completed")]


@pytest.mark.holds("PEER-18", "PEER-45")
def test_slug_and_reuse_use_the_open_lease_of_that_name_or_make_one(rentroll: Rentroll) -> None:
    reuse = (*RUN, "--slug", "job", "--reuse", "--stop-after", "never", "--", "sh", "-c", "echo $RENTROLL_LEASE_ID")
    first = rentroll(*reuse).out
    assert first == Like(rf"{LEASE_ID.pattern}\n")
    assert rentroll(*reuse).out == first


def test_a_slug_in_use_without_reuse_is_125_and_names_its_lease(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll(*RUN, "--slug", "box", "--json", "--", "true")
    assert (ran.code, ran.error["code"], ran.error["lease_id"]) == (125, "usage", box["lease_id"])


def test_without_id_the_only_open_lease_of_the_repository_is_used_and_stays(
    rentroll: Rentroll, repository: Path, box: Any
) -> None:
    ran = rentroll(*RUN, "--", "sh", "-c", "echo $RENTROLL_LEASE_ID")
    assert (ran.code, ran.out) == (0, f"{box['lease_id']}\n")
    assert ran.err == "rentroll: on lease box, the only one of this repository; it stays\n"


@pytest.mark.parametrize(
    ("policy", "afterwards"),
    [
        ("never", "it stays"),
        ("always", "it is given back afterwards"),
        ("success", "it is given back if the command succeeds"),
        ("failure", "it is given back if the command fails"),
    ],
)
def test_what_becomes_of_the_only_open_lease_is_told_first(
    rentroll: Rentroll, repository: Path, box: Any, policy: str, afterwards: str
) -> None:
    ran = rentroll(*RUN, "--stop-after", policy, "--", "true")
    assert ran.err.splitlines()[0] == f"rentroll: on lease box, the only one of this repository; {afterwards}"


def test_the_only_open_lease_of_the_repository_that_is_not_ready_is_refused_and_no_second_box_made(
    rentroll: Rentroll, repository: Path, box: Any, emulator: Emulator
) -> None:
    emulator.add_fault(Fault(call="delete", effects=(IgnoreDelete(),), count=None))
    rentroll("stop", "box", "--timeout", "0.1")
    ran = rentroll(*RUN, "--json", "--", "true")
    assert (ran.code, ran.error) == (
        125,
        {
            "code": "not-found",
            "exit_code": 4,
            "message": "lease box: it is deleting, not ready",
            "hint": "it is this repository's only open lease; to lease another box say --slug NAME",
            "next": "rentroll status box",
            "lease_id": box["lease_id"],
        },
    )
    assert phases(rentroll) == [("deleting", None)]


def test_a_flag_that_asks_for_a_lease_gets_a_new_one(rentroll: Rentroll, repository: Path, box: Any) -> None:
    ran = rentroll(*RUN, "--ttl", "10m", "--", "sh", "-c", "echo $RENTROLL_LEASE_ID")
    assert ran.out != f"{box['lease_id']}\n"
    assert phases(rentroll) == [("released", "completed"), ("ready", None)]


def test_the_lease_that_another_run_made_for_itself_is_not_used(rentroll: Rentroll, repository: Path) -> None:
    with halted_before("run-started", *RUN, "--slug", "theirs", "--", "true"):
        ours = rentroll(*RUN, "--", "sh", "-c", "echo $RENTROLL_LEASE_ID").out
    assert ours != f"{rentroll('status', 'theirs', '--json').json['lease_id']}\n"


def test_a_lease_that_stayed_when_its_run_had_ended_is_used_like_any_other(
    rentroll: Rentroll, repository: Path
) -> None:
    first = rentroll(*RUN, "--keep-on-failure", "--", "sh", "-c", "echo $RENTROLL_LEASE_ID; exit 1").out
    assert rentroll(*RUN, "--", "sh", "-c", "echo $RENTROLL_LEASE_ID").out == first


@pytest.mark.parametrize(
    ("flags", "purpose"),
    [
        ((), "run"),
        (("--keep-on-failure",), "run"),
        (("--stop-after", "failure"), "run"),
        (("--keep", "--reason", "x", "--stop-after", "always"), "run"),
        (("--keep", "--reason", "x"), "warmup"),
        (("--stop-after", "never"), "warmup"),
    ],
    ids=" ".join,
)
def test_a_lease_is_for_a_run_only_where_the_run_may_give_it_back(
    rentroll: Rentroll, flags: tuple[str, ...], purpose: str
) -> None:
    rentroll(*RUN, *flags, "--", "true")
    (event,) = rentroll("events", "--type", "create-requested", "--jsonl").out.splitlines()
    assert json.loads(event)["payload"]["purpose"] == purpose


@pytest.mark.parametrize(
    ("flags", "command", "reason"),
    [
        (("--keep-on-failure",), "false", "run --keep-on-failure"),
        (("--stop-after", "success"), "false", "run --stop-after success"),
        (("--stop-after", "failure"), "true", "run --stop-after failure"),
    ],
)
def test_a_lease_that_stays_by_its_policy_is_moved_to_the_person_with_the_reason(
    rentroll: Rentroll, repository: Path, flags: tuple[str, ...], command: str, reason: str
) -> None:
    rentroll(*RUN, *flags, "--", command)
    rows = [json.loads(line) for line in rentroll("events", "--jsonl").out.splitlines()]
    assert (rows[-1]["type"], rows[-1]["payload"]) == (
        "claim-moved",
        {"host": rows[0]["payload"]["host"], "reason": reason, "repository": rows[0]["payload"]["repository"]},
    )


def test_a_run_gives_its_client_lock_back(rentroll: Rentroll) -> None:
    rentroll(*RUN, "--", "true")
    (lock,) = (Path(os.environ["RENTROLL_STATE_DIR"]) / "ledger.db.locks").glob("*.client.lock")
    assert lock.read_text() == ""


def test_id_with_a_flag_for_a_new_lease_is_refused(rentroll: Rentroll, box: Any) -> None:
    ran = rentroll(*on(box), "--type", "gpu_8x_h100_sxm5", "--json", "--", "true")
    assert (ran.code, ran.error["message"]) == (125, "--type goes with a new lease, not with --id")


def test_our_own_failure_is_125_with_its_class_in_the_last_line(rentroll: Rentroll, emulator: Emulator) -> None:
    emulator.add_fault(Fault(call="create", effects=(Status(status=401, error_type="authorization_error"),)))
    ran = rentroll(*RUN, "--", "true")
    assert ran.code == 125
    assert ran.err.splitlines()[-1].startswith("rentroll: credentials: ")


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--bogus"),
        ("run", "--no-sync"),
        ("run", "--", "true"),
        ("run", "--no-sync", "--stop-after", "sometimes", "--", "true"),
        ("run", "--no-sync", "--reuse", "--", "true"),
        ("--bogus", "run", "--no-sync", "--", "true"),
    ],
)
def test_usage_errors_of_run_are_125_too(rentroll: Rentroll, words: tuple[str, ...]) -> None:
    at = words.index("--") if "--" in words else len(words)
    ran = rentroll(*words[:at], "--json", *words[at:])
    assert (ran.code, ran.error["code"], ran.error["exit_code"]) == (125, "usage", 2)
    assert ran.err.splitlines()[-1] == f"rentroll: usage: {ran.error['message']}"


@pytest.mark.holds("REL-14")
def test_a_remote_0_whose_release_fails_is_125_and_names_the_stop_command(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    emulator.add_fault(
        Fault(call="delete", effects=(Status(status=401, error_type="authorization_error"),), count=None)
    )
    ran = rentroll(*RUN, "--slug", "job", "--json", "--", "true")
    assert (ran.code, ran.error["code"], ran.error["next"]) == (125, "credentials", "rentroll stop job")


@pytest.mark.holds("REL-14")
def test_a_remote_0_whose_ledger_cannot_be_read_any_more_is_125_and_names_the_stop_command(
    rentroll: Rentroll, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object) -> None:
        raise Conflict("the ledger is locked")

    def ends(one: OneRun) -> None:
        monkeypatch.setattr(Book, "load", locked)

    monkeypatch.setattr(OneRun, "_download", ends)
    ran = rentroll(*RUN, "--slug", "job", "--json", "--", "true")
    assert (ran.code, ran.error["code"], ran.error["next"]) == (125, "conflict", "rentroll stop job")
    assert "job was not given back (conflict): the ledger is locked" in ran.err


@pytest.mark.holds("REL-14")
def test_a_remote_failure_whose_release_fails_keeps_the_remote_code(rentroll: Rentroll, emulator: Emulator) -> None:
    emulator.add_fault(
        Fault(call="delete", effects=(Status(status=401, error_type="authorization_error"),), count=None)
    )
    ran = rentroll(*RUN, "--slug", "job", "--", "sh", "-c", "exit 9")
    assert ran.code == 9
    assert "job was not given back (credentials)" in ran.err


@pytest.mark.holds("LST-09")
def test_a_run_on_a_lease_that_is_not_ready_is_125_not_found(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    emulator.add_fault(Fault(call="delete", effects=(IgnoreDelete(),), count=None))
    rentroll("stop", "box", "--timeout", "0.1")
    ran = rentroll(*on(box), "--json", "--", "true")
    assert (ran.code, ran.error["code"], ran.error["exit_code"]) == (125, "not-found", 4)


@pytest.mark.holds("TCH-06", "W-29")
def test_every_run_is_in_the_ledger_with_its_command_and_its_end(rentroll: Rentroll, box: Any) -> None:
    rentroll(*on(box), "--", "sh", "-c", "printf four; exit 2")
    lines = rentroll("events", "box", "--jsonl").out.splitlines()[4:]
    started, finished = (json.loads(line)["payload"] for line in lines)
    assert started["command"] == ["sh", "-c", "printf four; exit 2"]
    assert (finished["run_id"], finished["exit_code"], finished["stdout_bytes"]) == (started["run_id"], 2, 4)


def test_nothing_of_a_run_is_left_on_this_machine(rentroll: Rentroll) -> None:
    rentroll(*RUN, "--", "true")
    assert list((Path(os.environ["RENTROLL_STATE_DIR"]) / "keys").iterdir()) == []


def test_no_tty_is_accepted(rentroll: Rentroll, box: Any) -> None:
    assert rentroll(*on(box), "--no-tty", "--", "sh", "-c", "test -t 1 || echo none").out == "none\n"
