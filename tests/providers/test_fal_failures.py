"""What is made of every answer that is no success, and of every answer that only looks like one."""

import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.errors import CredentialsFailure
from ledger.domain.ports import CallFailed, CreateRequest, InstanceAbsent, KeyRejected
from providers.fal.client import FalClient
from providers.fal.failures import http_date, retry_after_s
from tests.providers.fal_server import (
    KEY,
    NOW,
    FalServer,
    client_of,
    fault,
    hang_up,
    instance,
    page,
    reply,
)

REQUEST = CreateRequest(instance_type="gpu_1x_h100_sxm5", ssh_key="ssh-ed25519 AAAA rl")


def failure_of(call: Callable[[], object]) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        call()
    failure = caught.value
    assert failure.__context__ is None
    return failure


def create_failure(client: FalClient) -> CallFailed:
    return failure_of(lambda: client.create(REQUEST, idempotency_key="rl_1", timeout_s=5))


@pytest.mark.holds("API-04")
def test_fals_error_object_is_shown_and_kept(server: FalServer, client: FalClient) -> None:
    """Type, message, docs link, and the request id of the body."""
    error = {"type": "authorization_error", "message": "Access denied", "docs_url": "https://d", "request_id": "r1"}
    server.play(reply(403, {"error": error}, reason="Forbidden", headers={"X-Request-Id": "r2"}))
    failure = failure_of(client.inventory)
    assert isinstance(failure, KeyRejected)
    assert isinstance(failure, CredentialsFailure)
    assert failure.exit_code == 3
    assert vars(failure) == {
        "message": "fal API authorization_error: Access denied",
        "hint": "fal says more at https://d",
        "next_step": None,
        "lease_id": None,
        "retry_after_s": None,
        "sent": True,
        "answered": True,
        "settles": True,
        "status": 403,
        "error_type": "authorization_error",
        "request_id": "r1",
    }


@pytest.mark.holds("API-04")
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (fault(400, type="validation_error", message="no sector"), "fal API validation_error: no sector"),
        (reply(400, {"error": {"type": "x", "message": " "}}, reason="Bad Request"), "fal API x: 400 Bad Request"),
        (reply(502, reason="Bad Gateway"), "fal API 502 Bad Gateway"),
        (reply(500), "fal API 500"),
        (fault(400, type="x", message="a\x1b[2J\n b"), "fal API x: a [2J b"),
    ],
)
def test_an_error_reads_as_one_line_of_text(server: FalServer, client: FalClient, answer: bytes, text: str) -> None:
    server.play(answer)
    assert str(failure_of(client.inventory)) == text


@pytest.mark.holds("CRE-10", "PEER-15")
@pytest.mark.parametrize(
    ("status", "kind", "settles"),
    [
        (400, CallFailed, True),
        (401, KeyRejected, True),
        (403, KeyRejected, True),
        (404, CallFailed, True),
        (408, CallFailed, False),
        (409, CallFailed, False),
        (422, CallFailed, True),
        (429, CallFailed, True),
        (500, CallFailed, False),
        (503, CallFailed, False),
    ],
)
def test_only_an_understood_refusal_settles_a_create(
    server: FalServer, client: FalClient, status: int, kind: type[CallFailed], settles: bool
) -> None:
    """A 4xx settles only with fal's error object, 408 and 409 never."""
    server.play(fault(status, type="t", message="m"), reply(status, {"message": "m"}))
    understood, foreign = create_failure(client), create_failure(client)
    assert [(type(f), f.status, f.sent, f.answered, f.settles) for f in (understood, foreign)] == [
        (kind, status, True, True, settles),
        (kind, status, True, True, False),
    ]


@pytest.mark.holds("API-07")
@pytest.mark.parametrize(
    "answer",
    [
        reply(201),
        reply(201, {"id": "", "instance_type": "t", "region": "r", "status": "s"}),
        reply(201, {"id": "  ", "instance_type": "t", "region": "r", "status": "s"}),
        reply(201, {"id": 7, "instance_type": "t", "region": "r", "status": "s"}),
        reply(201, {"id": "inst_1"}),
        reply(201, raw=b"\xff\xfe"),
        reply(201, raw=b"[" * 100_000),
        reply(201, instance(), headers={"Content-Encoding": "gzip"}),
        reply(202, instance()),
        reply(204),
    ],
)
def test_a_create_that_answers_2xx_without_a_usable_instance_is_in_doubt(
    server: FalServer, client: FalClient, answer: bytes
) -> None:
    """No partial decode; only 200 and 201 are a create's answers."""
    server.play(answer)
    failure = create_failure(client)
    assert (failure.sent, failure.answered, failure.settles) == (True, True, False)


