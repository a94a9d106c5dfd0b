"""Runs that lost their client, on boxes that they leased: what the box tells of them before it goes."""

import signal
from datetime import timedelta
from pathlib import Path

import pytest

from cli import left_runs
from cli.app import App, GlobalOptions
from ledger.domain.errors import SshFailure
from providers.ssh.box import SshBox
from tests.cli.begun import WAITS, begun, ends_of, only, phase
from tests.cli.leftovers import killed_before
from tests.cli.running import LIMIT_S, Rentroll, finish, until


@pytest.mark.parametrize(("command", "boxes"), [("cleanup", []), ("recover", ["job"])])
def test_a_box_that_is_deleted_in_any_case_is_not_asked_for_its_runs(
    rentroll: Rentroll, monkeypatch: pytest.MonkeyPatch, command: str, boxes: list[str]
) -> None:
    """One whose time is over goes by `cleanup`; by `recover` only where its run has ended."""
    asked: list[str] = []
    monkeypatch.setattr(left_runs, "settle_runs", lambda _services, lease, **_: asked.append(lease.slug))
    killed_before("run-finished", "run", "--no-sync", "--slug", "job", "--", "true")
    now = App.now
    monkeypatch.setattr(App, "now", lambda app: now(app) + timedelta(hours=3))
    rentroll(command)
    assert asked == boxes


@pytest.mark.holds("HOLE-11")
def test_a_box_that_a_run_leased_stays_while_its_job_runs_and_goes_once_that_has_ended(
    rentroll: Rentroll, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with begun("run", "--no-sync", "--slug", "job", "--", "sh", "-c", WAITS.format(gate=gate)) as process:
        process.kill()
        process.wait(LIMIT_S)
    rentroll("recover")
    assert phase(rentroll) == [("job", "ready")]

    gate.touch()
    run_id = only(rentroll)["run_id"]
    until(lambda: rentroll("runs", "logs", run_id).out.endswith("done\n"))
    rentroll("recover")
    assert (phase(rentroll), ends_of(rentroll)) == ([("job", "released")], [(5, None, False)])


def test_what_a_run_wrote_after_its_client_died_is_fetched_before_its_box_goes(
    rentroll: Rentroll, tmp_path: Path
) -> None:
    """Of each stream what is kept of one: here the last 8 bytes."""
    gate, over = tmp_path / "gate", tmp_path / "over"
    script = f"echo up; while [ ! -e {gate} ]; do sleep 0.02; done; seq 100; echo wrong >&2; touch {over}"
    with begun("run", "--no-sync", "--slug", "job", "--", "sh", "-c", script) as process:
        process.kill()
        process.wait(LIMIT_S)
    gate.touch()
    until(over.exists)

    def released() -> bool:
        rentroll("recover", env={"RENTROLL_RUNS_LOG_BYTES": "8"})
        return phase(rentroll) == [("job", "released")]

    until(released)
    shown = rentroll("runs", "logs", "latest")
    assert (shown.code, shown.out, shown.err) == (0, "\n99\n100\n", "wrong\n")


def left(rentroll: Rentroll, folder: Path) -> None:
    """A run that leased its box, whose first line is kept here, whose client was killed, and which has ended."""
    gate, over = folder / "gate", folder / "over"
    script = f"echo up; while [ ! -e {gate} ]; do sleep 0.02; done; seq 100; touch {over}; exit 5"
    with begun("run", "--no-sync", "--slug", "job", "--", "sh", "-c", script) as process:
        until(lambda: rentroll("runs", "logs", "latest").out == "up\n")
        process.kill()
        process.wait(LIMIT_S)
    gate.touch()
    until(over.exists)


def recovered(rentroll: Rentroll, **env: str) -> str:
    """Runs `recover` until the box is gone; gives what the last one said."""
    told: list[str] = []

    def released() -> bool:
        told.append(rentroll("recover", env=env).err)
        return phase(rentroll) == [("job", "released")]

    until(released)
    return told[-1]


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (SshFailure("nobody answers", stage="tcp"), "nobody answers"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (TimeoutError("the job has not ended within 60 s"), "its box did not send it within 60 s"),
    ],
)
def test_a_log_whose_end_cannot_be_fetched_keeps_its_beginning_and_not_the_box(
    rentroll: Rentroll, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, why: str
) -> None:
    left(rentroll, tmp_path)

    def fails(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(SshBox, "attach", fails)
    said = recovered(rentroll)
    assert f"rentroll: job: the end of what {only(rentroll)['run_id']} wrote could not be fetched: {why}\n" in said
    assert (ends_of(rentroll), rentroll("runs", "logs", "latest").out) == ([(5, None, False)], "up\n")


def test_a_setting_that_is_none_keeps_no_box(rentroll: Rentroll, tmp_path: Path) -> None:
    left(rentroll, tmp_path)
    said = recovered(rentroll, RENTROLL_RUNS_LOG_BYTES="much")
    run_id = only(rentroll)["run_id"]
    assert f"the end of what {run_id} wrote could not be fetched: runs.log_bytes: not a number" in said
    assert ends_of(rentroll) == [(5, None, False)]


def test_a_run_that_somebody_follows_again_is_left_to_its_follower(rentroll: Rentroll, tmp_path: Path) -> None:
    gates, over = [tmp_path / "first", tmp_path / "second"], tmp_path / "over"
    waits = [f"while [ ! -e {gate} ]; do sleep 0.02; done" for gate in gates]
    script = f"echo up; {waits[0]}; echo up; {waits[1]}; touch {over}; exit 5"
    with begun("run", "--no-sync", "--slug", "job", "--", "sh", "-c", script) as process:
        until(lambda: rentroll("runs", "logs", "latest").out == "up\n")
        process.kill()
        process.wait(LIMIT_S)
    gates[0].touch()
    with begun("runs", "attach", "latest") as follower:
        follower.send_signal(signal.SIGSTOP)
        gates[1].touch()
        until(over.exists)
        rentroll("recover")
        assert (phase(rentroll), ends_of(rentroll)) == ([("job", "ready")], [])
        follower.send_signal(signal.SIGCONT)
        assert finish(follower).code == 5
    rentroll("recover")
    assert (phase(rentroll), ends_of(rentroll)) == ([("job", "released")], [(5, None, False)])


def test_a_pass_that_is_to_end_asks_no_box_any_more(rentroll: Rentroll, tmp_path: Path) -> None:
    left(rentroll, tmp_path)
    app = App(GlobalOptions(ledger=None, config=None, verbosity=0, log_format="console", color=False))
    with app.reader() as reader:
        claims = reader.claims()
    left_runs.settle_left_runs(app, claims, expires=False, is_ending=lambda: True)
    assert ends_of(rentroll) == []
    left_runs.settle_left_runs(app, claims, expires=False, is_ending=lambda: False)
    assert ends_of(rentroll) == [(5, None, False)]
