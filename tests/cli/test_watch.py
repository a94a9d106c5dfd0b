"""`watch` as a process: one for each ledger, ended in order by a signal, and its note that others read."""

import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.app import App, GlobalOptions
from ledger.domain.events import DeleteDeferred, DeleteRequested
from ledger.store.watch_file import watching
from providers.emulator.faults import Delay, Fault, Status
from providers.emulator.serve import Emulator
from tests.cli.running import HASH, TIME, Like, Rentroll, until
from tests.cli.watching import ended, expired, ledger, note, process_of, watch

NO_KEY = {"RENTROLL_FAL_KEY": None}
HOST = os.uname().nodename
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.holds("W-10", "PEER-21", "PEER-22")
def test_a_box_whose_time_is_over_is_deleted_and_the_note_says_when_the_watch_last_ran(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    leased = expired(rentroll)
    with watch() as process:
        until(lambda: rentroll("list", "-q").out == "")
        ran = ended(process)
    line = rf"\S+Z late: delete: completed \(expired at {leased['expires_at'][:19]}Z\)\n"
    assert ran[0] == 0
    assert ran[1] == Like(line)
    assert ran[2].splitlines()[0] == f"rentroll: watching {ledger()} every 0.2s"
    assert ran[2].splitlines()[-1] == "rentroll: the watch has ended"
    (view,) = [view for view in emulator.instances() if view.id == leased["instance_id"]]
    assert view.deleted_at is not None
    assert note() == {
        "pid": process.pid,
        "host": HOST,
        "started_at": TIME,
        "finished_at": TIME,
        "interval_seconds": 0.2,
        "scope": Like(r"endpoint:http://127\.0\.0\.1:\d+/v1"),
        "credential_binding": HASH,
    }
    assert Path(f"{ledger()}.watch").stat().st_mode & 0o777 == 0o600


@pytest.mark.holds("PEER-24")
def test_a_lease_ends_where_its_ledger_is_watched_whatever_became_of_the_machine_that_made_it(
    rentroll: Rentroll, emulator: Emulator, tmp_path: Path
) -> None:
    leased = expired(rentroll)
    elsewhere = {"RENTROLL_STATE_DIR": str(tmp_path / "elsewhere"), "RENTROLL_LEDGER_URL": f"sqlite:///{ledger()}"}
    ran = rentroll("watch", "--once", "--jsonl", env=elsewhere)
    assert (ran.code, [action["result"] for action in ran.json["actions"]]) == (0, ["completed"])
    (view,) = [view for view in emulator.instances() if view.id == leased["instance_id"]]
    assert view.deleted_at is not None


def test_a_second_watch_of_a_ledger_is_refused_and_told_who_holds_the_first(rentroll: Rentroll, box: Any) -> None:
    with watch() as process:
        ran = rentroll("watch", "--once", "--jsonl")
        assert (ran.code, ran.error) == (
            11,
            {
                "code": "conflict",
                "exit_code": 11,
                "message": f"this ledger is watched already, by pid {process.pid} on {HOST}",
                "hint": "one watch is enough; `rentroll doctor` says when it last ran",
            },
        )
        assert watching(ledger()) == f"pid {process.pid} on {HOST}"
        process.kill()
        process.wait()
    assert watching(ledger()) is None
    assert rentroll("watch", "--once").code == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_between_two_passes_ends_it_at_once(box: Any, number: signal.Signals) -> None:
    with watch(interval="1h") as process:
        assert ended(process, number)[0] == 0
    assert watching(ledger()) is None


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_during_a_pass_lets_it_finish_the_lease_at_hand(
    rentroll: Rentroll, emulator: Emulator, number: signal.Signals
) -> None:
    expired(rentroll)
    emulator.add_fault(Fault(call="delete", effects=(Delay(seconds=1.0),)))
    journal = len(emulator.journal())
    with process_of("watch", "--interval", "1h") as process:
        until(lambda: any(entry.call == "delete" for entry in emulator.journal()[journal:]))
        ran = ended(process, number)
    assert (ran[0], "late: delete: completed" in ran[1]) == (0, True)


def test_a_second_signal_ends_it_at_once(rentroll: Rentroll, emulator: Emulator) -> None:
    expired(rentroll)
    emulator.add_fault(Fault(call="delete", effects=(Delay(seconds=20.0),)))
    journal = len(emulator.journal())
    with process_of("watch", "--interval", "1h") as process:
        assert process.stderr is not None
        until(lambda: any(entry.call == "delete" for entry in emulator.journal()[journal:]))
        process.send_signal(signal.SIGTERM)
        while b"stopping" not in process.stderr.readline():
            pass
        assert ended(process)[0] == 143
    assert not Path(f"{ledger()}.watch").exists()
    assert watching(ledger()) is None


def test_as_json_every_pass_is_an_object_with_what_it_did(rentroll: Rentroll) -> None:
    leased = expired(rentroll)
    ran = rentroll("watch", "--once", "--jsonl")
    assert (ran.code, ran.json) == (
        0,
        {
            "schema": "rentroll.watch/1",
            "started_at": TIME,
            "finished_at": TIME,
            "actions": [
                {
                    "lease_id": leased["lease_id"],
                    "slug": "late",
                    "instance_id": leased["instance_id"],
                    "action": "delete",
                    "reason": f"expired at {leased['expires_at'][:19]}Z",
                    "result": "completed",
                }
            ],
            "tally": {"done": 1, "failed": 0, "kept": 0, "still_billable": 0, "elsewhere": 0},
        },
    )


@pytest.mark.holds("W-19")
def test_a_single_pass_says_so_in_its_note_and_ends_with_10_where_something_may_still_cost(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    expired(rentroll)
    emulator.add_fault(Fault(call="get", effects=(Status(status=403, error_type="authorization_error"),), count=None))
    ran = rentroll("watch", "--once", "--interval", "5m", "--jsonl")
    failed = ran.json["actions"][0]["error"]
    assert (ran.code, failed["code"], ran.json["tally"]["still_billable"]) == (10, "credentials", 1)
    assert (note()["once"], note()["interval_seconds"]) == (True, 300.0)
    assert note()["trouble"] == f"1 of its leases failed, the first with credentials: {failed['message']}"
    assert "failure" not in note()
    assert f"rentroll: late: credentials: {failed['message']}" in ran.err.splitlines()


def test_it_waits_for_the_date_that_fal_gave_and_a_cleanup_does_not(rentroll: Rentroll, emulator: Emulator) -> None:
    leased = expired(rentroll)
    app = App(GlobalOptions(ledger=None, config=None, verbosity=0, log_format="console", color=False))
    box, later = leased["instance_id"], app.now() + timedelta(hours=1)
    app.book.record(
        leased["lease_id"],
        DeleteRequested(instance_id=box, attempt=1, reason="expired", shown=True),
        DeleteDeferred(instance_id=box, attempt=1, cause="slow down", status=429, retry_at=later),
    )
    app.close()
    before = len(emulator.journal())
    ran = rentroll("watch", "--once", "--jsonl")
    assert (ran.code, ran.json["actions"], emulator.journal()[before:]) == (10, [], ())
    assert rentroll("cleanup").code == 0
    assert [entry.call for entry in emulator.journal()[before:]].count("delete") == 1


def test_a_ledger_that_is_not_there_yet_is_waited_for_and_not_made(rentroll: Rentroll) -> None:
    with watch() as process:
        until(lambda: "failure" not in note())
        assert not Path(ledger()).exists()
        rentroll("warmup", "--slug", "box")
        until(lambda: "scope" in note())
        ran = ended(process)
    assert ran[2].splitlines()[1:-2] == [
        f"rentroll: not-found: there is no ledger at {ledger()} yet",
        "rentroll:   hint: the first lease makes it",
        "rentroll: over: not-found",
        "",
    ]


def test_a_single_pass_without_a_ledger_has_nothing_to_do(rentroll: Rentroll) -> None:
    assert rentroll("watch", "--once").code == 0
    assert not Path(ledger()).exists()


def test_without_a_key_what_needs_none_is_done_and_the_rest_is_told_once(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    expired(rentroll)
    before = len(emulator.journal())
    environment = {k: v for k, v in os.environ.items() if k != "RENTROLL_FAL_KEY"}
    with watch(env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])}) as process:
        first = note()
        until(lambda: note()["started_at"] != first["started_at"])
        ran = ended(process)
    missing = "credentials: an API key is required from the environment"
    assert [line for line in ran[2].splitlines() if "credentials" in line] == [
        f"rentroll: {missing}",
        f"rentroll: late: {missing}",
    ]
    assert (ran[0], note()["failure"], len(emulator.journal())) == (0, missing, before)