@pytest.mark.holds("API-05")
@pytest.mark.parametrize("answered_id", ["", "  ", "inst_2", "inst_1 "])
def test_a_get_must_name_the_instance_that_was_asked_for(
    server: FalServer, client: FalClient, answered_id: str
) -> None:
    server.play(reply(200, instance(answered_id)))
    failure = failure_of(lambda: client.get("inst_1"))
    assert (type(failure), failure.settles, failure.status) == (CallFailed, False, 200)


@pytest.mark.holds("DEL-14", "PEER-33")
@pytest.mark.parametrize("method", ["get", "delete"])
def test_absence_is_a_404_with_fals_error_object_only(server: FalServer, client: FalClient, method: str) -> None:
    server.play(fault(404, type="not_found", message="no such instance"), reply(404, raw=b"<html>not here</html>"))
    absent, unclear = (failure_of(lambda: getattr(client, method)("inst_1")) for _ in range(2))
    assert (type(absent), str(absent), absent.settles) == (
        InstanceAbsent,
        "fal API not_found: no such instance",
        True,
    )
    assert (type(unclear), str(unclear), unclear.settles) == (CallFailed, "fal API 404", False)


@pytest.mark.holds("API-19", "API-21")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b'{"instances":[],"has_more":false}',
        b'{"instances":[],"next_cursor":null}',
        b'{"next_cursor":null,"has_more":false}',
        b'{"instances":[],"next_cursor":null,"has_more":null}',
        b'{"instances":null,"next_cursor":null,"has_more":false}',
        b'{"instances":[],"next_cursor":2,"has_more":true}',
        b'{"instances":[],"next_cursor":null,"has_more":0}',
        b'{"instances":[],"next_cursor":null,"has_more":true}',
        b'{"instances":[],"next_cursor":"","has_more":true}',
        b'{"instances":[],"next_cursor":"2","has_more":false}',
        b'{"instances":[{"id":" ","instance_type":"t","region":"r","status":"s"}],"next_cursor":null,"has_more":false}',
        b'{"instances":[null],"next_cursor":null,"has_more":false}',
        b'{"instances":[],"next_cursor":null,"has_more":false}x',
    ],
)
def test_a_malformed_page_never_reads_as_no_instances(server: FalServer, client: FalClient, body: bytes) -> None:
    """On the first page and on a later one."""
    server.play(reply(200, raw=body), page(instance(), cursor="2"), reply(200, raw=body))
    for _ in range(2):
        failure = failure_of(client.inventory)
        assert (type(failure), failure.status, failure.exit_code) == (CallFailed, 200, 5)


@pytest.mark.holds("API-21")
def test_a_repeated_cursor_or_a_failing_page_ends_the_walk(server: FalServer, client: FalClient) -> None:
    """Never a partial inventory."""
    server.play(page(cursor="2"), page(cursor="3"), page(cursor="2"), page(instance(), cursor="2"), reply(500))
    assert str(failure_of(client.inventory)) == "fal API 200: the answer cannot be used: its cursor was there before"
    assert str(failure_of(client.inventory)) == "fal API 500"


@pytest.mark.holds("API-21")
def test_the_walk_ends_after_a_hundred_pages(server: FalServer, client: FalClient) -> None:
    server.play(*(page(instance(str(number)), cursor=str(number)) for number in range(100)))
    assert str(failure_of(client.inventory)) == "fal's inventory has more than 100 pages of 100"
    assert len(server.requests) == 100


@pytest.mark.holds("API-21")
def test_a_hundredth_page_may_be_the_last(server: FalServer, client: FalClient) -> None:
    server.play(*(page(instance(str(number)), cursor=str(number)) for number in range(99)), page(instance("99")))
    assert sorted(int(found.id) for found in client.inventory().instances) == list(range(100))


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_may_not_read_the_account_is_rejected(server: FalServer, client: FalClient, status: int) -> None:
    server.play(fault(status, type="authorization_error", message="no"))
    assert type(failure_of(client.account)) is KeyRejected


