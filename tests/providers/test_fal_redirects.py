"""Which redirects are followed, by the rules and over the wire."""

from collections.abc import Callable

import pytest

from ledger.domain.ports import CallFailed, CreateRequest
from providers.fal.client import FalClient
from providers.fal.redirects import Refused, next_url
from tests.providers.fal_server import FalServer, instance, page, reply, running

REQUEST = CreateRequest(instance_type="gpu_1x_h100_sxm5", ssh_key="ssh-ed25519 AAAA rl")


def redirect(status: int, location: str) -> bytes:
    return reply(status, headers={"Location": location})


@pytest.mark.holds("API-15")
@pytest.mark.parametrize("status", [301, 302, 303])
@pytest.mark.parametrize("method", ["create", "delete"])
def test_a_mutation_is_never_turned_into_a_read(server: FalServer, client: FalClient, status: int, method: str) -> None:
    """The target receives no request."""
    server.play(redirect(status, "/v1/elsewhere"))
    calls: dict[str, Callable[[], object]] = {
        "create": lambda: client.create(REQUEST, idempotency_key="rl_1", timeout_s=5),
        "delete": lambda: client.delete("inst_1"),
    }
    with pytest.raises(CallFailed, match="unsafe redirect") as caught:
        calls[method]()
    failure = caught.value
    assert (failure.status, failure.sent, failure.answered, failure.settles) == (status, True, True, False)
    assert len(server.requests) == 1


@pytest.mark.holds("API-16")
@pytest.mark.parametrize("status", [307, 308])
def test_a_mutation_is_repeated_whole_where_the_method_is_preserved(
    server: FalServer, client: FalClient, status: int
) -> None:
    """Same method, headers and body; the final answer counts."""
    server.play(redirect(status, "/v1/moved"), reply(201, instance()), redirect(status, "moved"), reply(204))
    assert client.create(REQUEST, idempotency_key="rl_1", timeout_s=5).id == "inst_1"
    client.delete("inst_1")
    create, moved_create, delete, moved_delete = server.requests
    assert (moved_create.target, moved_create.method) == ("/v1/moved", "POST")
    assert (moved_create.headers, moved_create.body) == (create.headers, create.body)
    assert (moved_delete.target, moved_delete.method) == ("/v1/compute/instances/moved", "DELETE")
    assert moved_delete.headers == delete.headers


@pytest.mark.holds("API-17")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_call_leaves_its_origin(server: FalServer, client: FalClient, status: int) -> None:
    """The other origin is not contacted, the target not shown."""
    with running() as other:
        target = f"{other.url}/x?token=abcdef"
        server.play(*(redirect(status, target) for _ in range(3)))
        texts = []
        for call in (
            client.inventory,
            lambda: client.delete("inst_1"),
            lambda: client.create(REQUEST, idempotency_key="rl_1", timeout_s=5),
        ):
            with pytest.raises(CallFailed) as caught:
                call()
            texts.append(str(caught.value))
        assert other.requests == []
        assert other.connections == []
        assert not any(str(other.port) in text or "abcdef" in text for text in texts)


@pytest.mark.holds("API-18")
def test_a_read_follows_ten_redirects_and_no_more(server: FalServer, client: FalClient) -> None:
    hops = [redirect(302, f"/v1/hop?n={number}") for number in range(10)]
    server.play(*hops, page(), *hops, redirect(302, "/v1/hop"))
    assert client.inventory().instances == ()
    assert len(server.requests) == 11
    with pytest.raises(CallFailed, match="more than 10 redirects"):
        client.inventory()
    assert len(server.requests) == 22


HERE = "https://api.fal.ai/v1/compute/instances"


@pytest.mark.holds("API-17")
@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/v2", "https://api.fal.ai/v2"),
        ("https://API.fal.ai:443/v2?a=b#c", "https://api.fal.ai/v2?a=b"),
        ("//api.fal.ai/v2", "https://api.fal.ai/v2"),
        ("?limit=1", "https://api.fal.ai/v1/compute/instances?limit=1"),
    ],
)
def test_a_location_is_resolved_against_its_request(location: str, target: str) -> None:
    """An origin is scheme, host without case, and effective port."""
    assert next_url("GET", HERE, status=302, location=location) == target


@pytest.mark.holds("API-17")
@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://api.fal.ai/v2", "redirect to another origin"),
        ("https://api.fal.ai:444/v2", "redirect to another origin"),
        ("https://api.fal.ai.evil.example/", "redirect to another origin"),
        ("//evil.example", "redirect to another origin"),
        ("https://user@api.fal.ai/v2", "redirect to another origin"),
        ("ftp://api.fal.ai/", "redirect to another origin"),
        ("", "307 without a usable Location"),
        ("https://[::1", "307 without a usable Location"),
        ("https://api.fal.ai:port/", "307 without a usable Location"),
    ],
)
def test_a_location_that_is_not_ours_is_refused(location: str, reason: str) -> None:
    assert next_url("GET", HERE, status=307, location=location) == Refused(reason)
