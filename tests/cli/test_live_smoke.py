"""`live-smoke`: its guards, what it prints, and that no secret is in any of it. The flow itself: tests/flows."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from cli.commands.live_smoke import command
from cli.smoke_report import Target
from providers.emulator.faults import Delay, DropBefore, Fault, Status
from providers.emulator.serve import Emulator
from tests.cli.running import LEASE_ID, LIMIT_S, ROOT, Like, Number, Ran, Rentroll, finish, run_process, spawn, until

SMOKE = ("live-smoke", "--against-emulator")
LIVE = {"RENTROLL_LIVE": "1"}
FAL: dict[str, str | None] = {**LIVE, "RENTROLL_FAL_API_URL": None}
"""Allowed, and at fal's own URL: only for what ends before anything is called."""
SLUG = Like(r"live-smoke-\d{8}-\d{6}-[0-9a-f]{4}")
BOX = Like(r"inst_[0-9a-f]{16}")
STEPS = [
    ("account", "balance 100.00 USD"),
    ("inventory", "complete; instances of others: 0"),
    ("ledger", "no open lease"),
    ("armed", Like("whatever happens now, lease rl_.{26} is stopped, and no other")),
    ("warm-up", Like("live-smoke-.* is ready: box inst_.*")),
    ("command", Like("exactly 'live smoke of rl_.{26}'")),
    ("list", Like("exactly live-smoke-.*; of others 0 came and 0 went")),
    ("stop", "released as completed"),
    ("gone", Like("box inst_.* is not listed; of others 0 came and 0 went")),
    ("nothing left", "no open lease, no key folder"),
    ("cleanup", "nothing is left; tries: 1"),
]
NOTHING_DONE: dict[str, Any] = {
    "lease_id": None,
    "slug": None,
    "instance_id": None,
    "steps": [],
    "left": [],
    "next": None,
}


