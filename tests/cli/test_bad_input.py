"""Bad input: a one-line error with a hint, the right code, nothing lost, no traceback."""

import os
import resource
from pathlib import Path
from typing import Any

import pytest

from providers.emulator.serve import Emulator
from tests.cli.running import Like, Ran, Rentroll, run_process


def refused(ran: Ran, code: int, message: str) -> None:
    """One line of what happened under its class, one of what to do, nothing on stdout."""
    first, second = ran.err.splitlines()
    assert (ran.code, ran.out, first) == (code, "", message)
    assert second.startswith(("  hint: ", "  next: "))


@pytest.mark.holds("REL-12", "W-26")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("warmup", "--type", "gpu_2x"), "fal.instance_type: unknown instance type 'gpu_2x' (from the command line)"),
        (
            ("warmup", "--sector", "sector_1"),
            "--sector is only valid with the 8x type, not gpu_1x_h100_sxm5",
        ),
        (("warmup", "--type", "gpu_8x_h100_sxm5", "--sector", "sector_9"), "unknown sector 'sector_9'"),
        (("warmup", "--ttl", "5x"), "ttl: not a duration: '5x' (from the command line)"),
        (("warmup", "--max-cost", "5"), "--max-cost is not built yet"),
        (("warmup", "--slug", "!!"), "not a usable slug: '!!'"),
        (("warmup", "--keep"), "--keep needs --reason"),
        (("warmup", "--bogus"), "No such option '--bogus'."),
        (("stop", "--timeout", "soon"), "not a duration: 'soon'"),
        (("stop",), "name a lease: this repository has no open lease of its own"),
        (("bogus",), "No such command 'bogus'."),
        (("status",), "Missing argument 'LEASE'."),
        (("reconcile",), "`rentroll reconcile` is not built yet"),
        (("emulator", "serve", "--port", "http"), "Invalid value for '--port': 'http' is not a valid integer range."),
    ],
)
def test_a_bad_argument_is_2(rentroll: Rentroll, words: tuple[str, ...], message: str, emulator: Emulator) -> None:
    before = len(emulator.journal())
    ran = rentroll(*words)
    refused(ran._replace(err=ran.err.replace(" Did you mean '--user'?", "")), 2, f"rentroll: usage: {message}")
    assert len(emulator.journal()) == before


@pytest.mark.parametrize("rate", ["3usd", "$3", "-1", "1e3", "1,5", "nan"])
def test_a_malformed_rate_is_refused_naming_its_variable(rentroll: Rentroll, rate: str) -> None:
    for words in (("warmup",), ("types",), ("config", "show")):
        refused(
            rentroll(*words, env={"RENTROLL_RATES_GPU_1X_H100_SXM5": rate}),
            2,
            f"rentroll: usage: rates.gpu_1x_h100_sxm5: not an amount of money: {rate!r}"
            " (from RENTROLL_RATES_GPU_1X_H100_SXM5)",
        )


@pytest.mark.holds("LCK-06", "PEER-18")
def test_a_slug_in_use_names_its_lease_and_makes_nothing(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    before = len(emulator.instances())
    ran = rentroll("warmup", "--slug", "BOX", "--json")
    assert (ran.code, ran.error) == (
        2,
        {
            "code": "usage",
            "exit_code": 2,
            "message": Like(f"the slug box is held by lease {box['lease_id']}.*"),
            "hint": "choose another slug, or give that lease back first",
            "next": "rentroll status box",
            "lease_id": box["lease_id"],
        },
    )
    assert len(emulator.instances()) == before
    keys = Path(os.environ["RENTROLL_STATE_DIR"]) / "keys"
    assert [folder.name for folder in keys.iterdir()] == [box["lease_id"]]


@pytest.mark.holds("REL-12", "TCH-04")
@pytest.mark.parametrize(
    "words",
    [("status", "nobody"), ("touch", "nobody"), ("stop", "nobody"), ("events", "nobody"), ("ssh", "nobody")],
)
def test_an_unknown_lease_is_4(rentroll: Rentroll, words: tuple[str, ...]) -> None:
    refused(rentroll(*words), 4, "rentroll: not-found: no lease 'nobody' in this ledger")


@pytest.mark.holds("DOC-01")
def test_a_missing_key_is_3_and_makes_nothing(rentroll: Rentroll) -> None:
    ran = rentroll("warmup", env={"RENTROLL_FAL_KEY": " "})
    refused(ran, 3, "rentroll: credentials: an API key is required from the environment")
    assert rentroll("list", "--all", "-q").out == ""


@pytest.mark.parametrize("words", [("list",), ("warmup",), ("status", "x"), ("verify",), ("touch", "x")])
def test_a_ledger_that_is_a_folder_cannot_be_opened(rentroll: Rentroll, words: tuple[str, ...], tmp_path: Path) -> None:
    ran = rentroll(*words, env={"RENTROLL_LEDGER_URL": f"sqlite:///{tmp_path}"})
    refused(ran, 2, f"rentroll: usage: the ledger {tmp_path} cannot be opened")


@pytest.mark.parametrize("words", [("list",), ("warmup",), ("status", "x"), ("verify",), ("touch", "x")])
def test_a_ledger_that_is_no_database_is_left_as_it_is(
    rentroll: Rentroll, words: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("Dear ledger, " * 200)
    ran = rentroll("--ledger", f"sqlite:///{file}", *words)
    refused(ran, 2, f"rentroll: usage: {file} is not a ledger of rentroll")
    assert file.read_text() == "Dear ledger, " * 200


@pytest.mark.holds("LCK-03")
def test_a_state_folder_below_a_file_makes_nothing(rentroll: Rentroll, tmp_path: Path, emulator: Emulator) -> None:
    (tmp_path / "file").touch()
    before = [entry.call for entry in emulator.journal()]
    ran = rentroll("warmup", env={"RENTROLL_STATE_DIR": f"{tmp_path}/file/state"})
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 2)
    assert "create" not in [entry.call for entry in emulator.journal()][len(before) :]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://u:secret@host/db", "a postgresql ledger is not served yet"),
        ("mysql://u:secret@host/db", "not a ledger: 'mysql://host/db'"),
        ("sqlite:///", "not a ledger: 'sqlite:///'"),
        ("ledger.db", "not a ledger: 'ledger.db'"),
    ],
)
def test_a_ledger_url_that_is_not_served_is_refused_without_its_password(
    rentroll: Rentroll, url: str, message: str
) -> None:
    refused(rentroll("--ledger", url, "list"), 2, f"rentroll: usage: {message}")


