"""https: the authorities and the proxy of the environment, and what has left when either fails."""

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ledger.domain.ports import CallFailed, CreateRequest
from providers.fal.client import FalClient
from providers.fal.connections import shared_ssl_context
from tests.providers.fal_server import KEY, NOW, Behaviour, FalServer, Recorded, instance, read_request, reply, running

REQUEST = CreateRequest(instance_type="gpu_1x_h100_sxm5", ssh_key="ssh-ed25519 AAAA rl")
HOST = "fal.test"
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An environment without proxies and authorities, and a process that has not made its context yet."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    shared_ssl_context.cache_clear()
    yield monkeypatch
    shared_ssl_context.cache_clear()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate, its own authority, for `HOST` and loopback, in one file with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    names = [x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2100, 1, 1, tzinfo=dt.UTC))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


def tunnel(certificate: Path, requests: list[Recorded]) -> Behaviour:
    """A proxy that takes a CONNECT and is itself the https server behind it: it records one request and creates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def behave(server: FalServer, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with (
            contextlib.suppress(OSError),
            context.wrap_socket(connection.dup(), server_side=True) as secured,
            secured.makefile("rb") as stream,
        ):
            request = read_request(stream)
            assert request is not None
            requests.append(request)
            secured.sendall(reply(201, instance()))
            stream.read(1)

    return behave


@pytest.fixture
def server() -> Iterator[FalServer]:
    with running() as running_server:
        yield running_server


def create(client: FalClient) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        client.create(REQUEST, idempotency_key="rl_1", timeout_s=10)
    return caught.value


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "all_proxy"])
def test_a_create_goes_through_the_proxy_of_the_environment_which_never_sees_the_key(
    environment: pytest.MonkeyPatch, server: FalServer, certificate: Path, variable: str
) -> None:
    environment.setenv(variable, f"127.0.0.1:{server.port}")
    environment.setenv("SSL_CERT_FILE", str(certificate))
    inner: list[Recorded] = []
    server.play(tunnel(certificate, inner))
    with FalClient(f"https://{HOST}/v1", KEY, now=lambda: NOW) as client:
        assert client.create(REQUEST, idempotency_key="rl_1", timeout_s=10).id == "inst_1"
    (connect,) = server.requests
    assert (connect.method, connect.target) == ("CONNECT", f"{HOST}:443")
    assert KEY not in str(connect)
    assert [(r.method, r.target, r.headers["authorization"]) for r in inner] == [
        ("POST", "/v1/compute/instances", f"Key {KEY}")
    ]


@pytest.mark.holds("W-12")
def test_an_unknown_authority_stops_a_create_before_its_first_byte(
    environment: pytest.MonkeyPatch, server: FalServer, certificate: Path
) -> None:
    environment.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
    inner: list[Recorded] = []
    server.play(tunnel(certificate, inner))
    with FalClient(f"https://{HOST}/v1", KEY, now=lambda: NOW) as client:
        failure = create(client)
    assert (failure.sent, failure.answered, failure.settles) == (False, False, False)
    assert "certificate verify failed" in str(failure)
    assert inner == []


@pytest.mark.holds("W-12")
def test_a_proxy_that_refuses_stops_a_create_before_its_first_byte(
    environment: pytest.MonkeyPatch, server: FalServer
) -> None:
    environment.setenv("HTTPS_PROXY", f"http://user:hunter2@127.0.0.1:{server.port}")
    server.play(reply(407, reason="Proxy Authentication Required"))
    with FalClient(f"https://{HOST}/v1", KEY, now=lambda: NOW) as client:
        failure = create(client)
    assert (failure.sent, failure.answered, failure.status) == (False, False, None)
    assert str(failure) == "fal cannot be reached: 407 Proxy Authentication Required"
    assert [request.method for request in server.requests] == ["CONNECT"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("HTTPS_PROXY", "gopher://hunter2"), ("ALL_PROXY", "hunter2://h"), ("SSL_CERT_FILE", "/no/hunter2.pem")],
)
def test_an_unusable_setting_of_the_environment_is_named_and_nothing_sent(
    environment: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    environment.setenv(variable, value)
    with FalClient(f"https://{HOST}/v1", KEY, now=lambda: NOW) as client:
        failure = create(client)
    assert (failure.sent, failure.settles) == (False, False)
    assert failure.hint == "Check HTTPS_PROXY, SSL_CERT_FILE and SSL_CERT_DIR."
    assert "hunter2" not in str(failure)


def test_loopback_never_goes_through_a_proxy(environment: pytest.MonkeyPatch, server: FalServer) -> None:
    with running() as proxy:
        for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            environment.setenv(variable, proxy.url)
        server.play(reply(200, instance()))
        with FalClient(server.url, KEY, now=lambda: NOW) as client:
            assert client.get("inst_1").id == "inst_1"
        assert proxy.connections == []


@pytest.mark.holds("API-06")
def test_a_stalled_handshake_ends_at_the_limit_with_nothing_sent(environment: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with FalClient(url, KEY, now=lambda: NOW, timeout_s=0.3) as client:
            failure = create(client)
    assert (failure.sent, failure.settles, type(failure.__cause__)) == (False, False, TimeoutError)
