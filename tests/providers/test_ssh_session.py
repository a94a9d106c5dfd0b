"""Remote commands over a real sshd: what comes back, what goes in, how they end, and how they are interrupted."""

import contextlib
import hashlib
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger.domain import errors
from ledger.domain.errors import SshFailure, UsageFailure
from ledger.domain.ports import RemoteCommand, RemoteExit
from providers.ssh.box import SshBox
from providers.ssh.connection import Connection, connect
from providers.ssh.handshake import Limits
from providers.ssh.keys import LeaseKeys
from providers.ssh.openssh import quote_argv
from providers.ssh.session import Session
from tests.providers.odd_sshd import CHANNEL_SUCCESS, Mangle, odd_server
from tests.providers.sshd import LEASE, Sshd, needs_sshd, serving

pytestmark = needs_sshd
WAIT_S = 60.0
SOON_S = 8.0
"""What a busy machine may add to a short limit; below the ten seconds that a patient signal has."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with serving(tmp_path_factory.mktemp("session") / "sshd") as server:
        yield server


@pytest.fixture
def connection(server: Sshd) -> Iterator[Connection]:
    with connect(server.endpoint(), server.keys.root) as connection:
        yield connection


class Output:
    """Collects what a command says. `first` is set with the first byte of stdout."""

    def __init__(self) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.first = threading.Event()

    def command(self, line: str, stdin: int | None = None) -> RemoteCommand:
        return RemoteCommand(line=line, stdin=stdin, on_stdout=self._on_stdout, on_stderr=self.stderr.extend)

    def _on_stdout(self, chunk: bytes) -> None:
        self.stdout.extend(chunk)
        self.first.set()


def finish(connection: Connection, line: str, stdin: int | None = None) -> tuple[RemoteExit, bytes, bytes]:
    output = Output()
    with connection.start(output.command(line, stdin)) as session:
        end = session.wait(WAIT_S)
    return end, bytes(output.stdout), bytes(output.stderr)


@contextlib.contextmanager
def file_of(path: Path, content: bytes) -> Iterator[int]:
    path.write_bytes(content)
    with path.open("rb") as file:
        yield file.fileno()


@contextlib.contextmanager
def open_pipe() -> Iterator[tuple[int, int]]:
    """A pipe whose writing end stays open, as a terminal's input does."""
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


def test_eight_mebibytes_on_each_stream_arrive_byte_for_byte(connection: Connection, tmp_path: Path) -> None:
    sent = os.urandom(8 << 20)
    (tmp_path / "data").write_bytes(sent)
    path = quote_argv([str(tmp_path / "data")])

    end, stdout, stderr = finish(connection, f"cat {path} & cat {path} >&2; wait")

    assert end == RemoteExit(exit_code=0)
    assert hashlib.sha256(stdout).digest() == hashlib.sha256(sent).digest()
    assert hashlib.sha256(stderr).digest() == hashlib.sha256(sent).digest()


def test_bytes_that_are_not_utf8_pass_unchanged(connection: Connection) -> None:
    assert finish(connection, r"printf '\377\000\200a'; printf '\376\n' >&2") == (
        RemoteExit(exit_code=0),
        b"\xff\x00\x80a",
        b"\xfe\n",
    )


def test_output_is_delivered_while_the_command_still_runs(connection: Connection) -> None:
    output = Output()
    with (
        open_pipe() as (reading, writing),
        connection.start(output.command("echo here; read line", reading)) as session,
    ):
        assert output.first.wait(WAIT_S)
        assert bytes(output.stdout) == b"here\n"
        os.write(writing, b"go on\n")
        assert session.wait(WAIT_S) == RemoteExit(exit_code=0)


def test_four_mebibytes_of_input_come_back_and_end(connection: Connection, tmp_path: Path) -> None:
    sent = os.urandom(4 << 20)
    with file_of(tmp_path / "input", sent) as stdin:
        end, stdout, stderr = finish(connection, "cat", stdin)
    assert (end, hashlib.sha256(stdout).digest(), stderr) == (
        RemoteExit(exit_code=0),
        hashlib.sha256(sent).digest(),
        b"",
    )


def test_input_larger_than_the_window_waits_for_a_reader_that_starts_late(
    connection: Connection, tmp_path: Path
) -> None:
    sent = os.urandom(4 << 20)
    with file_of(tmp_path / "input", sent) as stdin, open_gate(tmp_path / "gate") as open_it:
        output = Output()
        line = f"echo waiting; read gate < {tmp_path / 'gate'}; sha256sum"
        with connection.start(output.command(line, stdin)) as session:
            assert output.first.wait(WAIT_S)
            open_it()
            assert session.wait(WAIT_S) == RemoteExit(exit_code=0)
    assert output.stdout.decode() == f"waiting\n{hashlib.sha256(sent).hexdigest()}  -\n"


