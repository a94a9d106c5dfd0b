"""The emulator over real sockets: its HTTP server, its control API, its faults on the wire, its clean stop."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from providers.emulator.faults import DateSkew, Defer, Delay, DropAfter, DropBefore, Fault, Status, Truncate
from providers.emulator.machines import Settings
from providers.emulator.messages import Request
from providers.emulator.serve import Emulator

STARTED_AT = datetime(2026, 8, 21, 12, tzinfo=UTC)
BODY = {"instance_type": "gpu_1x_h100_sxm5", "ssh_key": "ssh-ed25519 AAAA lease"}


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    # Time stands still unless a test moves it.
    with Emulator(tmp_path, started_at=STARTED_AT, monotonic_s=lambda: 0.0) as running:
        yield running


@pytest.fixture
def client(emulator: Emulator) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Key {emulator.key}"}
    with httpx.Client(base_url=emulator.url, headers=headers, trust_env=False, timeout=20) as connected:
        yield connected


@pytest.fixture
def control(emulator: Emulator) -> Iterator[httpx.Client]:
    url = f"http://127.0.0.1:{emulator.http_port}/_emulator"
    with httpx.Client(base_url=url, trust_env=False, timeout=20) as connected:
        yield connected


def exchange(emulator: Emulator, sent: bytes) -> bytes:
    """All that the server sends back until it closes."""
    with socket.create_connection(("127.0.0.1", emulator.http_port), timeout=20) as connection:
        connection.sendall(sent)
        received = bytearray()
        while chunk := connection.recv(65536):
            received += chunk
    return bytes(received)


def head(emulator: Emulator, first: str, *lines: str) -> bytes:
    fixed = ("Host: 127.0.0.1", f"Authorization: Key {emulator.key}", "Connection: close")
    return "\r\n".join((first, *fixed, *lines, "", "")).encode()


def test_one_connection_carries_a_whole_life_with_the_emulators_date(emulator: Emulator, client: httpx.Client) -> None:
    """The provider's part of API-01."""
    created = client.post("/compute/instances", json=BODY)
    instance_id = created.json()["id"]
    emulator.advance(2)
    ready = client.get(f"/compute/instances/{instance_id}")
    deleted = client.delete(f"/compute/instances/{instance_id}")
    emulator.advance(1)
    absent = client.get(f"/compute/instances/{instance_id}")

    answers = (created, ready, deleted, absent)
    assert [answer.status_code for answer in answers] == [201, 200, 204, 404]
    assert [answer.headers["date"] for answer in answers] == [
        "Fri, 21 Aug 2026 12:00:00 GMT",
        "Fri, 21 Aug 2026 12:00:02 GMT",
        "Fri, 21 Aug 2026 12:00:02 GMT",
        "Fri, 21 Aug 2026 12:00:03 GMT",
    ]
    assert (deleted.content, "content-length" in deleted.headers) == (b"", False)
    assert (ready.json()["status"], ready.json()["ip"].startswith("127.0.")) == ("ready", True)


def test_the_environment_is_all_that_a_client_needs(emulator: Emulator) -> None:
    assert emulator.environment() == {
        "RENTROLL_FAL_API_URL": f"http://127.0.0.1:{emulator.http_port}/v1",
        "RENTROLL_FAL_KEY": emulator.key,
        "RENTROLL_FAL_SSH_PORT": str(emulator.ssh_port),
        "RENTROLL_FAL_WORK_ROOT": "~/rentroll",
        "RENTROLL_RATES_GPU_1X_H100_SXM5": "3.00",
        "RENTROLL_RATES_GPU_8X_H100_SXM5": "24.00",
    }


@pytest.mark.parametrize(("effect", "instances"), [(DropBefore(), 0), (DropAfter(), 1)])
def test_a_drop_resets_the_connection(
    emulator: Emulator, client: httpx.Client, effect: DropBefore | DropAfter, instances: int
) -> None:
    """CRE-08 in the provider's part."""
    emulator.add_fault(Fault(call="create", effects=(effect,)))

    with pytest.raises(httpx.ReadError) as raised:
        client.post("/compute/instances", json=BODY)

    causes = []
    error: BaseException | None = raised.value
    while error is not None:
        causes.append(type(error))
        error = error.__cause__ or error.__context__
    assert ConnectionResetError in causes
    assert len(emulator.instances()) == instances


def test_a_truncated_answer_ends_inside_its_body(emulator: Emulator) -> None:
    emulator.add_fault(Fault(call="list", effects=(Truncate(sent_bytes=7),)))

    received = exchange(emulator, head(emulator, "GET /v1/compute/instances HTTP/1.1"))

    found_head, _, body = received.partition(b"\r\n\r\n")
    assert (body, b"content-length: 52\r\n" in found_head + b"\r\n") == (b'{"insta', True)


