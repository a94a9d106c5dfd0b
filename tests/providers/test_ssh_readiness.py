"""The staged readiness check against a real sshd, and against sockets that misbehave."""

import contextlib
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger.domain.errors import SshFailure
from ledger.domain.ports import Box, BoxFacts
from providers.ssh.box import SshBox
from providers.ssh.handshake import Limits
from providers.ssh.hostkeys import fingerprint
from providers.ssh.keys import LeaseKeys, known_hosts_path, private_key_path
from providers.ssh.readiness import check
from tests.providers.odd_sshd import CHANNEL_SUCCESS, odd_server
from tests.providers.sshd import LEASE, Sshd, keygen, needs_sshd, serving

pytestmark = needs_sshd
QUICK = Limits(tcp_s=2.0, handshake_s=0.3, authentication_s=5.0, tools_s=20.0)
SOON_S = 8.0
"""What a busy machine may add to a short limit; below every stage's own, which a broken bound would take."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with serving(tmp_path / "sshd") as server:
        yield server


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken and on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


@pytest.fixture
def mute_port() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@contextlib.contextmanager
def answering(greeting: bytes) -> Iterator[int]:
    """A port that says one thing and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(greeting)

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join()


def failure(server: Sshd, *ports: int, limits: Limits = QUICK) -> SshFailure:
    with pytest.raises(SshFailure) as caught:
        check(server.endpoint(), server.keys.root, ports=ports, limits=limits)
    return caught.value


def where(server: Sshd) -> str:
    return f"127.0.0.1:{server.port}"


def pins(server: Sshd) -> str | None:
    path = known_hosts_path(server.keys.root, LEASE)
    return path.read_text() if path.exists() else None


@pytest.mark.holds("RDY-06")
def test_a_good_box_gives_its_facts_and_its_key_is_pinned(server: Sshd) -> None:
    """TCP, host key, authentication, tools."""
    box: Box = SshBox(server.keys)
    facts = box.check(server.endpoint(), ports=())
    assert facts == BoxFacts(
        port=server.port,
        host_key=server.host_key,
        host_key_fingerprint=fingerprint(server.host_key),
        tools={
            "sh": True,
            "tar": True,
            "git": shutil.which("git") is not None,
            "rsync": shutil.which("rsync") is not None,
            "python3": shutil.which("python3") is not None,
        },
    )
    assert pins(server) == f"[127.0.0.1]:{server.port} {server.host_key}\n"


@pytest.mark.holds("SSH-02")
def test_the_first_port_that_works_counts(server: Sshd, closed_port: int) -> None:
    """The configured port was offered first, the one that answered is recorded."""
    assert check(server.endpoint(), server.keys.root, ports=(closed_port, server.port)).port == server.port


@pytest.mark.holds("RDY-06")
def test_a_closed_port_fails_at_tcp(server: Sshd, closed_port: int) -> None:
    refused = failure(server, closed_port)
    assert (refused.stage, refused.message) == (
        "tcp",
        f"127.0.0.1:{closed_port}: no TCP connection: connection refused.",
    )


def test_an_unknown_host_name_fails_at_tcp(server: Sshd) -> None:
    with pytest.raises(SshFailure, match=r"^host\.invalid:22: no TCP connection: ") as caught:
        check(replace(server.endpoint(), host="host.invalid", port=22), server.keys.root)
    assert caught.value.stage == "tcp"


def test_a_port_that_says_nothing_fails_at_the_host_key_in_time(server: Sshd, mute_port: int) -> None:
    begun = time.monotonic()
    silent = failure(server, mute_port)
    assert (silent.stage, silent.message) == ("host-key", f"127.0.0.1:{mute_port}: no host key: no answer in time.")
    assert time.monotonic() - begun < 5


