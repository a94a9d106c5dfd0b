"""The world and its first program."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.world import Program, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


@pytest.fixture
def program(world: World) -> Program:
    return world.program()


@pytest.fixture
def signals(program: Program) -> Iterator[Program]:
    """The program with this process's SIGINT and SIGTERM."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    program.interrupts.install()
    yield program
    for number, handler in before.items():
        signal.signal(number, handler)
