"""The emulator's boxes over real SSH: with paramiko, and with the system's own clients where they exist."""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import paramiko  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from providers.emulator.machines import InstanceView
from providers.emulator.serve import ACCOUNT, Emulator

STARTED_AT = datetime(2026, 8, 21, 12, tzinfo=UTC)
LIMIT_S = 30.0
needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="needs OpenSSH")


def make_key(folder: Path, name: str = "id_ed25519") -> tuple[Path, str]:
    """A new private key file and its public line."""
    private = Ed25519PrivateKey.generate()
    path = folder / name
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)
    return path, private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    with Emulator(boxes, started_at=STARTED_AT) as running:
        yield running


class Login:
    """A ready box and the key that opens it."""

    def __init__(self, emulator: Emulator, folder: Path) -> None:
        self.emulator = emulator
        self.key_path, self.public_key = make_key(folder)
        self.instance_id = emulator.change(
            lambda state, now: state.add_instance(ACCOUNT, now, public_key=self.public_key)
        )
        self.home = folder / "boxes" / self.instance_id / "home"

    @property
    def instance(self) -> InstanceView:
        return next(view for view in self.emulator.instances() if view.id == self.instance_id)

    @property
    def address(self) -> tuple[str, int]:
        return self.instance.ip or "", self.emulator.ssh_port

    @contextlib.contextmanager
    def transport(self) -> Iterator[paramiko.Transport]:
        connection = socket.create_connection(self.address, timeout=LIMIT_S)
        transport = paramiko.Transport(connection)
        try:
            transport.start_client(timeout=LIMIT_S)
            yield transport
        finally:
            transport.close()
            connection.close()

    @contextlib.contextmanager
    def connected(self) -> Iterator[paramiko.Transport]:
        with self.transport() as transport:
            transport.auth_publickey("ubuntu", paramiko.Ed25519Key.from_private_key_file(str(self.key_path)))
            yield transport

    def run(self, command: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        with self.connected() as transport, channel(transport) as session:
            session.exec_command(command)
            session.sendall(stdin)
            session.shutdown_write()
            stdout = read_all(session)
            return session.recv_exit_status(), stdout, session.makefile_stderr("rb").read()

    def ssh(self, *arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        options = ["IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        host, port = self.address
        command = ["ssh", "-F", "none", "-i", str(self.key_path), "-p", str(port)]
        command += [word for option in options for word in ("-o", option)] + [f"ubuntu@{host}", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, timeout=LIMIT_S, check=False)

    def delete(self) -> None:
        self.emulator.change(lambda state, now: state.remove_instance(self.instance_id, now))


@pytest.fixture
def login(emulator: Emulator, tmp_path: Path) -> Login:
    return Login(emulator, tmp_path)


@contextlib.contextmanager
def channel(transport: paramiko.Transport) -> Iterator[paramiko.Channel]:
    session = transport.open_session(timeout=LIMIT_S)
    session.settimeout(LIMIT_S)
    try:
        yield session
    finally:
        session.close()


def read_all(session: paramiko.Channel) -> bytes:
    return b"".join(iter(lambda: session.recv(65536), b""))


def wait_for_file(path: Path, emulator: Emulator) -> str:
    """Each look goes through the emulator's thread, so that looking is waiting; it gives up after many."""
    for _ in range(100_000):
        emulator.instances()
        if path.exists() and (text := path.read_text()).endswith("\n"):
            return text
    raise AssertionError(f"{path.name} was not written")


def test_a_command_runs_at_home_with_an_environment_of_its_own(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API key of whoever runs the emulator never reaches a box."""
    monkeypatch.setenv("RENTROLL_FAL_KEY", "must-not-leak")

    code, stdout, stderr = login.run("pwd; env | cut -d= -f1 | sort; echo aside >&2; exit 7")

    names = "HOME LANG LOGNAME PATH PWD SHELL TMPDIR USER XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_STATE_HOME"
    assert (code, stderr) == (7, b"aside\n")
    assert stdout.decode().splitlines() == [str(login.home), *names.split()]


def test_input_and_output_are_binary_and_complete(login: Login) -> None:
    data = os.urandom(3_000_000)

    assert login.run("cat; exit 3", data) == (3, data, b"")


def test_output_that_nobody_reads_yet_is_held_back_and_not_lost(login: Login) -> None:
    """More than every window and pipe on the way holds."""
    size = 30_000_000
    with login.connected() as transport, channel(transport) as session:
        session.exec_command(f"head -c {size} /dev/zero; echo done > finished; exit 5")
        first = session.recv(1)
        held_back = not (login.home / "finished").exists()
        rest = read_all(session)
        code = session.recv_exit_status()

    assert (held_back, len(first + rest), code) == (True, size, 5)


def test_a_command_that_a_signal_ends_reports_the_signal(login: Login) -> None:
    code, stdout, _ = login.run("echo before; kill -TERM $$")

    assert (code, stdout) == (-1, b"before\n")


def test_a_signal_request_reaches_the_whole_process_group(login: Login) -> None:
    with login.connected() as transport, channel(transport) as session:
        session.exec_command("trap 'echo caught; exit 9' TERM; sh -c 'echo ready; exec sleep 1000' & wait")
        ready = session.recv(6)
        message = paramiko.Message()
        message.add_byte(b"\x62")  # SSH_MSG_CHANNEL_REQUEST, RFC 4254 section 6.9
        message.add_int(session.remote_chanid)
        message.add_string("signal")
        message.add_boolean(False)
        message.add_string("TERM")
        transport._send_user_message(message)
        output = read_all(session)

        assert (ready, output, session.recv_exit_status()) == (b"ready\n", b"caught\n", 9)


def test_a_terminal_has_its_size_and_follows_it_and_ends_with_the_shell(login: Login) -> None:
    with login.connected() as transport, channel(transport) as session:
        session.get_pty("xterm", width=91, height=17)
        session.invoke_shell()
        session.sendall(b"stty size\n")
        read_until(session, b"17 91")
        session.resize_pty(width=33, height=44)
        session.sendall(b"test -t 0 && echo $(stty size) on-$TERM\n")
        read_until(session, b"44 33 on-xterm")
        session.sendall(b"exit 4\n")
        read_all(session)

        assert session.recv_exit_status() == 4


def read_until(session: paramiko.Channel, mark: bytes) -> bytes:
    seen = b""
    while mark not in seen:
        chunk = session.recv(4096)
        assert chunk, seen
        seen += chunk
    return seen


def test_hanging_up_a_terminal_ends_its_command(login: Login) -> None:
    with login.connected() as transport, channel(transport) as session:
        session.get_pty()
        session.exec_command("trap 'echo hung-up > hangup; exit' HUP; echo ready; while :; do sleep 0.05; done")
        read_until(session, b"ready")

    assert wait_for_file(login.home / "hangup", login.emulator) == "hung-up\n"


def test_a_command_without_a_terminal_outlives_its_connection(login: Login) -> None:
    """As with sshd: a job that was left running goes on."""
    with login.connected() as transport, channel(transport) as session:
        session.exec_command("echo ready; read -r line; until test -e go; do sleep 0.05; done; echo on > outlived")
        read_until(session, b"ready")
    (login.home / "go").touch()

    assert wait_for_file(login.home / "outlived", login.emulator) == "on\n"


@pytest.mark.parametrize("attempt", ["none", "password", "decoy", "user"])
def test_only_the_instances_own_key_and_user_are_let_in(login: Login, tmp_path: Path, attempt: str) -> None:
    """The design's key proof: `none` and a decoy are refused."""
    decoy = paramiko.Ed25519Key.from_private_key_file(str(make_key(tmp_path, "decoy")[0]))
    own = paramiko.Ed25519Key.from_private_key_file(str(login.key_path))
    with login.transport() as transport:
        attempts = {
            "none": lambda: transport.auth_none("ubuntu"),
            "password": lambda: transport.auth_password("ubuntu", "ubuntu", fallback=False),
            "decoy": lambda: transport.auth_publickey("ubuntu", decoy),
            "user": lambda: transport.auth_publickey("root", own),
        }
        with pytest.raises(paramiko.AuthenticationException):
            attempts[attempt]()


def test_the_box_holds_exactly_its_key_in_authorized_keys(login: Login) -> None:
    assert login.run("cat ~/.ssh/authorized_keys") == (0, f"{login.public_key}\n".encode(), b"")


def test_each_box_has_its_own_address_and_host_key_on_one_port_and_a_rekeyed_box_another_key(
    emulator: Emulator, tmp_path: Path
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    logins = [Login(emulator, folder) for folder in folders]
    keys = [host_key(login) for login in logins]
    emulator.rekey(logins[0].instance_id)
    after = [host_key(login) for login in logins]

    assert [login.address for login in logins] == [("127.0.1.1", emulator.ssh_port), ("127.0.1.2", emulator.ssh_port)]
    assert (keys[0] == keys[1], after[0] == keys[0], after[1] == keys[1]) == (False, False, True)


def host_key(login: Login) -> str:
    with login.transport() as transport:
        key = transport.get_remote_server_key()
        assert key.get_name() == "ssh-ed25519"
        return str(key.get_base64())


@needs_proc
def test_a_deleted_box_takes_its_connections_processes_and_files_with_it(login: Login) -> None:
    """Also processes that left their session, and those that ignore signals."""
    script = (
        "setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $!; trap '' TERM HUP; echo $$; while :; do sleep 1; done"
    )
    with login.connected() as transport, channel(transport) as session:
        session.exec_command(script)
        pids = [int(word) for word in read_lines(session, 2)]
        running = [Path(f"/proc/{pid}").exists() for pid in pids]
        address = login.address
        login.delete()
        cut = session.recv(1)

    gone = [not Path(f"/proc/{pid}").exists() or "Z" in state(pid) for pid in pids]
    assert (running, cut, gone, login.home.parent.exists()) == ([True, True], b"", [True, True], False)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=LIMIT_S)


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def read_lines(session: paramiko.Channel, count: int) -> list[bytes]:
    seen = b""
    while seen.count(b"\n") < count:
        chunk = session.recv(4096)
        assert chunk, seen
        seen += chunk
    return seen.split()


def test_sftp_carries_files_and_sees_nothing_outside_the_box(login: Login, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "outside").write_text("secret")
    with login.connected() as transport:
        sftp = paramiko.SFTPClient.from_transport(transport)
        assert sftp is not None
        with sftp:
            with sftp.open("up", "wb") as file:
                file.write(data)
            with sftp.open("up", "rb") as file:
                back = file.read()
            with pytest.raises(FileNotFoundError):
                sftp.stat(str(tmp_path / "outside"))
            listing = sorted(sftp.listdir("../../../"))

    assert (back, (login.home / "up").read_bytes()) == (data, data)
    assert listing == [".cache", ".config", ".local", ".ssh", "up"]


def test_a_port_of_the_box_itself_is_forwarded_and_none_of_another_machine(login: Login) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service, login.connected() as transport:
        service.settimeout(LIMIT_S)
        for host in ("localhost", "127.0.0.1"):
            with transport.open_channel(
                "direct-tcpip", (host, service.getsockname()[1]), ("127.0.0.1", 1), timeout=LIMIT_S
            ) as forwarded:
                served, _ = service.accept()
                with served:
                    served.sendall(b"there")
                    forwarded.sendall(b"back!")
                    assert (forwarded.recv(5), served.recv(5)) == (b"there", b"back!")
        with pytest.raises(paramiko.ChannelException):
            transport.open_channel("direct-tcpip", ("127.0.0.2", service.getsockname()[1]), ("127.0.0.1", 1))


@needs_ssh
def test_the_systems_ssh_runs_commands_with_input_and_exit_status(login: Login) -> None:
    data = os.urandom(2_000_000)

    done = login.ssh("cat; exit 6", stdin=data)

    assert (done.returncode, done.stdout, done.stderr) == (6, data, b"")


@needs_ssh
def test_the_systems_ssh_gets_a_real_terminal(login: Login) -> None:
    done = login.ssh("-tt", "tty -s && echo yes")

    assert (done.returncode, done.stdout) == (0, b"yes\r\n")


@needs_ssh
@pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync")
def test_rsync_copies_a_tree_to_a_box(login: Login, tmp_path: Path) -> None:
    source = tmp_path / "tree"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(100_000))
    host, port = login.address
    shell = f"ssh -F none -i {login.key_path} -p {port} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    command = ["rsync", "-a", "-e", f"{shell} -o LogLevel=ERROR", f"{source}/", f"ubuntu@{host}:copied/"]

    done = subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=False)

    assert (done.returncode, done.stderr) == (0, b"")
    assert (login.home / "copied" / "file").read_bytes() == (source / "file").read_bytes()


def test_an_instance_whose_key_cannot_be_read_lets_nobody_in(emulator: Emulator, tmp_path: Path) -> None:
    login = Login(emulator, tmp_path)
    login.instance_id = emulator.change(lambda state, now: state.add_instance(ACCOUNT, now, public_key="not a key"))

    with pytest.raises(paramiko.AuthenticationException), login.connected():
        pass
