"""`events`: the log as it is stored, narrowed, followed."""

import json
import signal
from typing import Any

import pytest

from tests.cli.running import ACTOR, HASH, TIME, Rentroll, spawn

LIFE = (
    "create-requested",
    "create-sent",
    "instance-id-bound",
    "ready",
    "delete-requested",
    "delete-accepted",
    "deletion-confirmed",
    "released",
)


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.holds("W-29", "HOLE-10")
def test_jsonl_is_one_envelope_a_line_counting_from_1_and_chained(rentroll: Rentroll, box: Any) -> None:
    rentroll("stop", "box")
    found = rows(rentroll("events", box["lease_id"], "--jsonl").out)
    assert [(row["position"], row["sequence"], row["type"]) for row in found] == [
        (number, number, name) for number, name in enumerate(LIFE, start=1)
    ]
    assert [row["prev_hash"] for row in found[1:]] == [row["hash"] for row in found[:-1]]
    assert found[1] == {
        "position": 2,
        "stream": box["lease_id"],
        "sequence": 2,
        "type": "create-sent",
        "version": 1,
        "recorded_at": TIME,
        "actor": ACTOR,
        "payload": found[1]["payload"],
        "prev_hash": HASH,
        "hash": HASH,
    }
    assert (found[1]["payload"]["attempt"], found[2]["payload"]["instance_id"]) == (1, box["instance_id"])


def test_a_lease_narrows_the_log_to_its_own_stream(rentroll: Rentroll, box: Any) -> None:
    rentroll("warmup", "--slug", "other")
    found = rows(rentroll("events", "other", "--jsonl").out)
    assert [(row["position"], row["sequence"]) for row in found] == [(5, 1), (6, 2), (7, 3), (8, 4)]
    assert len(rows(rentroll("events", "--jsonl").out)) == 8


def test_type_since_and_until_narrow_the_log(rentroll: Rentroll, box: Any) -> None:
    rentroll("touch", "box")
    everything = rows(rentroll("events", "--jsonl").out)
    chosen = rows(rentroll("events", "--type", "ready", "--type", "touched", "--jsonl").out)
    ready_at = everything[3]["recorded_at"]
    since = rows(rentroll("events", "--since", ready_at, "--jsonl").out)
    until = rows(rentroll("events", "--until", ready_at, "--jsonl").out)
    assert [row["type"] for row in chosen] == ["ready", "touched"]
    assert (since, until) == (everything[3:], everything[:3])


@pytest.mark.parametrize("words", [("--type", "nonsense"), ("--since", "nonsense"), ("--until", "2026-01-01")])
def test_what_is_no_type_and_no_time_is_refused(rentroll: Rentroll, words: tuple[str, str]) -> None:
    ran = rentroll("events", *words, "--jsonl")
    assert (ran.code, ran.error["code"]) == (2, "usage")


def test_an_unknown_lease_is_not_found_as_an_error_object(rentroll: Rentroll) -> None:
    ran = rentroll("events", "nobody", "--jsonl")
    assert (ran.code, ran.error) == (
        4,
        {
            "code": "not-found",
            "exit_code": 4,
            "message": "no lease 'nobody' in this ledger",
            "next": "rentroll list --all",
        },
    )


def test_in_words_each_event_is_one_line_of_at_most_80_columns(rentroll: Rentroll, box: Any) -> None:
    rentroll("run", "--id", "box", "--no-sync", "--", "sh", "-c", "echo\n" * 40)
    lines = rentroll("events").out.splitlines()
    assert [line.split()[2] for line in lines] == [*LIFE[:4], "run-started", "run-finished"]
    assert max(map(len, lines)) <= 80
    assert lines[2].split() == ["3", lines[2].split()[1], "instance-id-bound", "1", box["instance_id"]]


def test_follow_goes_on_as_events_are_appended_until_interrupted(rentroll: Rentroll, box: Any) -> None:
    with spawn(["events", "--follow", "--jsonl"]) as process:
        assert process.stdout is not None
        assert [json.loads(process.stdout.readline())["type"] for _ in range(4)] == list(LIFE[:4])
        rentroll("touch", "box")
        assert json.loads(process.stdout.readline())["type"] == "touched"
        process.send_signal(signal.SIGINT)
        assert (process.wait(10), process.stdout.read()) == (130, b"")