def test_a_delayed_answer_comes_when_the_emulators_clock_says_so(emulator: Emulator, client: httpx.Client) -> None:
    emulator.add_fault(Fault(call="create", effects=(Delay(3600),)))
    answers: list[int] = []
    waiting = threading.Thread(target=lambda: answers.append(client.post("/compute/instances", json=BODY).status_code))
    waiting.start()
    wait_for_requests(emulator, 1)
    before = (len(emulator.instances()), list(answers))
    emulator.advance(3600)
    waiting.join(20)

    assert (before, answers) == ((1, []), [201])


def test_a_deferred_create_is_made_although_its_client_has_gone(emulator: Emulator) -> None:
    emulator.add_fault(Fault(call="create", effects=(Defer(60),)))
    body = json.dumps(BODY).encode()
    sent = head(emulator, "POST /v1/compute/instances HTTP/1.1", "Content-Type: application/json")
    with socket.create_connection(("127.0.0.1", emulator.http_port), timeout=20) as connection:
        connection.sendall(sent[:-2] + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_for_requests(emulator, 1)
    before = emulator.instances()
    emulator.advance(60)
    wait_until(lambda: bool(emulator.instances()))

    assert (before, len(emulator.instances())) == ((), 1)


def wait_for_requests(emulator: Emulator, count: int) -> None:
    wait_until(lambda: len(emulator.journal()) >= count)


def wait_until(condition: Any) -> None:
    """Each look goes through the emulator's thread, so that looking is waiting; it gives up after many."""
    for _ in range(100_000):
        if condition():
            return
    raise AssertionError("it did not happen")


def test_the_date_header_can_be_left_out(emulator: Emulator, client: httpx.Client) -> None:
    emulator.add_fault(Fault(call="list", effects=(DateSkew(None),)))

    found = ["date" in client.get("/compute/instances").headers for _ in range(2)]

    assert found == [False, True]


def test_an_observer_sees_each_request_before_it_is_handled(tmp_path: Path) -> None:
    """CRE-03 in the provider's part: a test may look at the ledger at the instant a POST arrives."""
    seen: list[tuple[str, int]] = []

    def observe(request: Request) -> None:
        seen.append((request.method, len(running.instances())))

    with Emulator(tmp_path, started_at=STARTED_AT, observer=observe) as running:
        headers = {"Authorization": f"Key {running.key}"}
        httpx.post(f"{running.url}/compute/instances", json=BODY, headers=headers, trust_env=False)

        assert (seen, len(running.instances())) == ([("POST", 0)], 1)


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /v1/compute/instances HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/compute/instances HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
        b"POST /v1/compute/instances HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    ],
    ids=["line", "header", "length", "too-long", "chunk", "head-too-long"],
)
def test_what_is_no_request_is_answered_400_and_the_connection_is_closed(emulator: Emulator, sent: bytes) -> None:
    received = exchange(emulator, sent)

    assert (received.partition(b"\r\n")[0], emulator.journal()) == (b"HTTP/1.1 400 Bad Request", ())


def test_a_chunked_body_is_read_whole(emulator: Emulator) -> None:
    body = json.dumps(BODY).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:9], body[9:])) + b"0\r\n\r\n"
    lines = ("Content-Type: application/json", "Transfer-Encoding: chunked")

    received = exchange(emulator, head(emulator, "POST /v1/compute/instances HTTP/1.1", *lines) + chunks)

    assert (received[:20], emulator.journal()[0].body) == (b"HTTP/1.1 201 Created", body.decode())


def test_the_control_api_scripts_a_fault_moves_the_clock_and_shows_what_happened(
    emulator: Emulator, client: httpx.Client, control: httpx.Client
) -> None:
    fault = Fault(call="list", effects=(Status(status=503, retry_after_s=2),))
    scripted = control.post("/faults", content=msgspec.json.encode(fault)).status_code
    pending = msgspec.json.decode(control.get("/faults").content, type=dict[str, list[Fault]])
    first = client.get("/compute/instances")
    moved = control.post("/clock", json={"advance_s": 90}).json()
    instance_id = client.post("/compute/instances", json=BODY).json()["id"]
    shown = control.get("/instances").json()["instances"]
    journal = control.get("/journal", params={"since": 1}).json()["journal"]

    assert (scripted, pending) == (204, {"faults": [fault]})
    assert (first.status_code, first.headers["retry-after"]) == (503, "2")
    assert moved == {"now": "2026-08-21T12:01:30Z"}
    assert [(instance["id"], instance["created_at"]) for instance in shown] == [(instance_id, "2026-08-21T12:01:30Z")]
    assert [(entry["number"], entry["call"], entry["status"]) for entry in journal] == [(2, "create", 201)]