@pytest.mark.holds("LCK-12")
def test_a_relative_state_folder_is_refused(rentroll: Rentroll) -> None:
    ran = rentroll("list", env={"RENTROLL_STATE_DIR": "state"})
    refused(ran, 2, "rentroll: usage: RENTROLL_STATE_DIR must be an absolute path")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tttl = 5\n", "unknown setting 'tttl'"),
        ("[fal]\nusr = 'x'\n", "unknown setting 'fal.usr'"),
        ("[fal]\nuser = true\n", "fal.user must be text or a number"),
        ("[fal.user]\nname = 'x'\n", "fal.user must be text or a number"),
        ("[rates]\ngpu_3x = 1\n", None),
        ("ttl = \n", None),
        ("\x00", None),
    ],
)
def test_a_settings_file_that_is_wrong_is_named(
    rentroll: Rentroll, repository: Path, text: str, message: str | None
) -> None:
    file = repository / "rentroll.toml"
    file.write_text(text)
    ran = rentroll("config", "show")
    first, *_ = ran.err.splitlines()
    assert (ran.code, ran.out, str(file) in first, len(ran.err.splitlines())) == (2, "", True, 2)
    if message is not None:
        assert first == f"rentroll: usage: {file}: {message}"


def test_a_settings_file_that_is_not_there_is_named(rentroll: Rentroll) -> None:
    refused(
        rentroll("--config", "/nonexistent.toml", "list"),
        2,
        "rentroll: usage: cannot read /nonexistent.toml: No such file or directory",
    )


@pytest.mark.holds("CRE-04")
def test_a_full_disk_loses_nothing_and_makes_no_box(rentroll: Rentroll, box: Any, emulator: Emulator) -> None:
    ledger = Path(os.environ["RENTROLL_STATE_DIR"]) / "ledger.db"
    limit = ledger.stat().st_size // 3
    before = len(emulator.instances())
    ran = run_process("warmup", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert (ran.code, "Traceback" in ran.err, len(emulator.instances())) == (2, False, before)
    assert [c["slug"] for c in rentroll("list", "--json").json["leases"]] == ["box"]
    assert rentroll("verify").code == 0


def test_a_full_disk_at_the_first_lease_makes_nothing(emulator: Emulator) -> None:
    before = len(emulator.instances())
    ran = run_process("warmup", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)))
    assert (ran.code, len(ran.err.splitlines()), len(emulator.instances())) == (2, 2, before)


def test_a_state_folder_below_a_file_is_not_an_empty_ledger(rentroll: Rentroll, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert rentroll("list", env={"RENTROLL_STATE_DIR": f"{tmp_path}/file/state"}).code == 2


def test_a_full_disk_below_stdout_is_an_error_of_one_line(rentroll: Rentroll, box: Any) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = run_process("events", "--jsonl", stdout=full)
    first, second = ran.err.splitlines()
    assert (ran.code, first) == (
        2,
        "rentroll: usage: what this command had to write could not be written: no space left on device",
    )
    assert second.startswith("  hint: ")


def test_a_reader_that_went_away_is_no_error(box: Any) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as gone:
        ran = run_process("events", "--jsonl", stdout=gone)
    assert (ran.code, ran.err) == (141, "")


def test_a_port_that_is_taken_is_a_usage_error_of_the_emulator(rentroll: Rentroll, emulator: Emulator) -> None:
    ran = rentroll("emulator", "serve", "--port", str(emulator.http_port))
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 2)
    assert ran.err.startswith("rentroll: usage: the emulator cannot serve: ")


def test_with_json_a_usage_error_is_an_error_object_too(rentroll: Rentroll) -> None:
    ran = rentroll("status", "--json")
    assert (ran.code, ran.error) == (
        2,
        {
            "code": "usage",
            "exit_code": 2,
            "message": "Missing argument 'LEASE'.",
            "hint": "`rentroll status --help` shows how",
        },
    )


def test_a_bug_is_1_with_one_line_and_its_traceback_only_under_v(
    rentroll: Rentroll, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("two\nlines")

    monkeypatch.setattr("cli.commands.providers.registry.capabilities", broken)
    ran = rentroll("providers", "--json")
    assert (ran.code, ran.error["code"], ran.error["exit_code"], ran.error["message"]) == (
        1,
        "internal",
        1,
        "ValueError: two lines",
    )
    assert "Traceback" not in ran.err
    for verbose in ("-v", "-vvv", "--verbose"):
        assert "Traceback" in rentroll(verbose, "providers").err
