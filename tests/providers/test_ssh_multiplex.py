"""The connection that the system's ssh keeps open: one for all, holding nothing of ours, and never in the way."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger.domain.errors import SshFailure
from ledger.domain.ports import Endpoint
from providers.ssh.box import SshBox
from providers.ssh.control import Master, answers, socket_path
from providers.ssh.hostkeys import HostKeyChanged
from providers.ssh.keys import LeaseKeys, known_hosts_path
from providers.ssh.multiplex import options, started, warm
from providers.ssh.openssh import ssh_command
from providers.ssh.system_ssh import open_channel
from tests.providers.site import HOLDER, WAIT_S, Seen, Site, ended, shell, site_of, until
from tests.providers.sshd import LEASE, keygen, needs_sshd

pytestmark = [needs_sshd, pytest.mark.skipif(shutil.which("ssh") is None, reason="needs ssh")]
SOON_S = 15.0
LISTENS = "00010000"
"""The flags of a socket that is listened on, in /proc/net/unix; ssh makes it under a longer name."""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_of(tmp_path / "site", use_library=False) as site:
        yield site


def connections(site: Site) -> int:
    """How many have been made to the server."""
    return site.server._accepted


def master_pid(site: Site) -> int:
    """The process that listens on the lease's socket: the one ssh whose socket it is."""
    sockets = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    inode = next(each[6] for each in sockets if each[3] == LISTENS and each[-1].startswith(f"{site.socket}."))
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(entry.readlink()) == f"socket:[{inode}]" for entry in (process / "fd").iterdir()):
                return int(process.name)
    raise AssertionError("nobody listens")


def said(site: Site, line: str) -> bytes:
    """What a command says on a channel of its own."""
    channel = open_channel(site.endpoint, site.server.keys.root, line)
    buffer, whole = bytearray(65_536), b""
    while count := channel.read_into(memoryview(buffer), WAIT_S):
        whole += buffer[:count]
    assert channel.exit_code(WAIT_S) == 0
    channel.close()
    return whole


def test_all_commands_use_one_connection(site: Site) -> None:
    for number in range(3):
        site.run(shell(f"run_{number}", "true"))
    assert connections(site) == 1


def test_a_warmed_box_needs_no_connection_any_more(site: Site) -> None:
    site.box.warm(site.endpoint)
    until(lambda: answers(site.socket))
    site.run(shell("run_a", "true"))
    assert connections(site) == 1


