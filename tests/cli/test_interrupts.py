"""Ctrl-C and SIGTERM: the first gives back in order, the second leaves at once, and the ledger knows what is open."""

import json
import os
import signal
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from cli.commands import warmup
from cli.progress import Progress
from providers.emulator.faults import Delay, Fault, Status
from providers.emulator.serve import Emulator
from tests.cli.running import LIMIT_S, Rentroll, finish, spawn, until

CALL_S = 30.0
"""What a call to the provider may take: what a DELETE that waited for one would wait."""
HANGS = Fault(call="get", effects=(Delay(seconds=1_000.0),), count=None)


def calls(emulator: Emulator, since: int, *kinds: str) -> list[str]:
    """The requests of these kinds that fal saw after the first `since`, in order."""
    return [entry.call for entry in emulator.journal()[since:] if entry.call in kinds]


def facts(rentroll: Rentroll) -> list[Any]:
    """Every event of the ledger."""
    return [json.loads(line) for line in rentroll("events", "--jsonl").out.splitlines()]


def outcomes(rentroll: Rentroll) -> list[tuple[str, str | None]]:
    return [(c["phase"], c["outcome"]) for c in rentroll("list", "--all", "--json").json["leases"]]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_stop_signal_during_the_command_gives_the_box_back(
    rentroll: Rentroll, number: signal.Signals, code: int
) -> None:
    words = ["run", "--no-sync", "--slug", "job", "--", "sh", "-c", "echo up; exec sleep 60"]
    with spawn(words) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        ran = finish(process)
    assert (ran.code, outcomes(rentroll)) == (code, [("released", "completed")])
    assert "to finish by hand: rentroll stop job" in ran.err


def test_a_hangup_that_is_ignored_stays_ignored(rentroll: Rentroll) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    rentroll("warmup")
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.holds("RBK-17")
@pytest.mark.parametrize("words", [("run", "--no-sync", "--slug", "job", "--", "true"), ("warmup", "--slug", "job")])
def test_a_stop_signal_between_the_lease_and_its_use_gives_the_box_back(
    rentroll: Rentroll, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    leave = Progress.__exit__

    def interrupted(progress: Progress, *raised: Any) -> None:
        leave(progress, *raised)
        monkeypatch.setattr(Progress, "__exit__", leave)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Progress, "__exit__", interrupted)
    ran = rentroll(*words)
    assert (ran.code, ran.out, outcomes(rentroll)) == (143, "", [("released", "completed")])