@contextlib.contextmanager
def open_gate(path: Path) -> Iterator[Callable[[], None]]:
    """A named pipe that holds a remote `read` until it is opened from here."""
    os.mkfifo(path)
    yield lambda: path.open("w").close()


def test_output_of_a_child_that_outlives_the_command_still_arrives(connection: Connection, tmp_path: Path) -> None:
    output = Output()
    gate = tmp_path / "gate"
    with (
        open_gate(gate) as open_it,
        connection.start(output.command(f"(read line < {gate}; echo late) & echo early; exit 3")) as session,
    ):
        assert session._channel.status_event.wait(WAIT_S)
        open_it()
        assert session.wait(WAIT_S) == RemoteExit(exit_code=3)
    assert bytes(output.stdout) == b"early\nlate\n"


def test_no_input_is_an_end_of_input(connection: Connection) -> None:
    assert finish(connection, "cat; echo over") == (RemoteExit(exit_code=0), b"over\n", b"")


def test_a_command_that_ends_first_does_not_wait_for_open_input(connection: Connection) -> None:
    with open_pipe() as (reading, _writing):
        assert finish(connection, "exit 3", reading)[0] == RemoteExit(exit_code=3)


def test_a_command_that_ignores_large_input_ends_normally(connection: Connection, tmp_path: Path) -> None:
    with file_of(tmp_path / "input", bytes(8 << 20)) as stdin:
        assert finish(connection, "exit 4", stdin)[0] == RemoteExit(exit_code=4)


def test_input_that_cannot_be_read_is_reported_and_not_taken_for_its_end(
    connection: Connection, tmp_path: Path
) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(UsageFailure, match=r"^The input for the command could not be read: Is a directory\.$"):
            finish(connection, "cat > /dev/null", folder)
    finally:
        os.close(folder)


@pytest.mark.parametrize("code", [0, 7, 255])
def test_the_exit_code_is_the_commands(connection: Connection, code: int) -> None:
    assert finish(connection, f"exit {code}") == (RemoteExit(exit_code=code), b"", b"")


def test_a_command_ended_by_a_signal_has_its_name_and_no_code(connection: Connection) -> None:
    assert finish(connection, "kill -TERM $$")[0] == RemoteExit(exit_code=None, signal="TERM")


def test_exit_code_143_is_not_taken_for_a_signal(connection: Connection) -> None:
    assert finish(connection, "exit 143")[0] == RemoteExit(exit_code=143)


def test_arguments_arrive_verbatim(connection: Connection) -> None:
    arguments = ["a b", "", "it's", '"', "two\nlines", "$HOME `id` \\ !", "-n", "*", "\u00e9", "\\\\"]
    end, stdout, _ = finish(connection, quote_argv(["printf", r"%s\0", *arguments]))
    assert (end, stdout.decode().split("\0")) == (RemoteExit(exit_code=0), [*arguments, ""])


@pytest.mark.holds("HOLE-11")
def test_the_command_leads_its_own_process_group(connection: Connection) -> None:
    _, stdout, _ = finish(connection, "echo $$; cut -d ' ' -f 5 /proc/self/stat")
    process, group = stdout.decode().split()
    assert process == group


def test_several_commands_run_on_one_connection(connection: Connection) -> None:
    first, second = Output(), Output()
    with (
        open_pipe() as (reading, _writing),
        connection.start(first.command("echo one; cat", reading)) as waiting,
        connection.start(second.command("echo two")) as quick,
    ):
        assert quick.wait(WAIT_S) == RemoteExit(exit_code=0)
        assert first.first.wait(WAIT_S)
        assert waiting.signal("TERM")
        assert waiting.wait(WAIT_S) == RemoteExit(exit_code=None, signal="TERM")
    assert (bytes(first.stdout), bytes(second.stdout)) == (b"one\n", b"two\n")


@pytest.mark.holds("HOLE-11")
@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
def test_a_signal_ends_the_command_and_its_children(connection: Connection, name: str) -> None:
    """The children hold stdout open, so the session can end only when they have."""
    output = Output()
    with connection.start(output.command("echo; sh -c 'sleep 1000; true'; true")) as session:
        assert output.first.wait(WAIT_S)
        assert session.signal(name)
        assert session.wait(WAIT_S) == RemoteExit(exit_code=None, signal=name)
        assert not session.signal(name)


def test_a_command_that_handles_the_signal_ends_as_it_likes(connection: Connection) -> None:
    output = Output()
    line = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done"
    with connection.start(output.command(line)) as session:
        assert output.first.wait(WAIT_S)
        assert session.signal("INT")
        assert session.wait(WAIT_S) == RemoteExit(exit_code=9)
    assert bytes(output.stdout) == b"ready\ncaught\n"


