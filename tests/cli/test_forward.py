"""`forward`: ports of the box on this machine's loopback, until Ctrl-C."""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from providers.emulator.serve import Emulator
from tests.cli.running import Rentroll, finish, spawn, until

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh on this machine")
needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
LIMIT_S = 30.0


both_ways = pytest.mark.usefixtures("way")


@pytest.fixture(params=[pytest.param("", marks=needs_ssh), "library"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the system's ssh, and as where there is none."""
    monkeypatch.setenv("RENTROLL_SSH", request.param)


@pytest.fixture
def service() -> Iterator[socket.socket]:
    """What listens on the box: an emulated one shares this machine's loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT_S)
        yield listener


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


@contextmanager
def forwarding(*words: str) -> Iterator["tuple[subprocess.Popen[bytes], Any]"]:
    """A running `forward --json` that is ready: its process and its object."""
    with spawn(["forward", *words, "--json"]) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def exchange(port: int, service: socket.socket) -> None:
    """Bytes go both ways."""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as near:
        far, _ = service.accept()
        with far:
            near.sendall(b"ask")
            far.sendall(b"say")
            assert (far.recv(3), near.recv(3)) == (b"ask", b"say")


@both_ways
def test_several_ports_lead_to_the_box_and_ctrl_c_ends_them_with_0(box: Any, service: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(LIMIT_S)
        with forwarding("box", f"0:{port_of(service)}", f"0:{port_of(other)}") as (process, told):
            ports = [each["local_port"] for each in told["forwards"]]
            assert told == {
                "schema": "rentroll.forward/1",
                "lease_id": box["lease_id"],
                "slug": "box",
                "forwards": [
                    {"local_port": local, "remote_port": port_of(remote), "url": f"http://127.0.0.1:{local}/"}
                    for local, remote in zip(ports, (service, other), strict=True)
                ],
            }
            exchange(ports[0], service)
            exchange(ports[1], other)
            process.send_signal(signal.SIGINT)
            ran = finish(process)
    assert (ran.code, ran.out) == (0, "")
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)


@needs_ssh
def test_without_json_a_port_is_its_url(box: Any, service: socket.socket) -> None:
    with spawn(["forward", "box", f"0:{port_of(service)}"]) as process:
        assert process.stdout is not None
        url, arrow, there = process.stdout.readline().decode().split()
        assert (arrow, there) == ("->", f"box:{port_of(service)}")
        exchange(int(url.removeprefix("http://127.0.0.1:").removesuffix("/")), service)
        process.terminate()
        assert finish(process).code == 143


@both_ways
def test_only_this_machine_can_connect(box: Any, service: socket.socket) -> None:
    with forwarding("box", f"0:{port_of(service)}") as (_, told), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", told["forwards"][0]["local_port"]), timeout=LIMIT_S)


@needs_ssh
def test_a_local_port_that_is_taken_is_a_usage_error_before_the_box_is_touched(
    rentroll: Rentroll, box: Any, service: socket.socket
) -> None:
    ran = rentroll("forward", "box", str(port_of(service)), "--json")
    assert (ran.code, ran.error["message"]) == (
        2,
        f"port {port_of(service)} of this machine cannot be listened on: address already in use",
    )
    assert rentroll("status", "box", "--json").json["last_touched_at"] == box["last_touched_at"]


def test_a_local_port_that_is_given_twice_is_a_usage_error_before_the_box_is_touched(
    rentroll: Rentroll, box: Any
) -> None:
    ran = rentroll("forward", "box", "8888", "8888:8889", "--json")
    assert (ran.code, ran.error["message"]) == (2, "port 8888 of this machine is given twice")
    assert rentroll("status", "box", "--json").json["last_touched_at"] == box["last_touched_at"]


@pytest.mark.parametrize("text", ["0", "http", "1:2:3", "65536", "65536:80", "-1", "٣", ""])
def test_what_is_no_port_is_refused(rentroll: Rentroll, box: Any, text: str) -> None:
    assert rentroll("forward", "box", "--", text).code == 2


@both_ways
def test_a_lost_connection_ends_it_with_7(box: Any, service: socket.socket, emulator: Emulator) -> None:
    with forwarding("box", f"0:{port_of(service)}") as (process, _):
        emulator.rekey(box["instance_id"])
        ran = finish(process)
    assert (ran.code, json.loads(ran.out)["error"]["message"]) == (7, "the connection to box was lost")


@both_ways
def test_a_host_key_that_changed_is_7(rentroll: Rentroll, box: Any, emulator: Emulator, service: socket.socket) -> None:
    emulator.rekey(box["instance_id"])
    assert rentroll("forward", "box", f"0:{port_of(service)}").code == 7


@needs_ssh
def test_it_is_a_sign_of_life(rentroll: Rentroll, box: Any, service: socket.socket) -> None:
    with forwarding("box", f"0:{port_of(service)}"):
        assert rentroll("status", "box", "--json").json["last_touched_at"] > box["last_touched_at"]


@needs_ssh
@needs_proc
def test_nothing_of_it_outlives_a_kill(box: Any, service: socket.socket) -> None:
    with forwarding("box", f"0:{port_of(service)}") as (process, told):
        spec = f"127.0.0.1:{told['forwards'][0]['local_port']}:localhost:{port_of(service)}".encode()
        assert len(running_with(spec)) == 1
        process.kill()
        process.wait()
        until(lambda: running_with(spec) == [])


def running_with(word: bytes) -> list[str]:
    """The processes that have a word among their arguments."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
        try:
            words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if word in words:
            found.append(name)
    return found


def test_a_released_lease_forwards_nothing(rentroll: Rentroll, box: Any) -> None:
    rentroll("stop", "box")
    assert rentroll("forward", box["lease_id"], "8888").code == 4
