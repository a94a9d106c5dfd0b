"""Time, size and the end of a connection: no call outlasts its limit, and a create that nobody waits for is reset."""

import signal
import socket
import threading
import time
from collections.abc import Callable

import httpcore
import pytest

from ledger.domain.ports import CallFailed, CreateRequest
from providers.fal.attempt import Attempt, GivenUpError
from providers.fal.client import FalClient
from tests.providers.fal_server import (
    KEY,
    NOW,
    PATIENCE_S,
    Behaviour,
    FalServer,
    client_of,
    dribble,
    hang_up,
    instance,
    page,
    reply,
    silence,
)

REQUEST = CreateRequest(instance_type="gpu_1x_h100_sxm5", ssh_key="ssh-ed25519 AAAA rl")
LIMIT_S = 0.3
OVERHEAD_S = 1.0
"""What a busy machine may add to a limit; far below `PATIENCE_S`, which a broken bound would take."""

HEAD = b"HTTP/1.1 201 Created\r\n"
STALLS = {
    "nothing": silence,
    "the head byte by byte": dribble(HEAD + b"X-A: ", b"a"),
    "informational answers": dribble(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "the body byte by byte": dribble(HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
}


def create(client: FalClient, timeout_s: float = PATIENCE_S) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        client.create(REQUEST, idempotency_key="rl_1", timeout_s=timeout_s)
    return caught.value


def timed(call: Callable[[], CallFailed]) -> tuple[CallFailed, float]:
    started_s = time.monotonic()
    return call(), time.monotonic() - started_s


@pytest.mark.parametrize("stall", STALLS)
def test_a_create_ends_at_its_limit_and_is_reset(server: FalServer, client: FalClient, stall: str) -> None:
    """API-06: whatever arrives meanwhile; the server sees a reset, not an orderly end."""
    server.play(STALLS[stall])
    failure, elapsed_s = timed(lambda: create(client, LIMIT_S))
    assert elapsed_s < LIMIT_S + OVERHEAD_S
    assert str(failure) == "fal did not answer completely within 0.3 s"
    assert (failure.sent, failure.settles, type(failure.__cause__)) == (True, False, TimeoutError)
    assert (failure.answered, failure.status) == ((True, 201) if "body" in stall else (False, None))
    assert server.endings.get(timeout=PATIENCE_S) == "reset"


@pytest.mark.parametrize("stall", STALLS)
def test_a_read_on_a_kept_connection_ends_at_its_limit(server: FalServer, stall: str) -> None:
    """API-06: and the next call finds a working connection."""
    server.play(page(), STALLS[stall], page())
    with client_of(server, timeout_s=LIMIT_S) as client:
        client.inventory()
        with pytest.raises(CallFailed, match=r"within 0\.3 s"):
            client.get("inst_1")
        assert client.inventory().instances == ()
    assert len(server.connections) == 2


def test_the_earlier_of_two_limits_counts(server: FalServer) -> None:
    """API-06: the client's own limit holds for a create with a later one."""
    server.play(silence)
    with client_of(server, timeout_s=LIMIT_S) as client:
        failure, elapsed_s = timed(lambda: create(client, PATIENCE_S))
    assert elapsed_s < LIMIT_S + OVERHEAD_S
    assert str(failure) == "fal did not answer completely within 0.3 s"


@pytest.mark.parametrize("limit_s", [0.0, -1.0])
def test_a_create_without_time_left_is_not_sent(server: FalServer, client: FalClient, limit_s: float) -> None:
    assert create(client, limit_s).sent is False
    assert server.requests == []


def test_one_limit_covers_all_redirects(server: FalServer, client: FalClient) -> None:
    """API-06, API-16."""

    def slow_redirect(server: FalServer, connection: socket.socket) -> None:
        server.stopping.wait(LIMIT_S * 0.6)
        connection.sendall(reply(307, headers={"Location": "/v1/again"}))

    server.play(slow_redirect, slow_redirect, slow_redirect, slow_redirect)
    failure, elapsed_s = timed(lambda: create(client, LIMIT_S))
    assert elapsed_s < LIMIT_S + OVERHEAD_S
    assert (failure.sent, failure.settles, failure.answered) == (True, False, False)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (hang_up(), None),
        (hang_up(b"HTTP/1.1 20"), None),
        (hang_up(b"not http at all\r\n\r\n"), None),
        (hang_up(HEAD + b"Content-Length: 10\r\n\r\n{}"), 201),
        (hang_up(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"), 201),
    ],
)
def test_a_torn_create_is_in_doubt_and_reset(
    server: FalServer, client: FalClient, behaviour: Behaviour, status: int | None
) -> None:
    server.play(behaviour)
    failure = create(client)
    assert (failure.sent, failure.settles, failure.answered, failure.status) == (
        True,
        False,
        status is not None,
        status,
    )
    assert server.endings.get(timeout=PATIENCE_S) == "reset"


def test_an_answered_create_closes_its_connection_in_order(server: FalServer, client: FalClient) -> None:
    server.play(reply(201, instance()))
    client.create(REQUEST, idempotency_key="rl_1", timeout_s=PATIENCE_S)
    assert server.endings.get(timeout=PATIENCE_S) == "closed"


def test_an_interrupted_create_is_reset(server: FalServer, client: FalClient) -> None:
    """A Ctrl-C that reaches the call ends it as a limit does."""
    main = threading.get_ident()

    def interrupt(server: FalServer, connection: socket.socket) -> None:
        signal.pthread_kill(main, signal.SIGINT)
        connection.recv(1)

    server.play(interrupt)
    with pytest.raises(KeyboardInterrupt):
        client.create(REQUEST, idempotency_key="rl_1", timeout_s=PATIENCE_S)
    assert server.endings.get(timeout=PATIENCE_S) == "reset"


def test_an_answer_of_more_than_16_mib_is_refused(server: FalServer, client: FalClient) -> None:
    """API-07(a): while it streams, without waiting for its end."""
    server.play(dribble(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", b" " * 4 * 1024 * 1024))
    with pytest.raises(CallFailed, match="larger than 16 MiB") as caught:
        client.inventory()
    assert (caught.value.status, caught.value.settles) == (200, False)


def test_an_answer_of_16_mib_is_read(server: FalServer, client: FalClient) -> None:
    """API-07(a)."""
    body = b'{"instances":[],"next_cursor":null,"has_more":false}'
    server.play(reply(200, raw=body.ljust(16 * 1024 * 1024)))
    assert client.inventory().instances == ()


def test_nothing_is_sent_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with FalClient(f"http://127.0.0.1:{port}", KEY, now=lambda: NOW) as client:
        failure = create(client)
    assert (failure.sent, failure.answered, failure.settles) == (False, False, False)
    assert str(failure) == "fal cannot be reached: [Errno 111] Connection refused"


def test_nothing_is_sent_where_the_connection_is_not_taken_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        url = f"http://127.0.0.1:{address[1]}"
        with socket.create_connection(address), FalClient(url, KEY, now=lambda: NOW) as client:
            failure = create(client, LIMIT_S)
    assert (failure.sent, failure.settles, type(failure.__cause__)) == (False, False, TimeoutError)


def test_a_request_that_was_given_up_before_its_first_byte_never_leaves() -> None:
    """API-06: a name lookup or a connection that succeeds too late sends nothing."""
    attempt = Attempt(reset_unless_answered=True)
    attempt.give_up()
    started = {"request": httpcore.Request("POST", "https://fal.test/v1")}
    with pytest.raises(GivenUpError):
        attempt.observe("http11.send_request_headers.started", started)
    assert attempt.sent is False


def calling_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fal-call"]


def test_calls_share_one_thread_which_ends_with_the_client(server: FalServer) -> None:
    before = set(calling_threads())
    server.play(page(), reply(204), page())
    with client_of(server) as client:
        client.inventory()
        client.delete("inst_1")
        client.inventory()
        made = [thread for thread in calling_threads() if thread not in before]
        assert len(made) == 1
    made[0].join(PATIENCE_S)
    assert not made[0].is_alive()


def test_a_call_that_stalls_leaves_no_thread_behind(server: FalServer) -> None:
    before = set(calling_threads())
    server.play(STALLS["informational answers"])
    with client_of(server, timeout_s=LIMIT_S) as client, pytest.raises(CallFailed):
        client.inventory()
    for thread in set(calling_threads()) - before:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_calls_may_run_at_the_same_time(server: FalServer, client: FalClient) -> None:
    """Each of two calls waits in the server until the other has arrived."""
    both = threading.Barrier(2)

    def meet(server: FalServer, connection: socket.socket) -> None:
        both.wait(PATIENCE_S)
        connection.sendall(page())

    server.play(meet, meet)
    seen: list[int] = []
    callers = [threading.Thread(target=lambda: seen.append(len(client.inventory().instances))) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE_S)
    assert seen == [0, 0]
