"""What `docs/operations.md` tells people to type exists: every command with its options, every exit code it names."""

import re
from pathlib import Path

import click
import pytest

from cli.commands import COMMANDS
from cli.dispatch import root
from ledger.domain.errors import ERRORS

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
TYPED = re.findall(r"rentroll\"? ([a-z][a-z-]*)((?: (?:--)?[A-Za-z0-9][\w.-]*)*)", PAGE)
"""Every command in the page, with the words behind it."""


def test_the_page_shows_commands_at_all() -> None:
    assert {"watch", "cleanup", "recover", "audit", "rotate", "doctor", "stop"} <= {name for name, _ in TYPED}


@pytest.mark.parametrize(("name", "words"), sorted(set(TYPED)))
def test_what_is_typed_exists(name: str, words: str) -> None:
    assert name in COMMANDS
    command = root.get_command(click.Context(root), name)
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words.split() if word.startswith("--")} - known == set()


def test_the_exit_codes_of_the_page_are_those_of_the_program() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    assert codes - {0} <= {error.exit_code for error in ERRORS}
    assert {0, 2, 3, 5, 9, 10, 11} == codes
