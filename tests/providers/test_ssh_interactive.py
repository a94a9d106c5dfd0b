"""A command on a real sshd with this process's own stdout, whose reader goes away."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from providers.ssh.connection import connect
from tests.providers.sshd import Sshd, needs_sshd, serving

pytestmark = needs_sshd


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with serving(tmp_path / "sshd") as server:
        yield server


@contextmanager
def nobody_reads() -> Iterator[None]:
    """Our stdout is a pipe without a reader, our stdin is at its end."""
    before = os.dup(1)
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)
    os.close(writing)
    try:
        with Path(os.devnull).open() as nothing, pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", nothing)
            yield
    finally:
        os.dup2(before, 1)
        os.close(before)


@pytest.mark.parametrize(("line", "code"), [("yes; echo $? >{}; exit 5", 5), ("echo 0 >{}; exec yes", 255)])
def test_a_command_whose_output_nobody_reads_any_more_cannot_write_it(
    server: Sshd, tmp_path: Path, line: str, code: int
) -> None:
    """Its code is what the system's ssh gives: its own, or 255 where SIGPIPE ended it."""
    written = tmp_path / "code"
    with connect(server.endpoint(host_key=server.host_key), server.keys.root) as connection, nobody_reads():
        ended = connection.converse(line.format(written), term=None)
    assert ended == code
    assert written.read_text() in ("141\n", "0\n")
