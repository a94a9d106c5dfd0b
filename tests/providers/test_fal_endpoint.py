"""Which API URLs may be used, and their one canonical name."""

import pytest

from ledger.domain.errors import UsageFailure
from providers.fal.endpoint import ApiEndpoint, endpoint_scope, parse_endpoint


@pytest.mark.holds("API-12", "API-13")
@pytest.mark.parametrize(
    ("api_url", "endpoint"),
    [
        ("", ApiEndpoint("https://api.fal.ai/v1", loopback=False)),
        ("  https://api.fal.ai/v1//  ", ApiEndpoint("https://api.fal.ai/v1", loopback=False)),
        ("HTTPS://API.Fal.AI:443/v1", ApiEndpoint("https://api.fal.ai/v1", loopback=False)),
        ("https://h:8443", ApiEndpoint("https://h:8443", loopback=False)),
        ("https://h:/", ApiEndpoint("https://h", loopback=False)),
        ("http://127.0.0.1:80/V1", ApiEndpoint("http://127.0.0.1/V1", loopback=True)),
        ("http://localhost:8080", ApiEndpoint("http://localhost:8080", loopback=True)),
        ("http://[0:0::1]:8080/v1", ApiEndpoint("http://[::1]:8080/v1", loopback=True)),
        ("https://[2001:DB8::1]/v1", ApiEndpoint("https://[2001:db8::1]/v1", loopback=False)),
    ],
)
def test_an_url_has_one_canonical_form(api_url: str, endpoint: ApiEndpoint) -> None:
    """Blank is the default; spaces and trailing slashes are dropped."""
    assert parse_endpoint(api_url) == endpoint


@pytest.mark.holds("API-12", "CFG-13")
@pytest.mark.parametrize(
    "api_url",
    [
        "http://hunter2.example/v1",
        "http://hunter2:hunter2@fal.example/v1",
        "http://127.0.0.1.hunter2.example",
        "http://localhost.hunter2.example",
        "http://127.1",
        "http://[::ffff:127.0.0.1]/hunter2",
    ],
)
def test_plain_http_is_for_this_machine_only(api_url: str) -> None:
    """Refused, and nothing of the URL is repeated."""
    with pytest.raises(UsageFailure) as caught:
        parse_endpoint(api_url)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert caught.value.exit_code == 2


@pytest.mark.holds("API-13")
@pytest.mark.parametrize(
    "api_url",
    [
        "https://:443/v1",
        "https:///v1",
        "https:v1",
        "api.fal.ai/v1",
        "mailto:a",
        "ftp://h/v1",
        "https://h/a%2Fb",
        "https://h/%61",
        "https://h/a/../b",
        "https://h/./b",
        "https://h//a",
        "https://h:0/",
        "https://h:99999/",
        "https://h:port/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://h./v1",
        "https://-h/v1",
        "https://exämple.com/",
        "https://h\\@evil/",
        "https://h/a b",
        "https://h/\tv1",
        "https://h/v1\n/x",
    ],
)
def test_an_ambiguous_url_is_refused(api_url: str) -> None:
    """No host, an escaped or dotted path, or nothing that is an URL."""
    with pytest.raises(UsageFailure):
        parse_endpoint(api_url)


@pytest.mark.holds("API-14")
@pytest.mark.parametrize(
    "api_url",
    [
        "https://hunter2@h/v1",
        "https://u:hunter2@h/v1",
        "https://h/v1?key=hunter2",
        "https://h/v1#hunter2",
        "https://@h",
    ],
)
def test_an_url_with_a_place_for_secrets_is_refused_without_repeating_it(api_url: str) -> None:
    with pytest.raises(UsageFailure) as caught:
        parse_endpoint(api_url)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.holds("CFG-16")
@pytest.mark.parametrize(
    "api_url",
    [
        "https://user:pass@API.fal.ai:443/v1/?a=b#c",
        "https://api.fal.ai/v1#c",
        "https://a@b@api.fal.ai/v1",
        " HTTPS://api.FAL.ai/v1/// ",
        "",
    ],
)
def test_equivalent_spellings_have_one_scope(api_url: str) -> None:
    assert endpoint_scope(api_url) == "endpoint:https://api.fal.ai/v1"


@pytest.mark.holds("CFG-16")
def test_another_scheme_host_port_or_path_is_another_scope() -> None:
    urls = ["https://localhost/v1", "http://localhost/v1", "https://h/v1", "https://h:8443/v1", "https://h/V1"]
    assert len({endpoint_scope(url) for url in urls}) == len(urls)
