"""What leaves for fal, and what is made of its good answers."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from ledger.domain.errors import CredentialsFailure, UsageFailure
from ledger.domain.ports import Account, CreateRequest, Instance, Inventory, Provider
from providers.fal.client import FalClient
from tests.providers.fal_server import (
    KEY,
    NOW,
    FalServer,
    Recorded,
    client_of,
    instance,
    page,
    reply,
    sent_headers,
)

REQUEST = CreateRequest(instance_type="gpu_8x_h100_sxm5", ssh_key="ssh-ed25519 AAAA rl", sector="sector_2")


@pytest.mark.holds("API-01", "API-02")
def test_every_call_is_one_documented_request(server: FalServer, client: FalClient) -> None:
    """Paths, queries, headers and bodies, the idempotency key on the create alone."""
    provider: Provider = client
    server.play(
        page(instance("inst_2"), cursor="Mg=="),
        page(instance("inst_1")),
        reply(200, instance("inst_1")),
        reply(201, instance("inst_3", sector="sector_2", ip="203.0.113.4", creator_user_nickname="dev")),
        reply(204),
        reply(200, {"username": "team"}),
    )
    provider.inventory()
    provider.get("inst_1")
    created = provider.create(REQUEST, idempotency_key=" rl_1 ", timeout_s=5)
    provider.delete("inst_1")
    provider.account()

    plain = sent_headers(server)
    body = b'{"instance_type":"gpu_8x_h100_sxm5","ssh_key":"ssh-ed25519 AAAA rl","sector":"sector_2"}'
    create_headers = sent_headers(
        server, content_type="application/json", idempotency_key="rl_1", content_length=str(len(body))
    )
    assert server.requests == [
        Recorded("GET", "/v1/compute/instances?limit=100", plain),
        Recorded("GET", "/v1/compute/instances?limit=100&cursor=Mg%3D%3D", plain),
        Recorded("GET", "/v1/compute/instances/inst_1", plain),
        Recorded("POST", "/v1/compute/instances", create_headers, body),
        Recorded("DELETE", "/v1/compute/instances/inst_1", plain),
        Recorded("GET", "/v1/account/billing?expand=credits", plain),
    ]
    assert created == Instance(
        id="inst_3",
        instance_type="gpu_1x_h100_sxm5",
        region="us-west",
        status="ready",
        ip="203.0.113.4",
        sector="sector_2",
        creator_user_nickname="dev",
    )


@pytest.mark.holds("API-01")
def test_a_create_without_a_sector_names_none(server: FalServer, client: FalClient) -> None:
    """Only a non-empty sector is in the body."""
    server.play(reply(201, instance()))
    client.create(CreateRequest(instance_type="t", ssh_key="k", sector=""), idempotency_key="rl_1", timeout_s=5)
    assert server.requests[0].body == b'{"instance_type":"t","ssh_key":"k"}'


def test_a_create_without_an_idempotency_key_is_not_sent(server: FalServer, client: FalClient) -> None:
    with pytest.raises(UsageFailure):
        client.create(REQUEST, idempotency_key=" ", timeout_s=5)
    assert server.requests == []


@pytest.mark.holds("API-03")
@pytest.mark.parametrize("blank", ["", "  ", "\t", ".", "..", "\udc80"])
def test_an_id_that_is_none_never_reaches_the_wire(server: FalServer, client: FalClient, blank: str) -> None:
    """Neither get nor delete can hit the collection."""
    with pytest.raises(UsageFailure):
        client.get(blank)
    with pytest.raises(UsageFailure):
        client.delete(blank)
    assert server.requests == []


@pytest.mark.holds("API-03")
@pytest.mark.parametrize(
    ("instance_id", "segment"),
    [("a/../b", "a%2F..%2Fb"), ("a%2Fb", "a%252Fb"), ("a?b#c", "a%3Fb%23c"), ("é x", "%C3%A9%20x")],
)
def test_an_id_is_one_path_segment(server: FalServer, client: FalClient, instance_id: str, segment: str) -> None:
    """Ids are percent-encoded."""
    server.play(reply(200, instance(instance_id)))
    assert client.get(instance_id).id == instance_id
    assert server.requests[0].target == f"/v1/compute/instances/{segment}"


@pytest.mark.holds("API-21", "W-40")
def test_an_inventory_is_sorted_dated_at_its_start_and_without_repeats(server: FalServer, client: FalClient) -> None:
    """Pages may overlap while boxes come and go."""
    server.play(page(instance("b"), instance("c"), cursor="2"), page(instance("c", status="stopped"), instance("a")))
    expected = [("a", "ready"), ("b", "ready"), ("c", "stopped")]
    assert client.inventory() == Inventory(
        begun_at=NOW,
        instances=tuple(
            Instance(id=i, instance_type="gpu_1x_h100_sxm5", region="us-west", status=status) for i, status in expected
        ),
    )


@pytest.mark.holds("API-20")
def test_an_empty_inventory_is_complete(server: FalServer, client: FalClient) -> None:
    server.play(page())
    assert client.inventory() == Inventory(begun_at=NOW, instances=())


@pytest.mark.holds("API-22", "W-08")
def test_unlisted_values_and_unknown_fields_are_kept_or_ignored_not_refused(
    server: FalServer, client: FalClient
) -> None:
    """A status that fal adds later is passed on as it is; an empty address is none."""
    server.play(reply(200, instance(status="booting", region="mars", ip="", gpus=8)))
    assert client.get("inst_1") == Instance(
        id="inst_1", instance_type="gpu_1x_h100_sxm5", region="mars", status="booting"
    )


@pytest.mark.holds("API-07")
@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_delete_needs_no_body(server: FalServer, client: FalClient, status: int) -> None:
    server.play(reply(status))
    client.delete("inst_1")
    assert [(request.method, request.body) for request in server.requests] == [("DELETE", b"")]


@pytest.mark.parametrize(
    ("written", "balance"),
    [("24.50", "24.50"), ("0.10000000000000000555", "0.10000000000000000555"), ("1e3", "1000"), ("7", "7")],
)
def test_a_balance_is_read_digit_for_digit(server: FalServer, client: FalClient, written: str, balance: str) -> None:
    raw = f'{{"username":"team","credits":{{"current_balance":{written},"currency":"USD"}}}}'.encode()
    server.play(reply(200, raw=raw))
    assert client.account() == Account(username="team", balance=balance, currency="USD")


def test_the_date_of_the_newest_answer_is_known_and_forgotten_with_the_next(
    server: FalServer, client: FalClient
) -> None:
    dated = {"Date": "Fri, 21 Aug 2026 12:00:00 GMT"}
    server.play(reply(404, {}, headers=dated), page(), reply(200, instance(), headers={"Date": "yesterday"}))
    seen = [client.server_date]
    with pytest.raises(Exception, match="fal API 404"):
        client.get("inst_1")
    seen.append(client.server_date)
    client.inventory()
    seen.append(client.server_date)
    client.get("inst_1")
    seen.append(client.server_date)
    assert seen == [None, NOW, None, None]


def test_each_thread_knows_the_date_of_its_own_newest_answer(server: FalServer, client: FalClient) -> None:
    """Recovery asks for many leases at a time."""
    dates = [{"Date": f"Fri, 21 Aug 2026 {hour}:00:00 GMT"} for hour in (12, 13)]
    server.play(*(reply(204, headers=date) for date in dates))
    client.delete("inst_1")

    def ask() -> list[datetime | None]:
        before = client.server_date
        client.delete("inst_2")
        return [before, client.server_date]

    with ThreadPoolExecutor(1) as other:
        assert other.submit(ask).result() == [None, NOW + timedelta(hours=1)]
    assert client.server_date == NOW


def test_reads_share_a_connection_and_mutations_have_their_own(server: FalServer, client: FalClient) -> None:
    server.play(page(), reply(204), page(), reply(201, instance()), page())
    client.inventory()
    client.delete("inst_1")
    client.inventory()
    client.create(REQUEST, idempotency_key="rl_1", timeout_s=5)
    client.inventory()
    assert len(server.connections) == 3


def test_the_key_is_trimmed_and_never_shown(server: FalServer) -> None:
    with client_of(server, key=f"  {KEY}\n") as client:
        server.play(page())
        client.inventory()
        assert server.requests[0].headers["authorization"] == f"Key {KEY}"
        assert repr(client) == f"FalClient(scope='endpoint:{server.url}')"


@pytest.mark.parametrize("key", ["", "  ", "a b", "clé", "a\x00b"])
def test_a_key_that_is_none_is_refused_without_being_repeated(key: str) -> None:
    with pytest.raises(CredentialsFailure) as caught:
        FalClient("", key, now=lambda: NOW)
    assert str(caught.value) in {"The fal API key is missing.", "The fal API key holds characters that no key has."}


@pytest.mark.holds("API-13")
def test_the_default_endpoint_is_fals_own() -> None:
    """Blank means the default; making the client contacts nobody."""
    assert FalClient(" ", KEY, now=lambda: NOW).scope == "endpoint:https://api.fal.ai/v1"