@pytest.mark.holds("RBK-17")
def test_a_stop_signal_while_a_box_is_reported_gives_it_back(
    rentroll: Rentroll, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warmup, "_report", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    ran = rentroll("warmup", "--slug", "job", "--json")
    (shown,) = rentroll("list", "--all", "--json").json["leases"]
    assert (ran.code, shown["outcome"]) == (130, "completed")
    assert ran.error == {
        "code": "interrupted",
        "exit_code": 130,
        "message": "interrupted",
        "hint": f"the box {shown['instance_id']} was given back",
        "lease_id": shown["lease_id"],
    }


@pytest.mark.holds("HOLE-11")
def test_ctrl_c_reaches_the_remote_command_as_int(rentroll: Rentroll, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    script = f"trap 'echo INT > {proof}; exit 9' INT; echo up; while :; do sleep 0.05; done"
    with spawn(["run", "--no-sync", "--", "sh", "-c", script]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGINT)
        ran = finish(process)
    assert (ran.code, proof.read_text()) == (130, "INT\n")
    assert outcomes(rentroll) == [("released", "completed")]


def test_ctrl_c_on_a_named_lease_leaves_the_box(rentroll: Rentroll, box: Any) -> None:
    with spawn(["run", "--id", "box", "--no-sync", "--", "sh", "-c", "echo up; exec sleep 60"]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGINT)
        ran = finish(process)
    assert (ran.code, outcomes(rentroll)) == (130, [("ready", None)])


@pytest.mark.holds("RBK-15", "PEER-04")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_signal_while_the_box_boots_rolls_it_back(
    rentroll: Rentroll, emulator: Emulator, number: signal.Signals, code: int
) -> None:
    emulator.add_fault(Fault(call="get", effects=(Delay(seconds=1.0),)))
    before = len(emulator.journal())
    with spawn(["warmup", "--slug", "job"]) as process:
        until(lambda: any(entry.call == "get" for entry in emulator.journal()[before:]))
        process.send_signal(number)
        ran = finish(process)
    assert (ran.code, outcomes(rentroll)) == (code, [("released", "rolled-back")])
    assert "the box inst_" in ran.err.splitlines()[-1]
    assert [view for view in emulator.instances() if view.deleted_at is None] == []


@pytest.mark.holds("RBK-15", "PEER-04")
def test_a_provider_that_hangs_does_not_hold_up_the_delete_of_a_box_that_boots(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    """On SIGTERM the DELETE leaves within two seconds; no answer of fal was ever awaited in full."""
    emulator.add_fault(HANGS)
    before = len(emulator.journal())
    with spawn(["warmup", "--slug", "job"]) as process:
        until(lambda: calls(emulator, before, "get"))
        process.send_signal(signal.SIGTERM)
        asked_s = monotonic()
        until(lambda: calls(emulator, before, "delete"))
        waited_s = monotonic() - asked_s
        process.kill()
    assert waited_s < CALL_S / 3
    announced = [fact["payload"] for fact in facts(rentroll) if fact["type"] == "delete-requested"]
    assert [(fact["attempt"], fact["shown"]) for fact in announced] == [(1, False)]


@pytest.mark.holds("RBK-15", "HOLE-11")
def test_neither_a_command_that_will_not_end_nor_a_provider_that_hangs_holds_up_the_delete(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    script = "trap '' TERM HUP; echo up; while :; do sleep 0.05; done"
    with spawn(["run", "--no-sync", "--slug", "job", "--", "sh", "-c", script]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        before = len(emulator.journal())
        emulator.add_fault(Fault(call="get", effects=HANGS.effects))
        process.send_signal(signal.SIGTERM)
        asked_s = monotonic()
        until(lambda: calls(emulator, before, "delete"))
        waited_s = monotonic() - asked_s
        ran = finish(process)
    assert waited_s < CALL_S / 3
    assert (ran.code, outcomes(rentroll)) == (143, [("released", "completed")])
    assert calls(emulator, before, "get", "delete")[:2] == ["get", "delete"]


@pytest.mark.holds("REL-07")
@pytest.mark.parametrize(("words", "aims"), [(["--slug", "job"], 0), (["--id", "box", "--stop-after", "always"], 1)])
def test_only_a_box_that_the_run_leased_itself_is_deleted_unseen(
    rentroll: Rentroll, emulator: Emulator, words: list[str], aims: int
) -> None:
    """Another lease's is looked at again first; that nobody wants it is recorded meanwhile."""
    if aims:
        assert rentroll("warmup", "--slug", "box").code == 0
    with spawn(["run", "--no-sync", *words, "--", "sh", "-c", "echo up; exec sleep 60"]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        before = len(emulator.journal())
        emulator.add_fault(Fault(call="get", effects=(Status(500, error_type="server_error"),)))
        process.send_signal(signal.SIGTERM)
        ran = finish(process)
    assert (ran.code, outcomes(rentroll)) == (143, [("released", "completed")])
    assert calls(emulator, before, "get", "delete")[: aims + 2] == [*["get"] * (aims + 1), "delete"]
    assert [fact["type"] for fact in facts(rentroll)].count("stop-requested") == aims


def test_a_second_ctrl_c_leaves_at_once_and_the_ledger_verifies(rentroll: Rentroll, emulator: Emulator) -> None:
    with spawn(["run", "--no-sync", "--slug", "job", "--", "sh", "-c", "echo up; exec sleep 60"]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        before = len(emulator.journal())
        emulator.add_fault(Fault(call="get", effects=(Delay(seconds=LIMIT_S),)))
        process.send_signal(signal.SIGINT)
        until(lambda: any(entry.call == "get" for entry in emulator.journal()[before:]))
        process.send_signal(signal.SIGINT)
        ran = finish(process)
    assert (ran.code, "to finish by hand: rentroll stop job" in ran.err.splitlines()[-1]) == (130, True)
    assert rentroll("verify").code == 0
    assert rentroll("stop", "job").code == 0


def test_the_emulator_serves_until_it_is_terminated(rentroll: Rentroll) -> None:
    with spawn(["emulator", "serve", "--boot", "0.1s"]) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().decode() for _ in range(6)]
        assert all(line.startswith("export RENTROLL_") for line in lines)
        environment = dict(line.strip().removeprefix("export ").split("=", 1) for line in lines)
        url = environment["RENTROLL_FAL_API_URL"]
        key = environment["RENTROLL_FAL_KEY"]
        assert rentroll("doctor", env={"RENTROLL_FAL_API_URL": url, "RENTROLL_FAL_KEY": key}).code == 0
        process.send_signal(signal.SIGTERM)
        ran = finish(process)
    assert (ran.code, ran.err.splitlines()[-1]) == (0, "rentroll: stopped")


def test_stdin_is_not_waited_for_once_the_command_has_ended(box: Any) -> None:
    with spawn(["run", "--id", "box", "--no-sync", "--", "head", "-1"]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.read() == b"one\n"
        assert process.wait(LIMIT_S) == 0


@pytest.mark.holds("RBK-17", "HOLE-11")
def test_a_reader_that_goes_away_ends_the_run_and_gives_the_box_back(rentroll: Rentroll) -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reader, spawn(["run", "--no-sync", "--", "yes"], stdout=write) as process:
        os.close(write)
        assert reader.readline() == b"y\n"
        reader.close()
        ran = finish(process)
    assert (ran.code, outcomes(rentroll)) == (141, [("released", "completed")])