@pytest.mark.holds("RDY-04")
def test_a_check_ends_with_its_time_whatever_its_stages_and_ports_may_take(server: Sshd, mute_port: int) -> None:
    """When its time is over no other port is tried."""
    begun = time.monotonic()
    with pytest.raises(SshFailure) as caught:
        SshBox(server.keys).check(server.endpoint(), ports=(mute_port, server.port), timeout_s=0.3)
    assert time.monotonic() - begun < SOON_S
    assert (caught.value.stage, caught.value.message, caught.value.hint) == (
        "host-key",
        f"127.0.0.1:{mute_port}: no host key: no answer in time.",
        None,
    )


def test_a_stage_has_its_own_limit_or_what_is_left_of_the_whole() -> None:
    """And never nothing, so that it can say why it failed."""
    now_s = time.monotonic()
    assert Limits().left_of(5.0) == 5.0
    assert Limits(end_s=now_s + 1000.0).left_of(5.0) == 5.0
    assert 0.0 < Limits(end_s=now_s + 4.0).left_of(5.0) <= 4.0
    assert Limits(end_s=now_s - 1.0).left_of(5.0) == 0.001


@pytest.mark.holds("RDY-04")
def test_a_box_that_never_answers_a_request_for_a_command_fails_at_the_tools_in_time(tmp_path: Path) -> None:
    """Nor says that it will run it."""
    keys = LeaseKeys(tmp_path)
    keys.make(LEASE)
    with odd_server() as odd:
        odd.accepts = lambda _number, _line: True
        odd.mangle = lambda message: None if message[0] == CHANNEL_SUCCESS else message
        begun = time.monotonic()
        with pytest.raises(SshFailure) as caught:
            check(odd.endpoint(), keys.root, limits=Limits(tools_s=0.3))
        assert time.monotonic() - begun < SOON_S
        assert (caught.value.stage, caught.value.message) == (
            "tools",
            f"{odd.where}: the box runs no command: no answer in time.",
        )


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b"SSH-1.5-old\r\n"])
def test_a_port_that_is_no_ssh_server_fails_at_the_host_key(server: Sshd, greeting: bytes) -> None:
    with answering(greeting) as port:
        odd = failure(server, port, limits=Limits(handshake_s=60.0))
    assert odd.stage == "host-key"
    assert odd.message.startswith(f"127.0.0.1:{port}: no host key: ")
    assert "\n" not in odd.message
    for timer in (thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)):
        # One that is left alone holds up the end of the process until the handshake's limit.
        timer.join(10.0)
        assert not timer.is_alive()


@pytest.mark.holds("SSH-05", "W-27", "PEER-34")
def test_a_changed_host_key_is_refused_before_any_authentication(server: Sshd, tmp_path: Path) -> None:
    stranger = keygen(tmp_path / "stranger")
    check(server.endpoint(), server.keys.root)
    assert server.authentication_attempts() == 1

    with pytest.raises(SshFailure) as caught:
        check(server.endpoint(host_key=stranger), server.keys.root)

    assert (caught.value.stage, caught.value.message) == (
        "host-key",
        f"{where(server)}: the host key is {fingerprint(server.host_key)}, and {fingerprint(stranger)} was recorded.",
    )
    assert server.authentication_attempts() == 1
    assert pins(server) == f"[127.0.0.1]:{server.port} {server.host_key}\n"


def test_a_key_that_differs_from_the_pin_is_refused_too(server: Sshd, tmp_path: Path) -> None:
    stranger = f"[127.0.0.1]:{server.port} {keygen(tmp_path / 'stranger')}\n"
    known_hosts_path(server.keys.root, LEASE).write_text(stranger)
    assert failure(server).stage == "host-key"
    assert (server.authentication_attempts(), pins(server)) == (0, stranger)


def test_a_changed_host_key_is_not_evaded_by_another_port(server: Sshd, tmp_path: Path) -> None:
    with serving(tmp_path / "other") as other:
        known_hosts_path(server.keys.root, LEASE).write_text(
            f"[127.0.0.1]:{other.port} {keygen(tmp_path / 'stranger')}\n"
        )
        assert failure(server, other.port, server.port).stage == "host-key"
        assert (other.authentication_attempts(), server.authentication_attempts()) == (0, 0)