def test_a_name_that_is_no_signal_is_refused(connection: Connection) -> None:
    with connection.start(Output().command("true")) as session, pytest.raises(ValueError, match="not a signal"):
        session.signal("INT; reboot")


class Interrupted(BaseException):
    """What a program's own signal handler raises."""


@pytest.fixture
def interrupts() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, before)


def silent_on_requests(message: bytes) -> bytes | None:
    return None if message[0] == CHANNEL_SUCCESS else message


def silent_on_ends(message: bytes) -> bytes | None:
    """As `odd_sshd` is by itself."""
    return message


def telling_of_its_hangup(path: Path) -> str:
    """A command that writes HUP into a new named pipe when it gets one, whoever still listens to its outputs."""
    os.mkfifo(path)
    return f"exec 2>/dev/null; trap 'echo HUP > {path}; exit 0' HUP; echo ready; while :; do sleep 0.05; done"


def told(path: Path) -> bytes:
    """What somebody writes into a named pipe, within the bounds of a test."""
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert select.select([reading], [], [], WAIT_S)[0] == [reading]
        return os.read(reading, 100)
    finally:
        os.close(reading)


@contextlib.contextmanager
def an_interrupt_once_waiting(output: Output) -> Iterator[None]:
    """Interrupts the main thread when the command has spoken and the main thread is inside `Session.wait`."""
    main = threading.main_thread().ident or 0

    def waiting() -> bool:
        frames = traceback.walk_stack(sys._current_frames()[main])
        return any(frame.f_code is Session.wait.__code__ for frame, _ in frames)

    def press() -> None:
        output.first.wait(WAIT_S)
        deadline = time.monotonic() + WAIT_S
        while not waiting() and time.monotonic() < deadline:
            pass
        signal.pthread_kill(main, signal.SIGUSR1)

    presser = threading.Thread(target=press)
    presser.start()
    yield
    presser.join()


@pytest.mark.usefixtures("interrupts")
def test_an_interrupted_wait_can_be_taken_up_again_without_loss(connection: Connection) -> None:
    output = Output()
    line = "trap 'echo last words; exit 0' INT; echo first words; while :; do sleep 0.05; done"
    with connection.start(output.command(line)) as session:
        with an_interrupt_once_waiting(output), pytest.raises(Interrupted):
            session.wait()
        assert session.signal("INT")
        assert session.wait(WAIT_S) == RemoteExit(exit_code=0)
    assert bytes(output.stdout) == b"first words\nlast words\n"


@pytest.mark.holds("HOLE-11")
@pytest.mark.usefixtures("interrupts")
def test_an_interrupted_run_hangs_up_the_command(server: Sshd, tmp_path: Path) -> None:
    line = telling_of_its_hangup(tmp_path / "ended")
    output = Output()
    with an_interrupt_once_waiting(output), pytest.raises(Interrupted):
        SshBox(server.keys).run(server.endpoint(), output.command(line))
    assert told(tmp_path / "ended") == b"HUP\n"


def test_ctrl_c_reaches_the_command_whose_last_words_still_arrive(server: Sshd) -> None:
    """SIGINT of this process becomes INT for the remote command, which has a moment to end before we go on."""

    def interrupt(*_: object) -> None:
        raise errors.Interrupted(signal.SIGINT)

    before = signal.signal(signal.SIGUSR1, interrupt)
    output = Output()
    line = "trap 'echo last words; exit 0' INT; echo first words; while :; do sleep 0.05; done"
    with an_interrupt_once_waiting(output), pytest.raises(errors.Interrupted):
        SshBox(server.keys).run(server.endpoint(), output.command(line))
    signal.signal(signal.SIGUSR1, before)
    assert bytes(output.stdout) == b"first words\nlast words\n"


@pytest.mark.holds("RBK-15")
def test_a_box_that_falls_silent_does_not_hold_up_an_interrupt(tmp_path: Path) -> None:
    """SIGTERM waits half a second for the command and a moment for its end: the box is to be given back."""

    came_at_s = []
    output = Output()
    with serving(tmp_path / "sshd") as box:

        def interrupt(*_: object) -> None:
            box.freeze()
            came_at_s.append(time.monotonic())
            raise errors.Interrupted(signal.SIGTERM)

        before = signal.signal(signal.SIGUSR1, interrupt)
        with an_interrupt_once_waiting(output), pytest.raises(errors.Interrupted):
            SshBox(box.keys).run(box.endpoint(), output.command("echo up; exec sleep 1000"))
        assert time.monotonic() - came_at_s[0] < SOON_S
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("mangle", [silent_on_requests, silent_on_ends])
def test_a_signal_that_the_box_does_not_confirm_is_given_up_in_time(tmp_path: Path, mangle: Mangle) -> None:
    """Whether it says nothing to the request, or not what became of it."""
    keys = LeaseKeys(tmp_path)
    keys.make(LEASE)
    with odd_server() as odd:
        odd.accepts = lambda _number, _line: True
        odd.mangle = mangle
        with connect(odd.endpoint(), keys.root) as connection:
            begun = time.monotonic()
            with pytest.raises(SshFailure, match="could not be sent TERM: no answer in time") as caught:
                connection._kill(1, "TERM", 0.3)
            assert time.monotonic() - begun < SOON_S
    assert caught.value.stage == "session"


