"""--help, --version, completion, the demo, and the generated reference."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli.app import ASK_THE_PROVIDER
from cli.commands import COMMANDS, LATER
from cli.commands.demo import STORY
from cli.main import VERSION
from cli.reference import reference
from tests.cli.running import PROGRAM, ROOT, Rentroll, run_process

NOT_BUILT = (
    ("warmup", "--max-cost", "5"),
    ("run", "--no-sync", "--max-cost", "5", "--", "true"),
)


def test_version(rentroll: Rentroll) -> None:
    assert rentroll("--version") == (0, f"rentroll {VERSION}\n", "")
    assert f'version = "{VERSION}"' in (ROOT / "pyproject.toml").read_text()


def test_help_names_every_command_and_nothing_that_is_not_built(rentroll: Rentroll) -> None:
    out = rentroll("--help").out
    section = out.partition("Commands:\n")[2]
    assert [line.split()[0] for line in section.splitlines()] == list(COMMANDS)
    assert "not built" not in out.lower()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_fits_80_columns_without_key_or_network(rentroll: Rentroll, name: str) -> None:
    ran = rentroll(name, "--help", env={"RENTROLL_FAL_KEY": None, "RENTROLL_FAL_USER": " "})
    assert (ran.code, ran.err) == (0, "")
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "not built" not in ran.out.lower()


def test_a_recommended_command_is_given_the_endpoint_exactly_where_it_takes_it(rentroll: Rentroll) -> None:
    assert [name for name in sorted(COMMANDS) if "--api-url" in rentroll(name, "--help").out] == [*ASK_THE_PROVIDER]


@pytest.mark.parametrize("words", NOT_BUILT)
def test_a_flag_that_is_not_built_yet_is_refused_and_not_shown(rentroll: Rentroll, words: tuple[str, ...]) -> None:
    ran = rentroll(*words)
    assert ran.code == (125 if words[0] == "run" else 2)
    assert "not built yet" in ran.err


@pytest.mark.parametrize("name", LATER)
def test_a_command_that_is_not_built_yet_is_refused(rentroll: Rentroll, name: str) -> None:
    ran = rentroll(name)
    assert (ran.code, ran.err.splitlines()[0]) == (2, f"rentroll: usage: `rentroll {name}` is not built yet")


def test_without_a_command_it_shows_its_help_and_is_a_usage_error(rentroll: Rentroll) -> None:
    ran = rentroll()
    assert (ran.code, ran.out, ran.err.startswith("Usage: rentroll ")) == (2, "", True)


def test_the_reference_is_not_stale() -> None:
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == reference()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(rentroll: Rentroll, shell: str) -> None:
    ran = rentroll("completion", shell)
    assert (ran.code, "_RENTROLL_COMPLETE" in ran.out) == (0, True)


BASH = """
rentroll() { "$@"; }
eval "$SCRIPT"
complete -p rentroll >/dev/null || exit 9
COMP_WORDS=($WORDS); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_rentroll_completion "$PROGRAM"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash on this machine")
def test_bash_completes_commands_and_the_slugs_of_the_ledger(rentroll: Rentroll, box: Any, tmp_path: Path) -> None:
    program = tmp_path / "rentroll"
    python, *rest = PROGRAM
    program.write_text(f"#!/bin/sh\nexec {python} {rest[0]} {rest[1]} '{rest[2]}' \"$@\"\n")
    program.chmod(0o700)
    script = rentroll("completion", "bash").out

    def completed(words: str) -> list[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCRIPT": script, "WORDS": words, "PROGRAM": str(program)}
        done = subprocess.run(["bash", "-c", BASH], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    assert completed("rentroll st") == ["status", "stop"]
    assert completed("rentroll stop b") == ["box"]
    assert completed("rentroll stop x") == []


def test_completion_of_a_ledger_that_cannot_be_read_is_silent(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RENTROLL_LEDGER_URL": f"sqlite:///{tmp_path}",
        "_RENTROLL_COMPLETE": "bash_complete",
        "COMP_WORDS": "rentroll stop b",
        "COMP_CWORD": "2",
    }
    assert run_process(env=environment) == (0, "\n", "")


def test_the_readme_shows_the_demos_own_commands() -> None:
    shown = (ROOT / "README.md").read_text(encoding="utf-8").partition("```console\n")[2].partition("\n```")[0]
    commands = [line for line in shown.splitlines() if line.startswith("$ ")]
    story = [f"$ rentroll {shlex.join(arguments)}" for _, arguments in STORY]
    assert [re.sub(r"rl_\w{26}", "LEASE", line) for line in commands] == story


def test_the_demo_tells_the_whole_story_in_a_ledger_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "config" / "rentroll" / "config.toml"
    file.parent.mkdir()
    file.write_text(f'[ledger]\nurl = "sqlite:///{tmp_path}/real.db"\n[fal]\nuser = "somebody"\n')
    ran = run_process("demo")
    assert ran.code == 0, ran.err
    for told in ("demo is ready", "step 3", "demo is released (completed)", "deletion-confirmed", ": ok"):
        assert told in ran.out
    assert not (tmp_path / "real.db").exists()
    assert list((tmp_path / "state").iterdir()) == []