@pytest.fixture(autouse=True)
def off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine that tests allows; and should a guard fail here, nothing gets to fal."""
    monkeypatch.delenv("RENTROLL_LIVE", raising=False)
    for name in ("HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name.lower(), raising=False)
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")


def state() -> list[Path]:
    return sorted(Path(os.environ["RENTROLL_STATE_DIR"]).iterdir())


def billing(emulator: Emulator) -> list[str]:
    """The boxes that run."""
    return [box.id for box in emulator.instances() if box.deleted_at is None]


GUARDS: list[Any] = [
    pytest.param(SMOKE, {}, "not-enabled", None, id="it is not allowed"),
    pytest.param(SMOKE, {"RENTROLL_LIVE": "yes"}, "not-enabled", None, id="it is allowed in other words"),
    pytest.param(("live-smoke",), LIVE, "other-endpoint", None, id="the endpoint is not fal's own"),
    pytest.param(SMOKE, FAL, "no-emulator", None, id="the emulator's endpoint is fal's own"),
    pytest.param(
        (*SMOKE, "--api-url", "https://192.0.2.1/v1"), LIVE, "no-emulator", None, id="it is another machine's"
    ),
    pytest.param(("live-smoke",), {**FAL, "RENTROLL_FAL_KEY": None}, "key-missing", True, id="there is no key"),
    pytest.param(("live-smoke",), {**FAL, "RENTROLL_FAL_KEY": "  "}, "key-missing", True, id="the key is blank"),
    pytest.param(
        ("live-smoke",), {**FAL, "RENTROLL_RATES_GPU_1X_H100_SXM5": None}, "rate-missing", True, id="there is no rate"
    ),
    pytest.param(("live-smoke", "--type", "gpu_8x_h100_sxm5"), FAL, "max-cost", True, id="it costs more than is usual"),
    pytest.param((*SMOKE, "--max-cost", "0.99"), LIVE, "max-cost", False, id="it costs more than is allowed"),
]


@pytest.mark.holds("SMK-01")
@pytest.mark.parametrize(("words", "env", "reason", "is_live"), GUARDS)
def test_a_guard_ends_it_before_anything_is_made_or_called(
    rentroll: Rentroll,
    emulator: Emulator,
    words: tuple[str, ...],
    env: dict[str, str | None],
    reason: str,
    is_live: bool | None,
) -> None:
    before = len(emulator.journal())
    ran = rentroll(*words, "--json", env=env)
    blocked = {"classification": "environment_blocked", "beside": None, "reason": reason, "exit_code": 0}
    endpoint = ran.json["endpoint"]
    assert (ran.code, ran.json) == (0, ran.json | {"schema": "rentroll.live-smoke/1"} | blocked | NOTHING_DONE)
    assert (endpoint and endpoint["is_live"], ran.json["message"] is None) == (is_live, False)
    assert (len(emulator.journal()), state()) == (before, [])


@pytest.mark.holds("SMK-01")
def test_what_is_missing_is_said_in_words_before_the_classification(rentroll: Rentroll) -> None:
    assert rentroll("live-smoke") == (
        0,
        (
            "the live smoke costs money, and is off\n"
            "      hint: set RENTROLL_LIVE=1 to allow it\n"
            "classification: environment_blocked (not-enabled)\n"
        ),
        "",
    )


@pytest.mark.parametrize("words", [("--max-cost", "five"), ("--timeout", "soon"), ("--type", "gpu_2x")])
def test_bad_arguments_are_usage_errors(rentroll: Rentroll, words: tuple[str, ...]) -> None:
    ran = rentroll(*SMOKE, *words, "--json", env=LIVE)
    assert (ran.code, ran.error["code"], state()) == (2, "usage", [])


@pytest.mark.holds("SMK-03")
def test_a_whole_smoke_passes_and_says_that_it_was_not_fal(rentroll: Rentroll, emulator: Emulator) -> None:
    ran = rentroll(*SMOKE, "--json", env=LIVE)
    assert (ran.code, ran.json) == (
        0,
        {
            "schema": "rentroll.live-smoke/1",
            "classification": "passed",
            "beside": None,
            "reason": "passed",
            "message": None,
            "hint": None,
            "exit_code": 0,
            "endpoint": {"api_url": emulator.url, "is_live": False},
            "lease_id": LEASE_ID,
            "slug": SLUG,
            "instance_id": BOX,
            "steps": [{"name": name, "ok": True, "seconds": Number(), "detail": detail} for name, detail in STEPS],
            "left": [],
            "next": None,
            "cost": {
                "rate_per_hour": "3.00",
                "worst_case": "1.00",
                "accrued": Like(r"0\.\d\d"),
                "currency": "USD",
                "max_cost": "5",
            },
        },
    )
    (lease,) = rentroll("list", "--all", "--json").json["leases"]
    assert {name: lease[name] for name in ("phase", "outcome", "ttl_seconds", "idle_timeout_seconds", "keep")} == {
        "phase": "released",
        "outcome": "completed",
        "ttl_seconds": 1200,
        "idle_timeout_seconds": 300,
        "keep": None,
    }
    assert billing(emulator) == []


@pytest.mark.holds("SMK-03")
def test_in_words_each_step_is_told_and_the_last_line_is_the_classification(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    ran = rentroll(*SMOKE, env=LIVE)
    lines = ran.out.splitlines()
    told = [line for line in lines if line.startswith("ok    ")]
    assert [line[6:20].strip() for line in told] == [name for name, _ in STEPS]
    assert lines[-2:] == [
        Like(r"cost: \$0\.\d\d, at most \$1\.00"),
        f"classification: passed, against {emulator.url}, which is not fal",
    ]
    assert max(map(len, lines[:-1])) <= 80
    assert ran.err.splitlines()[0] == (
        "rentroll: nobody watches this ledger: should this process die, the box bills until somebody types "
        "`rentroll cleanup`"
    )


def test_the_client_is_made_for_the_endpoint_that_the_guards_judged(
    rentroll: Rentroll, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Target(scope="endpoint:https://other.test/v1", is_live=False)
    monkeypatch.setattr("cli.commands.live_smoke._target", lambda _app, **_flags: other)
    before = len(emulator.journal())
    ran = rentroll(*SMOKE, "--json", env=LIVE)
    assert (ran.json["classification"], ran.json["reason"]) == ("environment_blocked", "other-endpoint")
    assert len(emulator.journal()) == before


def test_two_smokes_in_one_second_have_two_names(rentroll: Rentroll) -> None:
    first, second = (rentroll(*SMOKE, "--json", env=LIVE).json["slug"] for _ in range(2))
    assert first != second


ECHOES: list[Any] = [
    pytest.param("list", 400, "validation_failed", id="the inventory"),
    pytest.param("billing", 400, "validation_failed", id="the account"),
    pytest.param("create", 402, "billing_blocked", id="the create"),
    pytest.param("list", 401, "environment_blocked", id="the refusal of the key"),
]


@pytest.mark.holds("SMK-02", "SMK-03")
@pytest.mark.parametrize("shown", [(), ("--json",)], ids=["in words", "as JSON"])
@pytest.mark.parametrize(("call", "status", "classification"), ECHOES)
def test_fals_words_are_shown_without_the_key_that_they_repeat(
    emulator: Emulator, call: Any, status: int, classification: str, shown: tuple[str, ...]
) -> None:
    half = emulator.key.partition(":")[2]
    message = f"denied: {emulator.key} / {half}, see https://fal.test/?token={half}"
    emulator.add_fault(Fault(call=call, effects=(Status(status=status, error_type="refused", message=message),)))
    ran = run_process("-vv", *SMOKE, *shown, env={**os.environ, **LIVE, "PYTHONPATH": str(ROOT)})
    _require_told(ran, classification)
    assert (half in ran.out + ran.err, emulator.key in ran.out + ran.err) == (False, False)
    written = [file for file in Path(os.environ["RENTROLL_STATE_DIR"]).rglob("*") if file.is_file()]
    assert [file for file in written if half.encode() in file.read_bytes()] == []


def _require_told(ran: Ran, classification: str) -> None:
    assert "denied: [redacted] / [redacted], see https://fal.test/?token=[redacted]" in " ".join(ran.out.split())
    assert classification in ran.out


@pytest.mark.holds("SMK-03")
def test_the_secret_half_of_a_key_that_somebody_took_for_a_name_is_not_repeated(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    half = emulator.key.partition(":")[2]
    rentroll("warmup", "--slug", half)
    for shown in ((), ("--json",)):
        ran = rentroll(*SMOKE, *shown, env=LIVE)
        assert ("open leases: [redacted]" in " ".join(ran.out.split()), half in ran.out + ran.err) == (True, False)


@pytest.mark.holds("SMK-03")
def test_a_token_in_another_endpoints_url_is_not_repeated(rentroll: Rentroll) -> None:
    url = "https://user:sesame-1@elsewhere.example/v1?token=sesame-2#sesame-3"
    for words in (("live-smoke",), SMOKE):
        ran = rentroll(*words, "--json", env={**LIVE, "RENTROLL_FAL_API_URL": url})
        assert (ran.code in (0, 2), "sesame" in ran.out + ran.err) == (True, False)


@pytest.mark.holds("SMK-10")
def test_a_create_in_doubt_names_the_watch_and_no_setting_makes_that_sooner(
    rentroll: Rentroll, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("ledger.flows.smoke.PAUSE_S", "ledger.flows.smoke_cleanup.PAUSE_S"):
        monkeypatch.setattr(pause, 0.001)
    emulator.add_fault(Fault(call="create", effects=(DropBefore(),), count=None))
    flags = ("--timeout", "1s", "--api-url", emulator.url)
    ran = rentroll(*SMOKE, *flags, "--json", env=FAL)
    told = {name: ran.json[name] for name in ("classification", "beside", "reason", "exit_code", "next")}
    assert (ran.code, told) == (
        75,
        {
            "classification": "cleanup_failed",
            "beside": "validation_failed",
            "reason": "in-doubt",
            "exit_code": 75,
            "next": f"rentroll watch --api-url {emulator.url}",
        },
    )
    assert ran.json["left"][0] == {
        "kind": "in-doubt",
        "told": f"whether a box was made for lease {ran.json['slug']} is not known",
    }
    assert ran.json["steps"][-1]["detail"].endswith("; tries: 65")
    assert rentroll("status", ran.json["lease_id"], "--json").json["phase"] == "in-doubt"
    # Nothing in the command's flags or settings shortens the proof.
    assert sorted(parameter.name or "" for parameter in command.params) == [
        *("against_emulator", "api_url", "as_json", "instance_type", "max_cost", "timeout"),
    ]


def test_in_words_what_is_left_comes_with_what_to_type(
    rentroll: Rentroll, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("ledger.flows.smoke.PAUSE_S", "ledger.flows.smoke_cleanup.PAUSE_S"):
        monkeypatch.setattr(pause, 0.001)
    emulator.add_fault(Fault(call="create", effects=(DropBefore(),), count=None))
    ran = rentroll(*SMOKE, "--timeout", "1s", env=LIVE)
    lines = ran.out.splitlines()
    assert "next: rentroll watch" in lines
    assert lines[-1] == (
        f"classification: cleanup_failed beside validation_failed (in-doubt), against {emulator.url}, which is not fal"
    )
    assert "left: whether a box was made for lease live-smoke-" in ran.out


def test_an_open_lease_of_the_ledger_is_left_alone(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    ran = rentroll(*SMOKE, "--json", env=LIVE)
    assert (ran.code, ran.json["reason"], ran.json["lease_id"]) == (1, "open-leases", None)
    assert billing(emulator) == [box["instance_id"]]


def test_a_ledger_that_cannot_be_opened_fails_it_with_that_code(rentroll: Rentroll, tmp_path: Path) -> None:
    (tmp_path / "state" / "ledger.db").write_bytes(b"this is no ledger")
    ran = rentroll(*SMOKE, "--json", env=LIVE)
    told = (ran.json["classification"], ran.json["reason"], ran.json["exit_code"], ran.json["lease_id"])
    assert (ran.code, told) == (2, ("validation_failed", "usage", 2, None))


def test_a_command_that_does_not_end_fails_it_and_the_box_goes(
    rentroll: Rentroll, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.commands.live_smoke.COMMAND_S", 0.2)
    monkeypatch.setattr("ledger.flows.smoke.COMMAND", ("sleep", f"{LIMIT_S}"))
    ran = rentroll(*SMOKE, "--json", env=LIVE)
    assert (ran.code, ran.json["reason"], ran.json["message"]) == (7, "ssh", "the command did not end within 0.2 s")
    assert billing(emulator) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_signal_gives_the_box_back_and_the_result_is_still_told(
    emulator: Emulator, number: signal.Signals, code: int
) -> None:
    emulator.add_fault(Fault(call="get", effects=(Delay(seconds=1.0),)))
    before = len(emulator.journal())
    environment = {**os.environ, **LIVE, "PYTHONPATH": str(ROOT)}
    with spawn([*SMOKE, "--json"], env=environment) as process:
        until(lambda: any(entry.call == "get" for entry in emulator.journal()[before:]))
        process.send_signal(number)
        ran = finish(process)
    told = (ran.json["classification"], ran.json["reason"], ran.json["exit_code"], ran.json["left"])
    assert (ran.code, told) == (code, ("validation_failed", "interrupted", code, []))
    assert billing(emulator) == []
    assert "to finish by hand: rentroll stop live-smoke-" in ran.err
