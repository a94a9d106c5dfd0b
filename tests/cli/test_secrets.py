"""The API key is in the environment, in one header, and nowhere else."""

import os
from pathlib import Path

from providers.emulator.faults import Fault, Status
from providers.emulator.serve import Emulator
from tests.cli.running import Ran, Rentroll, run_process, spawn

LEVELS = ((), ("-vv", "--log-format", "json"))


def test_after_a_whole_life_the_key_is_in_no_file_and_no_output(emulator: Emulator) -> None:
    told: list[Ran] = []
    for number, level in enumerate(LEVELS):
        slug = f"box-{number}"
        told += [
            run_process(*level, "warmup", "--slug", slug, "--json"),
            run_process(*level, "run", "--id", slug, "--no-sync", "--", "env"),
            run_process(*level, "ssh", slug, "--", "env"),
            run_process(*level, "list", "--refresh"),
            run_process(*level, "doctor"),
            run_process(*level, "config", "show", "--json"),
            run_process(*level, "stop", slug),
            run_process(*level, "events", "--jsonl"),
        ]
    assert [ran.code for ran in told] == [0] * len(told)
    secret = emulator.key.partition(":")[2]
    assert [ran for ran in told if secret in ran.out + ran.err] == []
    state = Path(os.environ["RENTROLL_STATE_DIR"])
    files = [file for file in state.rglob("*") if file.is_file()]
    assert files
    assert [file for file in files if secret.encode() in file.read_bytes()] == []
    assert [file for file in files if file.stat().st_mode & 0o077] == []


def test_logs_go_to_stderr_in_the_chosen_format(emulator: Emulator) -> None:
    ran = run_process("-vv", "--log-format", "json", "doctor", "--json")
    assert ran.json["ok"] is True
    assert all(line.startswith(("{", "rentroll: ")) for line in ran.err.splitlines())


def test_no_argument_of_a_process_holds_the_key(rentroll: Rentroll, emulator: Emulator) -> None:
    rentroll("warmup", "--slug", "box")
    with spawn(["ssh", "box", "--", "cat"]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"up\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"up\n"
        lines = [file.read_bytes() for file in Path("/proc").glob("[0-9]*/cmdline")]
        process.stdin.close()
        assert process.wait(20) == 0
    assert any(b"IdentitiesOnly" in line for line in lines)
    assert [line for line in lines if emulator.key.encode() in line] == []


def test_a_provider_that_repeats_the_key_in_an_error_does_not_get_it_shown(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    echoed = Status(status=422, error_type="validation_error", message=f"bad key {emulator.key}")
    emulator.add_fault(Fault(call="create", effects=(echoed,)))
    ran = rentroll("warmup", "--slug", "box", "--json")
    secret = emulator.key.partition(":")[2]
    assert (ran.code, secret in ran.out + ran.err) == (5, False)
    assert secret not in rentroll("events", "--jsonl").out


def test_a_key_that_json_would_escape_is_masked_too(rentroll: Rentroll) -> None:
    key = 'id"é:secret"é'
    ran = rentroll("status", key, "--json", env={"RENTROLL_FAL_KEY": key})
    assert (ran.code, "secret" in ran.out + ran.err) == (4, False)
    ran = rentroll("cleanup", "--dry-run", "--only", key, "--json", env={"RENTROLL_FAL_KEY": key})
    assert "secret" not in ran.json["actions"][0]["error"]["message"]


def test_a_key_typed_as_an_argument_is_not_repeated(rentroll: Rentroll, emulator: Emulator) -> None:
    ran = rentroll("status", emulator.key, "--json")
    assert (ran.code, emulator.key in ran.out + ran.err) == (4, False)
