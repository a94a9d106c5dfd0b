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
from providers.fal.network import Sockets
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
WALK_LIMIT_S = 1.0
OVERHEAD_S = 1.0
"""What a busy machine may add to a limit; far below `PATIENCE_S`, which a broken bound would take."""

HEAD = b"HTTP/1.1 201 Created\r\n"
STALLS = {
    "nothing": silence,
    "the head byte by byte": dribble(HEAD + b"X-A: ", b"a"),
    "informational answers": dribble(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "the body byte by byte": dribble(HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
}


CALLS: dict[str, Callable[[FalClient, float], object]] = {
    "create": lambda client, limit_s: client.create(REQUEST, idempotency_key="rl_1", timeout_s=limit_s),
    "get": lambda client, limit_s: client.get("inst_1", timeout_s=limit_s),
    "inventory": lambda client, limit_s: client.inventory(timeout_s=limit_s),
    "delete": lambda client, limit_s: client.delete("inst_1", timeout_s=limit_s),
    "account": lambda client, limit_s: client.account(timeout_s=limit_s),
}


def failing(call: Callable[[], object]) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        call()
    return caught.value


def slow_page(cursor: str) -> Behaviour:
    """One page of many, after more than half of the walk's limit."""

    def behave(server: FalServer, connection: socket.socket) -> None:
        server.stopping.wait(WALK_LIMIT_S * 0.6)
        connection.sendall(page(cursor=cursor))

    return behave


def create(client: FalClient, timeout_s: float = PATIENCE_S) -> CallFailed:
    return failing(lambda: client.create(REQUEST, idempotency_key="rl_1", timeout_s=timeout_s))


def timed(call: Callable[[], CallFailed]) -> tuple[CallFailed, float]:
    started_s = time.monotonic()
    return call(), time.monotonic() - started_s


@pytest.mark.holds("API-06")
@pytest.mark.parametrize("stall", STALLS)
def test_a_create_ends_at_its_limit_and_is_reset(server: FalServer, client: FalClient, stall: str) -> None:
    """Whatever arrives meanwhile; the server sees a reset, not an orderly end."""
    server.play(STALLS[stall])
    failure, elapsed_s = timed(lambda: create(client, LIMIT_S))
    assert elapsed_s < LIMIT_S + OVERHEAD_S
    assert str(failure) == "fal did not answer completely within 0.3 s"
    assert (failure.sent, failure.settles, type(failure.__cause__)) == (True, False, TimeoutError)
    assert (failure.answered, failure.status) == ((True, 201) if "body" in stall else (False, None))
    assert server.endings.get(timeout=PATIENCE_S) == "reset"


@pytest.mark.holds("API-06")
@pytest.mark.parametrize("stall", STALLS)
def test_a_read_on_a_kept_connection_ends_at_its_limit(server: FalServer, stall: str) -> None:
    """The next call finds a working connection."""
    server.play(page(), STALLS[stall], page())
    with client_of(server, timeout_s=LIMIT_S) as client:
        client.inventory()
        with pytest.raises(CallFailed, match=r"within 0\.3 s"):
            client.get("inst_1")
        assert client.inventory().instances == ()
    assert len(server.connections) == 2


@pytest.mark.holds("API-06")
@pytest.mark.parametrize("call", CALLS)
def test_a_call_ends_at_its_own_limit(server: FalServer, client: FalClient, call: str) -> None:
    """Long before the client's."""
    server.play(silence)
    failure, elapsed_s = timed(lambda: failing(lambda: CALLS[call](client, LIMIT_S)))
    assert elapsed_s < LIMIT_S + OVERHEAD_S
    assert (str(failure), failure.sent) == ("fal did not answer completely within 0.3 s", True)


@pytest.mark.holds("API-06")
@pytest.mark.parametrize("call", CALLS)
def test_the_earlier_of_two_limits_counts(server: FalServer, call: str) -> None:
    """The client's own limit holds for a call that would allow more."""
    server.play(silence)
    with client_of(server, timeout_s=LIMIT_S) as client:
        failure, elapsed_s = timed(lambda: failing(lambda: CALLS[call](client, PATIENCE_S)))
    assert elapsed_s < LIMIT_S + OVERHEAD_S
    assert str(failure) == "fal did not answer completely within 0.3 s"


@pytest.mark.holds("API-06")
@pytest.mark.parametrize(
    "limits_s", [(PATIENCE_S, WALK_LIMIT_S), (WALK_LIMIT_S, None)], ids=["its own", "the client's"]
)
def test_one_limit_covers_all_pages_of_an_inventory(server: FalServer, limits_s: tuple[float, float | None]) -> None:
    """Each page comes in time by itself; the walk is cut, and no part of it is an inventory."""
    clients_s, own_s = limits_s
    server.play(*[slow_page(cursor) for cursor in "abcdefgh"])
    with client_of(server, timeout_s=clients_s) as client:
        failure, elapsed_s = timed(lambda: failing(lambda: client.inventory(timeout_s=own_s)))
    assert elapsed_s < WALK_LIMIT_S + OVERHEAD_S
    assert str(failure) == "fal did not answer completely within 1 s"
    assert [request.target for request in server.requests] == [
        "/v1/compute/instances?limit=100",
        "/v1/compute/instances?limit=100&cursor=a",
    ]


@pytest.mark.parametrize("limit_s", [0.0, -1.0])
def test_a_create_without_time_left_is_not_sent(server: FalServer, client: FalClient, limit_s: float) -> None:
    assert create(client, limit_s).sent is False
    assert server.requests == []


@pytest.mark.holds("API-06", "API-16")
def test_one_limit_covers_all_redirects(server: FalServer, client: FalClient) -> None:
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


@pytest.mark.holds("API-07")
def test_an_answer_of_more_than_16_mib_is_refused(server: FalServer, client: FalClient) -> None:
    """While it streams, without waiting for its end."""
    server.play(dribble(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", b" " * 4 * 1024 * 1024))
    with pytest.raises(CallFailed, match="larger than 16 MiB") as caught:
        client.inventory()
    assert (caught.value.status, caught.value.settles) == (200, False)


@pytest.mark.holds("API-07")
def test_an_answer_of_16_mib_is_read(server: FalServer, client: FalClient) -> None:
    body = b'{"instances":[],"next_cursor":null,"has_more":false}'
    server.play(reply(200, raw=body.ljust(16 * 1024 * 1024)))
    assert client.inventory().instances == ()


class Impatient(Sockets):
    """A network on which every call is given up; `graces_s` are the seconds that each was left to end."""

    def __init__(self) -> None:
        super().__init__()
        self.graces_s: list[float] = []

    def carry_out(self, job: Callable[[], None], *, deadline_s: float, give_up: Callable[[], float]) -> bool:
        job()
        self.graces_s.append(give_up())
        return False


def test_what_was_given_up_is_waited_for_only_where_it_may_have_changed_something(server: FalServer) -> None:
    """A read that a stop signal breaks off does not hold up the DELETE."""
    network = Impatient()
    server.play(reply(200, instance()), reply(201, instance()), reply(204))
    with FalClient(server.url, KEY, now=lambda: NOW, network=network) as client:
        client.get("inst_1")
        client.create(REQUEST, idempotency_key="rl_1", timeout_s=PATIENCE_S)
        client.delete("inst_1")
    assert network.graces_s == [0.0, 0.5, 0.5]


@pytest.mark.holds("W-12")
def test_nothing_is_sent_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with FalClient(f"http://127.0.0.1:{port}", KEY, now=lambda: NOW) as client:
        failure = create(client)
    assert (failure.sent, failure.answered, failure.settles) == (False, False, False)
    assert str(failure) == "fal cannot be reached: [Errno 111] Connection refused"


@pytest.mark.holds("W-12")
def test_nothing_is_sent_where_the_connection_is_not_taken_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        url = f"http://127.0.0.1:{address[1]}"
        with socket.create_connection(address), FalClient(url, KEY, now=lambda: NOW) as client:
            failure = create(client, LIMIT_S)
    assert (failure.sent, failure.settles, type(failure.__cause__)) == (False, False, TimeoutError)


@pytest.mark.holds("API-06")
def test_a_request_that_was_given_up_before_its_first_byte_never_leaves() -> None:
    """A name lookup or a connection that succeeds too late sends nothing."""
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