def test_what_a_sink_raises_comes_out_of_run_and_hangs_up_the_command(server: Sshd, tmp_path: Path) -> None:
    def refuse(_chunk: bytes) -> None:
        raise BrokenPipeError("nobody reads")

    line = telling_of_its_hangup(tmp_path / "ended")
    with pytest.raises(BrokenPipeError, match="nobody reads"):
        SshBox(server.keys).run(server.endpoint(), replace(Output().command(line), on_stdout=refuse))
    assert told(tmp_path / "ended") == b"HUP\n"


def test_wait_has_a_deadline(connection: Connection) -> None:
    with open_pipe() as (reading, _), connection.start(Output().command("cat", reading)) as session:
        with pytest.raises(TimeoutError):
            session.wait(0.01)
        assert session.signal("KILL")
        assert session.wait(WAIT_S) == RemoteExit(exit_code=None, signal="KILL")


def test_a_torn_connection_says_that_the_command_may_still_run(tmp_path: Path) -> None:
    output = Output()
    with serving(tmp_path / "sshd") as server, connect(server.endpoint(), server.keys.root) as connection:
        with connection.start(output.command("echo before; exec sleep 20")) as session:
            assert output.first.wait(WAIT_S)
            server.cut()
            with pytest.raises(SshFailure, match="may still be running on the box") as caught:
                session.wait(WAIT_S)
            with pytest.raises(SshFailure, match="could not be sent INT"):
                session.signal("INT")
        with pytest.raises(SshFailure, match="the box runs no command"):
            connection.start(Output().command("true"))
    assert (caught.value.stage, bytes(output.stdout)) == ("session", b"before\n")


def test_a_peer_that_falls_silent_is_noticed(tmp_path: Path) -> None:
    output = Output()
    limits = Limits(keepalive_s=0.3)
    with (
        serving(tmp_path / "sshd") as server,
        connect(server.endpoint(), server.keys.root, limits=limits) as connection,
        connection.start(output.command("echo before; exec sleep 20")) as session,
    ):
        assert output.first.wait(WAIT_S)
        server.freeze()
        with pytest.raises(SshFailure, match=r"the box was silent for 0\.3 s"):
            session.wait(WAIT_S)


def test_a_quiet_command_outlives_many_keepalives(server: Sshd) -> None:
    with connect(server.endpoint(), server.keys.root, limits=Limits(keepalive_s=0.05)) as connection:
        assert finish(connection, "sleep 1; echo done") == (RemoteExit(exit_code=0), b"done\n", b"")


def test_a_box_that_refuses_sessions_is_a_session_failure(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "sshd", "MaxSessions 0\n") as server,
        connect(server.endpoint(), server.keys.root) as connection,
        pytest.raises(SshFailure, match="the box runs no command") as caught,
    ):
        connection.start(Output().command("true"))
    assert caught.value.stage == "session"


def test_a_forced_command_keeps_its_output_and_cannot_be_signalled(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "sshd", "ForceCommand echo out; echo err >&2; exit 5\n") as server,
        connect(server.endpoint(), server.keys.root) as connection,
    ):
        output = Output()
        with connection.start(output.command("true")) as session:
            assert session.wait(WAIT_S) == RemoteExit(exit_code=5)
            assert not session.signal("INT")
    assert (bytes(output.stdout), bytes(output.stderr)) == (b"out\n", b"err\n")


def test_the_connection_sends_small_packets_at_once_under_a_fast_cipher(connection: Connection) -> None:
    assert connection._server.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    assert connection._transport.remote_cipher == "aes128-gcm@openssh.com"


def test_nothing_stays_behind_after_a_command(server: Sshd) -> None:
    before = {thread.name for thread in threading.enumerate()}
    output = Output()
    with open_pipe() as (reading, _):
        SshBox(server.keys).run(server.endpoint(), output.command('ls -A . "$HOME" | grep rentroll; true', reading))
    assert bytes(output.stdout) == b""
    assert {thread.name for thread in threading.enumerate()} == before