def test_a_pin_that_was_lost_is_restored_from_the_ledgers_key(server: Sshd) -> None:
    assert check(server.endpoint(host_key=server.host_key), server.keys.root).host_key == server.host_key
    assert pins(server) == f"[127.0.0.1]:{server.port} {server.host_key}\n"


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_a_server_with_several_keys_is_asked_for_the_recorded_one(tmp_path: Path, kind: str) -> None:
    line = keygen(tmp_path / "second", kind=kind)
    with serving(tmp_path / "sshd", f"HostKey {tmp_path / 'second'}\n") as server:
        assert check(server.endpoint(), server.keys.root).host_key == server.host_key
        assert check(server.endpoint(host_key=line), server.keys.root).host_key == line


@pytest.mark.holds("RDY-06")
def test_a_key_the_box_does_not_know_fails_at_authentication(server: Sshd) -> None:
    server.keys.destroy(LEASE)
    server.keys.make(LEASE)
    refused = failure(server)
    assert (refused.stage, refused.message) == (
        "authentication",
        f"{where(server)}: {server.endpoint().user} was not let in with the lease's key: Authentication failed.",
    )
    assert pins(server) == f"[127.0.0.1]:{server.port} {server.host_key}\n"


@pytest.mark.holds("SSH-05")
def test_only_the_leases_key_is_offered(server: Sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A good key in the home folder does not help, and there is one attempt."""
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    shutil.copy(private_key_path(server.keys.root, LEASE), home / "id_ed25519")
    monkeypatch.setenv("HOME", str(home.parent))
    server.keys.destroy(LEASE)
    server.keys.make(LEASE)
    assert failure(server).stage == "authentication"
    assert server.authentication_attempts() == 1


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ("PubkeyAuthentication no\n", "it takes no public key, but password"),
        ("AuthenticationMethods publickey,password\n", "it wants password as well"),
    ],
)
def test_a_box_that_wants_a_password_fails_at_authentication(tmp_path: Path, settings: str, why: str) -> None:
    with serving(tmp_path / "sshd", settings) as server:
        refused = failure(server)
    assert (refused.stage, refused.message.endswith(f"with the lease's key: {why}.")) == ("authentication", True)


@pytest.mark.parametrize("content", [None, "", "no key", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "\udcff"])
def test_a_lost_or_broken_private_key_is_named_without_a_connection(server: Sshd, content: str | None) -> None:
    path = private_key_path(server.keys.root, LEASE)
    path.unlink()
    if content is not None:
        path.write_text(content, errors="surrogateescape")
    lost = failure(server)
    assert lost.stage == "authentication"
    assert lost.message.startswith(f"127.0.0.1:{server.port}: the private key of {LEASE} cannot be read: ")
    assert pins(server) is None


def test_a_box_that_runs_no_command_fails_at_the_tools(tmp_path: Path) -> None:
    with serving(tmp_path / "sshd", "MaxSessions 0\n") as server:
        assert failure(server).stage == "tools"


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A folder for a remote PATH, in which there is nothing yet."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


@pytest.mark.holds("RDY-06", "HOLE-08")
@pytest.mark.parametrize(("there", "lacks"), [(["sh", "git"], "tar"), (["tar"], "sh and tar"), ([], "sh and tar")])
def test_a_box_without_a_required_tool_fails_at_the_tools(
    tmp_path: Path, bare_path: Path, there: list[str], lacks: str
) -> None:
    """Where there is no sh nothing can be asked, so nothing is known to be there."""
    for tool in there:
        real = Path(shutil.which(tool) or "/nonexistent")
        (bare_path / tool).symlink_to(real)
    with serving(tmp_path / "sshd", restricted(tmp_path, bare_path)) as server:
        poor = failure(server)
    assert (poor.stage, poor.message) == ("tools", f"127.0.0.1:{server.port}: the box lacks {lacks}.")


@pytest.mark.holds("HOLE-08")
def test_tools_that_are_only_recorded_may_be_missing(tmp_path: Path, bare_path: Path) -> None:
    for tool in ("sh", "tar"):
        (bare_path / tool).symlink_to(Path(shutil.which(tool) or "/nonexistent"))
    with serving(tmp_path / "sshd", restricted(tmp_path, bare_path)) as server:
        facts = check(server.endpoint(), server.keys.root)
    assert facts.tools == {"sh": True, "tar": True, "git": False, "rsync": False, "python3": False}


def restricted(tmp_path: Path, path: Path) -> str:
    """Settings under which each command runs with this PATH, whatever the login shell's start-up sets."""
    script = tmp_path / "login"
    script.write_text(f'#!/bin/sh\nPATH={path}\nexport PATH\neval "$SSH_ORIGINAL_COMMAND"\n')
    script.chmod(stat.S_IRWXU)
    return f"ForceCommand {script}\n"


def test_a_box_that_does_not_answer_the_question_fails_at_the_tools(tmp_path: Path) -> None:
    with serving(tmp_path / "sshd", "ForceCommand sleep 20\n") as server:
        slow = failure(server, limits=Limits(tools_s=0.2))
    assert (slow.stage, slow.message) == (
        "tools",
        f"127.0.0.1:{server.port}: the box did not say within 0.2 s which tools it has.",
    )


def test_the_furthest_stage_of_all_ports_is_reported_with_the_others_beside_it(
    server: Sshd, closed_port: int, mute_port: int
) -> None:
    server.keys.destroy(LEASE)
    server.keys.make(LEASE)
    worst = failure(server, mute_port, server.port, closed_port)
    assert (worst.stage, worst.message.split(": ")[0]) == ("authentication", f"127.0.0.1:{server.port}")
    assert f"127.0.0.1:{mute_port}: no host key: no answer in time." in (worst.hint or "")
    assert f"127.0.0.1:{closed_port}: no TCP connection: connection refused." in (worst.hint or "")


def test_a_pin_that_cannot_be_written_fails_at_the_host_key(server: Sshd) -> None:
    known_hosts_path(server.keys.root, LEASE).mkdir()
    stuck = failure(server)
    assert (stuck.stage, stuck.message) == ("host-key", f"127.0.0.1:{server.port}: no host key: is a directory.")
    assert server.authentication_attempts() == 0


def test_failures_say_nothing_on_stderr_and_leave_other_loggers_alone(server: Sshd) -> None:
    """In a process of its own, which prints what is logged."""
    program = (
        "import logging, pathlib, sys\n"
        "logging.basicConfig(format='%(message)s')\n"
        "from ledger.domain.errors import SshFailure\n"
        "from ledger.domain.ports import Endpoint\n"
        "from providers.ssh.readiness import check\n"
        "endpoint = Endpoint(lease_id=sys.argv[1], host='127.0.0.1', port=int(sys.argv[2]), user='nobody')\n"
        "try:\n"
        "    check(endpoint, pathlib.Path(sys.argv[3]))\n"
        "except SshFailure as failure:\n"
        "    print(failure.stage)\n"
        "logging.getLogger('other').warning('heard')\n"
    )
    with answering(b"SSH-1.5-old\r\n") as port:
        arguments = [LEASE, str(port), str(server.keys.root)]
        run = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, check=True, text=True)
    assert (run.stdout, run.stderr) == ("host-key\n", "heard\n")


def test_a_damaged_record_of_the_host_key_is_not_first_contact(server: Sshd) -> None:
    with pytest.raises(SshFailure, match="something that is no key was recorded"):
        check(server.endpoint(host_key=""), server.keys.root)
    assert (server.authentication_attempts(), pins(server)) == (0, None)