def test_an_outage_is_told_once_and_its_end_too(rentroll: Rentroll, emulator: Emulator) -> None:
    expired(rentroll)
    emulator.add_fault(Fault(call="get", effects=(Status(status=401, error_type="authorization_error"),), count=2))
    with watch() as process:
        until(lambda: rentroll("list", "-q").out == "")
        until(lambda: "failure" not in note())
        told = ended(process)[2].splitlines()
    assert [line for line in told if "credentials" in line] == [
        Like("rentroll: late: credentials: .*"),
        "rentroll: late: over: credentials",
    ]


def test_it_goes_on_although_nobody_reads_what_it_tells(rentroll: Rentroll) -> None:
    expired(rentroll, "first")
    with watch() as process:
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        process.stdout = process.stderr = None
        expired(rentroll, "second")
        until(lambda: rentroll("list", "-q").out == "")
        assert ended(process)[0] == 0


def test_a_note_that_cannot_be_written_is_told_once_and_stops_nothing(rentroll: Rentroll, box: Any) -> None:
    Path(f"{ledger()}.watch").mkdir()
    with process_of("watch", "--interval", "0.05s", "--jsonl") as process:
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        ran = ended(process)
    assert (ran[0], ran[2].count("this pass could not be noted: is a directory")) == (0, 1)


@pytest.mark.parametrize("words", [("--interval", "0"), ("--interval", "soon"), ("--once", "--api-url", "ftp://x")])
def test_what_it_cannot_watch_with_is_refused_at_once(rentroll: Rentroll, words: tuple[str, ...]) -> None:
    assert rentroll("watch", *words).code == 2
    assert not Path(f"{ledger()}.watch").exists()


@pytest.mark.holds("PEER-25")
def test_a_new_box_is_told_who_ends_it(rentroll: Rentroll) -> None:
    with watch() as process:
        rentroll("warmup", "--slug", "first")
        until(lambda: "scope" in note())
        told = " ".join(rentroll("warmup", "--slug", "second").out.split())
        watched = rf"its time ends at \S+Z; watched: last pass \d+s ago, by pid {process.pid} on {HOST}"
        assert told == Like(rf"second is ready: .*\) {watched} rentroll stop second")
        told = rentroll("warmup", "--json").err.splitlines()[-1]
        assert told == Like(f"rentroll: {watched}")