def test_a_box_that_never_answers_is_warmed_without_a_word_or_a_wait(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        site.box.warm(replace(site.endpoint, port=silent.getsockname()[1]))
        silent.accept()[0].close()


def test_a_box_that_is_not_there_is_warmed_without_a_word(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        site.box.warm(replace(site.endpoint, port=taken.getsockname()[1]))
        site.box.warm(replace(site.endpoint, lease_id="no lease"))


def test_two_that_begin_at_once_share_one_connection(site: Site) -> None:
    paths: list[str | None] = []
    threads = [
        threading.Thread(target=lambda: paths.append(started(site.endpoint, site.server.keys.root))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (paths, connections(site)) == ([site.socket] * 4, 1)


def test_of_a_warming_and_a_command_at_once_one_master_stays_and_nothing_else(site: Site) -> None:
    warm(site.endpoint, site.server.keys.root)
    site.run(shell("run_a", "true"))
    master = Master(site.socket)
    master.terminate()
    master.close()
    for process in site.server._served:
        process.wait(WAIT_S)


def test_the_master_holds_nothing_of_ours(site: Site) -> None:
    """A reader of our outputs sees their end while it stays; it is in a session of its own."""
    program = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "from ledger.domain.ports import Endpoint\n"
        "from providers.ssh.multiplex import started, warm\n"
        "root, port, user, key, how = sys.argv[2:]\n"
        "endpoint = Endpoint(lease_id='" + LEASE + "', host='127.0.0.1', port=int(port), user=user, host_key=key)\n"
        "print({'started': started, 'warm': warm}[how](endpoint, pathlib.Path(root)))"
    )
    words = [str(site.server.keys.root), str(site.server.port), getpass.getuser(), site.server.host_key]
    for how in ("warm", "started"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(ROOT), *words, how],
            capture_output=True,
            check=True,
            stdin=subprocess.PIPE,
            timeout=WAIT_S,
        )
    assert (done.stdout.decode(), done.stderr) == (f"{site.socket}\n", b"")
    number = master_pid(site)
    assert os.getsid(number) not in {os.getsid(0), os.getpid()}
    assert {str(Path(f"/proc/{number}/fd/{each}").readlink()) for each in (0, 1, 2)} == {os.devnull}


def test_a_master_that_was_killed_is_replaced(site: Site) -> None:
    site.run(shell("run_a", "true"))
    os.kill(master_pid(site), signal.SIGKILL)
    assert site.run(shell("run_b", "exit 3"))[0] == ended(3)
    assert (answers(site.socket), connections(site)) == (True, 2)


def test_a_master_that_is_stopped_is_gone_around_in_time(site: Site) -> None:
    site.run(shell("run_a", "true"))
    number = master_pid(site)
    os.kill(number, signal.SIGSTOP)
    try:
        begun_s = time.monotonic()
        assert site.run(shell("run_b", "exit 3"))[0] == ended(3)
        assert time.monotonic() - begun_s < SOON_S
    finally:
        os.kill(number, signal.SIGKILL)


def test_a_job_goes_on_when_its_master_is_killed_or_stops_answering(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("providers.ssh.agent_session.ASK_S", 0.2)
    seen = Seen()
    with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S) as workspace:
        line = "for each in 1 2 3; do echo $each; while [ ! -e go$each ]; do sleep 0.02; done; done"
        running = workspace.start(shell("run_a", line), seen.out, seen.err, told=seen.told.append)
    until(lambda: seen.stdout == b"1\n")
    os.kill(master_pid(site), signal.SIGKILL)
    until(lambda: len(seen.told) == 2)
    number = master_pid(site)
    os.kill(number, signal.SIGSTOP)
    for each in (1, 2, 3):
        (site.workspace / f"go{each}").touch()
    try:
        assert running.wait(WAIT_S).exit_code == 0
    finally:
        os.kill(number, signal.SIGKILL)
    assert bytes(seen.stdout) == b"1\n2\n3\n"


def test_a_server_that_lets_one_session_in_gets_connections_instead(tmp_path: Path) -> None:
    with site_of(tmp_path / "site", use_library=False) as site:
        (site.server.folder / "sshd_config").write_text(
            "MaxSessions 1\n" + (site.server.folder / "sshd_config").read_text()
        )
        until(lambda: started(site.endpoint, site.server.keys.root))
        with site.box.open(site.endpoint, site.place, HOLDER, wait_s=WAIT_S):
            assert len(site.box.runs(site.endpoint, site.place)) == 0
        assert connections(site) > 1


def test_a_master_ends_with_the_leases_key(site: Site) -> None:
    site.run(shell("run_a", "true"))
    path, number = site.socket, master_pid(site)
    site.server.keys.destroy(LEASE)
    for process in site.server._served:
        process.wait(WAIT_S)
    until(lambda: not Path(f"/proc/{number}").exists())
    assert list(Path(path).parent.iterdir()) == []


def test_to_destroy_a_key_needs_no_library_and_starts_no_program(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path;"
        "from providers.ssh.keys import LeaseKeys; LeaseKeys(Path(sys.argv[2])).destroy('rl_' + 'a' * 20);"
        "print([name for name in ('paramiko', 'cryptography', 'subprocess', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, ROOT, tmp_path], capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"


def test_over_the_system_ssh_a_job_loads_no_library(site: Site) -> None:
    site.run(shell("run_a", "true"))
    program = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "from ledger.domain.ports import Endpoint, Holder, JobSpec, Place\n"
        "from providers.ssh.box import SshBox\n"
        "from providers.ssh.keys import LeaseKeys\n"
        "root, port, user, key, work = sys.argv[2:]\n"
        "endpoint = Endpoint(lease_id='" + LEASE + "', host='127.0.0.1', port=int(port), user=user, host_key=key)\n"
        "holder, place = Holder(run_id=None, host='h', pid=1, purpose='run'), Place(root=work, lease_id='"
        + LEASE
        + "')\n"
        "box = SshBox(LeaseKeys(pathlib.Path(root)))\n"
        "with box.open(endpoint, place, holder, wait_s=9) as workspace:\n"
        "    running = workspace.start(JobSpec(run_id='run_b', argv=('true',)), print, print)\n"
        "assert running.wait().exit_code == 0\n"
        "heavy = ('paramiko', 'cryptography', 'subprocess', 'asyncio', 'tempfile', 'shlex', 'json')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    words = [
        str(site.server.keys.root),
        str(site.server.port),
        getpass.getuser(),
        site.server.host_key,
        str(site.folder),
    ]
    done = subprocess.run([sys.executable, "-c", program, ROOT, *words], capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"


def test_a_folder_that_is_not_ours_alone_is_not_used(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open to others, or a link: then another is used, and none where none will do."""
    runtime = Path(os.environ["XDG_RUNTIME_DIR"])
    (runtime / "rentroll").mkdir(mode=0o755)
    monkeypatch.setattr("providers.ssh.control._SHARED", f"{runtime}/rentroll-shared")
    assert site.socket.startswith(f"{runtime}/rentroll-shared/")
    (runtime / "rentroll-shared").rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (runtime / "rentroll-shared").symlink_to(tmp_path / "elsewhere")
    long = LeaseKeys(tmp_path / ("long" * 20))
    long.make(LEASE)
    assert socket_path(site.endpoint, long.root) is None
    short = LeaseKeys(runtime / "k")
    short.make(LEASE)
    assert (socket_path(site.endpoint, short.root) or "").startswith(f"{runtime}/k/{LEASE}/")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_without_a_place_for_a_socket_each_command_has_its_connection(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("providers.ssh.control._PATH_LIMIT_BYTES", 10)
    assert options(site.endpoint, site.server.keys.root)["ControlPath"] == "none"
    site.run(shell("run_a", "true"))
    before = connections(site)
    assert site.run(shell("run_b", "echo out; echo err >&2; exit 7")) == (ended(7, 4, 4), b"out\n", b"err\n")
    assert connections(site) == before + 1
    site.box.warm(site.endpoint)
    assert connections(site) == before + 1


def test_the_name_of_a_socket_tells_leases_folders_and_boxes_apart(site: Site, tmp_path: Path) -> None:
    root = site.server.keys.root
    paths = [
        socket_path(site.endpoint, root),
        socket_path(replace(site.endpoint, lease_id="rl_" + "z" * 20), root),
        socket_path(replace(site.endpoint, host="127.0.0.2"), root),
        socket_path(replace(site.endpoint, host_key="ssh-ed25519 AAAA"), root),
        socket_path(site.endpoint, tmp_path),
    ]
    assert len(set(paths)) == len(paths)
    assert socket_path(site.endpoint, root) == paths[0]


def test_the_options_let_plain_ssh_use_the_connection(site: Site) -> None:
    root = site.server.keys.root
    site.run(shell("run_a", "true"))
    line = ssh_command(site.endpoint, root, argv=["echo", "hi"], extra=options(site.endpoint, root))
    done = subprocess.run(line, capture_output=True, check=True, stdin=subprocess.DEVNULL, timeout=WAIT_S)
    assert (done.stdout, connections(site)) == (b"hi\n", 1)


def test_a_recorded_host_key_is_required_also_where_known_hosts_is_lost(site: Site) -> None:
    known_hosts_path(site.server.keys.root, LEASE).unlink()
    assert said(site, "echo hi") == b"hi\n"


def test_another_host_key_is_refused_before_anything_is_sent(site: Site, tmp_path: Path) -> None:
    site.endpoint = replace(site.endpoint, host_key=keygen(tmp_path / "stranger"))
    with pytest.raises(HostKeyChanged, match=r"the host key has changed; SHA256:\S+ was recorded") as caught:
        site.run(shell("run_a", "true"))
    assert caught.value.stage == "host-key"
    assert site.server.authentication_attempts() == 0


def failure(site: Site, endpoint: Endpoint) -> SshFailure:
    with pytest.raises(SshFailure) as caught:
        SshBox(site.server.keys).open(endpoint, site.place, HOLDER, wait_s=WAIT_S)
    return caught.value


@pytest.mark.parametrize("limit", [84, 10], ids=["kept open", "alone"])
class TestStages:
    """A connection that cannot be opened says how far it came, in the same words whoever opens it."""

    @pytest.fixture(autouse=True)
    def limited(self, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("providers.ssh.control._PATH_LIMIT_BYTES", limit)

    def test_nobody_listens(self, site: Site) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            failed = failure(site, replace(site.endpoint, port=port))
        assert (failed.stage, failed.message) == ("tcp", f"127.0.0.1:{port}: no TCP connection: connection refused.")

    def test_no_such_name(self, site: Site) -> None:
        assert failure(site, replace(site.endpoint, host="host.invalid")).stage == "tcp"

    def test_no_ssh_server(self, site: Site) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        listener.accept()[0].close()

            threading.Thread(target=serve).start()
            failed = failure(site, replace(site.endpoint, port=listener.getsockname()[1]))
            listener.shutdown(socket.SHUT_RDWR)
        assert failed.stage == "host-key"
        assert "no host key: connection" in failed.message

    def test_the_key_is_not_known(self, site: Site) -> None:
        (site.server.folder / "authorized_keys").write_text("")
        failed = failure(site, site.endpoint)
        assert (failed.stage, failed.message) == (
            "authentication",
            f"127.0.0.1:{site.server.port}: not let in with the lease's key: permission denied (publickey,password).",
        )

    def test_the_key_is_gone(self, site: Site) -> None:
        (site.server.keys.private_path(LEASE)).unlink()
        assert failure(site, site.endpoint).stage == "authentication"


def test_without_ssh_the_library_does_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    site.run(shell("run_a", "true"))
    assert not answers(site.socket)