def test_the_control_api_adds_forces_and_removes_a_foreign_instance(
    client: httpx.Client, control: httpx.Client
) -> None:
    added = control.post("/instances", json={"account": "emulated-team", "public_key": "theirs"})
    instance_id = added.json()["id"]
    forced = control.put(f"/instances/{instance_id}/status", json={"status": "unknown"})
    status = client.get(f"/compute/instances/{instance_id}").json()["status"]
    removed = control.delete(f"/instances/{instance_id}")

    assert (added.status_code, forced.status_code, removed.status_code) == (201, 204, 204)
    assert (status, client.get("/compute/instances").json()["instances"]) == ("unknown", [])


def test_the_control_api_says_whom_a_box_lets_in(control: httpx.Client) -> None:
    body = {"account": "emulated-team", "ssh_policy": "every-key", "authorized_keys": "theirs"}
    instance_id = control.post("/instances", json=body).json()["id"]
    [before] = control.get("/instances").json()["instances"]
    changed = control.put(f"/instances/{instance_id}/ssh-policy", json={"ssh_policy": "anybody"})
    refused = control.put(f"/instances/{instance_id}/ssh-policy", json={"ssh_policy": "some"})
    unknown = control.put("/instances/inst_none/ssh-policy", json={"ssh_policy": "anybody"})
    [after] = control.get("/instances").json()["instances"]

    assert (before["ssh_policy"], before["authorized_keys"], after["ssh_policy"]) == ("every-key", "theirs", "anybody")
    assert (changed.status_code, refused.status_code, unknown.status_code) == (204, 400, 404)


def test_the_control_api_rotates_keys(emulator: Emulator, client: httpx.Client, control: httpx.Client) -> None:
    """CRD: a rotated key of the same account."""
    control.post("/keys", json={"key": "new-key", "account": "emulated-team"})
    control.request("DELETE", "/keys", json={"key": emulator.key})

    old = client.get("/compute/instances").status_code
    new = client.get("/compute/instances", headers={"Authorization": "Key new-key"}).status_code

    assert (old, new) == (401, 200)


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/nothing", {}, 404),
        ("POST", "/clock", {"json": {"advance_s": -1}}, 400),
        ("POST", "/faults", {"json": {"call": "list", "effects": [{"type": "unheard-of"}]}}, 400),
        ("POST", "/keys", {"json": {"key": "k", "account": "nobody"}}, 404),
        ("DELETE", "/instances/inst_unknown", {}, 404),
        ("POST", "/instances/inst_unknown/host-key", {}, 404),
        ("GET", "/instances", {"headers": {"Origin": "http://example.com"}}, 403),
        ("GET", "/instances", {"headers": {"Host": "rebound.example.com"}}, 403),
    ],
)
def test_the_control_api_refuses_what_it_does_not_know_and_whom_it_does_not_trust(
    control: httpx.Client, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    assert control.request(method, path, **options).status_code == status


def test_a_taken_port_is_reported_and_leaves_nothing_running(emulator: Emulator, tmp_path: Path) -> None:
    threads = set(threading.enumerate())

    with pytest.raises(OSError, match="in use"):
        Emulator(tmp_path, started_at=STARTED_AT, http_port=emulator.http_port).start()

    assert set(threading.enumerate()) == threads


def test_a_stopped_emulator_leaves_no_thread_socket_or_file_and_can_be_started_again(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    emulator = Emulator(tmp_path, started_at=STARTED_AT, settings=Settings(boot_s=0.0))
    for _ in range(2):
        with emulator, httpx.Client(trust_env=False) as client:
            headers = {"Authorization": f"Key {emulator.key}"}
            client.post(f"{emulator.url}/compute/instances", json=BODY, headers=headers)
            assert [entry.name for entry in tmp_path.iterdir()] == [emulator.instances()[0].id]
        emulator.stop()

    assert (set(threading.enumerate()), list(tmp_path.iterdir())) == (threads, [])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", emulator.http_port), timeout=20)


def test_stopping_does_not_wait_for_an_answer_that_is_held_back(tmp_path: Path) -> None:
    failures: list[type[Exception]] = []

    def ask(emulator: Emulator) -> None:
        try:
            headers = {"Authorization": f"Key {emulator.key}"}
            httpx.get(f"{emulator.url}/compute/instances", headers=headers, trust_env=False, timeout=60)
        except httpx.TransportError as error:
            failures.append(type(error))

    with Emulator(tmp_path, started_at=STARTED_AT) as emulator:
        emulator.add_fault(Fault(call="list", effects=(Delay(1e6),)))
        asking = threading.Thread(target=ask, args=(emulator,))
        asking.start()
        wait_for_requests(emulator, 1)
    asking.join(20)

    assert failures in ([httpx.RemoteProtocolError], [httpx.ReadError])


def test_the_pure_state_needs_no_network_and_no_ssh_library() -> None:
    program = "import sys, providers.emulator.state as s; print(sorted({'asyncssh', 'socket'} & set(sys.modules)))"

    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert shown.stdout == "[]\n"
