"""Arguments that are no text reach a real sshd as the bytes that they were, and the ledger as text."""

import os
from pathlib import Path

from ledger.domain.events import RunStarted
from ledger.domain.ports import RemoteCommand, RemoteExit
from ledger.store.codec import encode
from providers.ssh.connection import connect
from providers.ssh.openssh import quote_argv
from tests.providers.sshd import needs_sshd, serving

BYTES = b"\xff\xfe \xc3\xa9"


@needs_sshd
def test_an_argument_that_is_no_text_arrives_as_it_is(tmp_path: Path) -> None:
    said = bytearray()
    line = f"exec {quote_argv(('printf', '%s', os.fsdecode(BYTES)))}"
    command = RemoteCommand(line=line, stdin=None, on_stdout=said.extend, on_stderr=lambda _: None)
    with serving(tmp_path / "sshd") as server, connect(server.endpoint(), server.keys.root) as connection:
        assert connection.start(command).wait(30) == RemoteExit(exit_code=0)
    assert said == BYTES


def test_a_command_that_is_no_text_can_be_recorded() -> None:
    started = RunStarted(
        run_id="run_1", command=(os.fsdecode(BYTES),), work_dir="/w", repository=None, host="here", pid=1
    )
    assert encode(started)[1].command == ("\\udcff\\udcfe é",)