@pytest.mark.parametrize(
    "body",
    [
        b'{"username":" "}',
        b'{"credits":null}',
        b'{"username":"t","credits":{"current_balance":"NaN","currency":"USD"}}',
        b'{"username":"t","credits":{"current_balance":1e999999,"currency":"USD"}}',
    ],
)
def test_an_account_without_a_name_or_with_a_balance_that_is_none_is_refused(
    server: FalServer, client: FalClient, body: bytes
) -> None:
    server.play(reply(200, raw=body))
    assert str(failure_of(client.account)).startswith("fal API 200: the answer cannot be used: ")


@pytest.mark.holds("W-24")
def test_a_rate_limit_says_how_long_to_wait(server: FalServer, client: FalClient) -> None:
    limits = ["7", "Fri, 21 Aug 2026 12:00:09 GMT", "soon"]
    body = {"error": {"type": "rate_limited", "message": "slow down"}}
    server.play(*(reply(429, body, headers={"Retry-After": limit}) for limit in limits))
    failures = [create_failure(client) for _ in limits]
    assert [(f.retry_after_s, f.settles, f.error_type) for f in failures] == [
        (7, True, "rate_limited"),
        (9, True, "rate_limited"),
        (None, True, "rate_limited"),
    ]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("", None), ("-1", None), ("1.5", None), ("0", 0), ("9" * 5000, None), ("²", None)],
)
def test_a_retry_after_is_whole_seconds_or_nothing(header: str | None, seconds: int | None) -> None:
    assert retry_after_s(header, NOW) == seconds


def test_a_retry_after_in_the_past_is_no_wait() -> None:
    assert retry_after_s("Fri, 21 Aug 2026 11:00:00 GMT", NOW) == 0


@given(st.text(st.characters(max_codepoint=255)))
def test_any_text_may_stand_where_a_date_should(header: str) -> None:
    date = http_date(header)
    assert date is None or date.utcoffset() is not None


HARD_KEY = 'id-0001:quo"te\\back/slash'
ESCAPED = json.dumps(HARD_KEY)[1:-1]


def everything_shown(failure: CallFailed) -> str:
    return f"{failure} {failure!r} {vars(failure)} {failure.__cause__!r} {failure.__context__!r}"


@pytest.mark.holds("API-08", "API-09")
@pytest.mark.parametrize("echo", [HARD_KEY, ESCAPED, 'quo"te\\back/slash', quote(HARD_KEY, safe="")])
def test_a_key_that_the_server_repeats_is_masked_in_every_field(server: FalServer, echo: str) -> None:
    """Type, message, docs link and request id."""
    server.play(fault(401, type=echo, message=f"bad {echo}", docs_url=f"https://d/{echo}", request_id=echo))
    with client_of(server, key=HARD_KEY) as client:
        failure = failure_of(client.inventory)
    shown = everything_shown(failure)
    assert "quo" not in shown
    assert "back" not in shown
    assert str(failure).count("[redacted]") == 2
    assert (failure.hint or "").count("[redacted]") == 1
    assert (failure.request_id or "").count("[redacted]") == 1


@pytest.mark.holds("API-10")
def test_an_error_body_that_is_not_fals_is_dropped_whole(server: FalServer) -> None:
    """Only the status line is shown."""
    server.play(reply(400, raw=f'{{"oops":"{ESCAPED} other-token"}}'.encode(), reason="Bad Request"))
    with client_of(server, key=HARD_KEY) as client:
        failure = failure_of(client.inventory)
    assert str(failure) == "fal API 400 Bad Request"
    assert "other-token" not in everything_shown(failure)


@pytest.mark.holds("API-11")
def test_a_key_in_the_status_line_is_masked(server: FalServer, client: FalClient) -> None:
    server.play(reply(500, reason=f"Oops {KEY}"))
    assert str(failure_of(client.inventory)) == "fal API 500 Oops [redacted]"


@pytest.mark.holds("API-11")
def test_a_key_in_a_broken_answer_is_masked_and_the_cause_unreachable(server: FalServer, client: FalClient) -> None:
    """An answer that is no HTTP is repeated by the library's error."""
    server.play(hang_up(f"{KEY}: {KEY}\r\n\r\n".encode()))
    failure = failure_of(client.inventory)
    assert str(failure).startswith("the connection to fal broke: ")
    assert "s3cr3t-half" not in everything_shown(failure)
    assert failure.__cause__ is None
    assert (failure.sent, failure.answered, failure.settles) == (True, False, False)
