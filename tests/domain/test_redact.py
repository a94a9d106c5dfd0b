"""What the redactor takes out of text, and what it leaves."""

import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.redact import MASK, redact

PRIVATE_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.holds("API-23")
@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Authorization: Key abc:d,e;f\nHost: x", f"Authorization: {MASK}\nHost: x"),
        ("authorization: Negotiate abc\r\n  folded abc\r\nHost: x", f"authorization: {MASK}\r\nHost: x"),
        ("Proxy-Authorization:\n Basic abc\nx", f"Proxy-Authorization:{MASK}\nx"),
        ("X-API-Key: a b c", f"X-API-Key: {MASK}"),
        ("Cookie: a=b; c=d\nx", f"Cookie: {MASK}\nx"),
        ('{"Authorization": "Key a\\"bc", "status": 5}', f'{{"Authorization": "{MASK}", "status": 5}}'),
        ("('authorization', b'Key abc'), 1", f"('authorization', b'{MASK}'), 1"),
        ("got Bearer ab,c;d then", f"got Bearer {MASK} then"),
        ("0f6a1c1e-0000-4000-8000-00000000cafe:0123456789abcdef0", MASK),
        ('{"token": "a, b", "region": "us"}', f'{{"token": "{MASK}", "region": "us"}}'),
        ('{"accessToken":12345,"region":"us"}', f'{{"accessToken":{MASK},"region":"us"}}'),
        ('{"tokens": ["a", "b"], "x": 1}', f'{{"tokens": {MASK}, "x": 1}}'),
        ('{\\"client_secret\\": \\"a\\\\\\"b\\", \\"x\\": 1}', f'{{\\"client_secret\\": \\"{MASK}\\", \\"x\\": 1}}'),
        ("{'db-password': 'a b'}", f"{{'db-password': '{MASK}'}}"),
        ("password=p@ss;w,o)rd&1 rest", f"password={MASK} rest"),
        ("secretAccessKey = abc rest", f"secretAccessKey = {MASK} rest"),
        ("RENTROLL_FAL_KEY_OLD=abc HOME=/root", f"RENTROLL_FAL_KEY_OLD={MASK} HOME=/root"),
        ("--api-key=xyz --region us", f"--api-key={MASK} --region us"),
        ("https://h/p?key=a%20b&page=2#f", f"https://h/p?key={MASK}&page=2#f"),
        ("https://h/p?page=2&refresh_token=abc", f"https://h/p?page=2&refresh_token={MASK}"),
        ("see https://user:p@ss@h/p now", f"see https://{MASK}@h/p now"),
        ("https://user:p/w?x@h/p", f"https://{MASK}@h/p"),
        ("https://h/?next=ssh://u@b/x", f"https://h/?next=ssh://{MASK}@b/x"),
        ("https://s/x?X-Amz-Signature=a&X-Amz-Date=2&sig=q", f"https://s/x?X-Amz-Signature={MASK}&X-Amz-Date=2&sig={MASK}"),
        ("https://s/x?AWSAccessKeyId=a&Expires=2&Signature=b", f"https://s/x?AWSAccessKeyId={MASK}&Expires=2&Signature={MASK}"),
        (f"key {PRIVATE_KEY} end", f"key {MASK} end"),
        (PRIVATE_KEY[:50], MASK),
        ('secret: "abc def', f'secret: "{MASK}'),
        ('{"password": "abc\ndef\\', f'{{"password": "{MASK}'),
        ('message="token=abc def" x', f'message="token={MASK} def" x'),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_goes_whole(text: str, clean: str) -> None:
    assert redact(text) == clean


@pytest.mark.holds("API-24")
@pytest.mark.parametrize(
    "text",
    [
        "fal API authorization_error: Access denied",
        "connection to https://api.fal.ai:443/v1/compute/instances refused: [Errno 111] Connection refused",
        "https://host:8080/@scope/x and /home/user/.ssh/id_ed25519 in us-west",
        '{"next_page_token": "Mg==", "nextToken": "z", "token_type": "bearer", "status": "ready"}',
        "idempotency_key=rl_1 ssh_key=ssh-ed25519 host key: SHA256:abc PWD=/work max_tokens: 5 monkey=1",
        "Bearer token expired",
        "missing key: instances",
        'token=[redacted], password: "[redacted]", Bearer [redacted], then\nAuthorization: ***',
        '{"password": null, "secret": ""}',
        "https://[redacted]@h/p?key=[redacted]&page=2",
        "",
    ],
)
def test_diagnostic_context_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.holds("API-23")
def test_given_secrets_go_however_they_are_escaped() -> None:
    """Raw, as JSON, as JSON in JSON, in a URL, and mixed."""
    secret = 'a"b\\c/d é'
    once = json.dumps(secret)[1:-1]
    spellings = [secret, once, json.dumps(once)[1:-1], quote(secret, safe=""), quote(secret).lower(), 'a\\"b%5cc\\/d é']
    assert redact(" | ".join(spellings), (secret,)) == " | ".join([MASK] * len(spellings))


def test_the_longer_of_two_secrets_goes_first() -> None:
    assert redact("x abcdef abc", ("abc", "abcdef")) == f"x {MASK} {MASK}"


@pytest.mark.holds("API-24")
def test_blank_secrets_are_ignored() -> None:
    assert redact("a b", ("", "  ")) == "a b"


@pytest.mark.holds("API-23")
def test_a_secret_that_the_mask_would_spell_takes_everything() -> None:
    """Fails closed."""
    assert redact("token=abc then", ("] then",)) == MASK


@pytest.mark.holds("API-23")
def test_text_that_is_too_long_to_judge_is_masked_whole() -> None:
    """Fails closed."""
    assert redact("x" * (256 * 1024 + 1)) == MASK


SECRET = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
FRAGMENT = st.sampled_from(
    [
        "token", "key", "Authorization", "Bearer ", "://", "@", "=", ":", '"', "'", "\\", "&", "?", "[", "]", "{", "}",
        " ", "\n", ",", MASK, "a", "B1", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "https", "red",
        "password", "secret", "access_", "null", "***", "%22", "<", ">", "#", "/", ";",
    ]
)  # fmt: skip
NASTY = st.lists(FRAGMENT | st.text(max_size=5), max_size=40).map("".join)


@pytest.mark.holds("API-24")
@given(NASTY, st.lists(SECRET, max_size=3))
def test_a_second_pass_changes_nothing(text: str, secrets: list[str]) -> None:
    """Idempotent, whatever the text."""
    clean = redact(text, secrets)
    assert redact(clean, secrets) == clean


@pytest.mark.holds("API-23")
@given(NASTY, SECRET, NASTY)
def test_a_given_secret_never_survives(before: str, secret: str, after: str) -> None:
    """Not raw and not JSON-escaped, wherever it stands."""
    escaped = json.dumps(secret)[1:-1]
    clean = redact(f"{before}{secret}{after}{escaped}", (secret,))
    assert secret in MASK or (secret not in clean and escaped not in clean)


@pytest.mark.holds("API-23")
@given(
    st.sampled_from(
        [
            '{{"token":"{}"}}',
            "password={}",
            "https://h/?api_key={}",
            "Authorization: Key {}",
            "https://u:{}@h/",
            "Bearer {}",
        ]
    ),
    st.text(st.characters(categories=["L", "N"]) | st.sampled_from("!$()*+,-.:;@^_`|~"), min_size=6, max_size=30),
    NASTY.filter(lambda text: "h" not in text),
)
def test_a_value_in_a_secret_field_never_survives(form: str, value: str, before: str) -> None:
    """Punctuation is part of the value."""
    marked = f"zq{value}zq"
    assert marked not in redact(f"{before} {form.format(marked)}")


@pytest.mark.holds("API-23")
@pytest.mark.parametrize(
    "unit", ["://a:b", '"key":"', "a.", "Bearer ", "-----BEGIN ", "token=[", "key \\", "Cookie:\n ", "a@"]
)
def test_an_adversary_cannot_make_it_slow(unit: str) -> None:
    """Bounded work on text made to be scanned again and again."""
    started = time.process_time()
    redact(unit * (200_000 // len(unit)))
    assert time.process_time() - started < 5


@pytest.mark.holds("API-23")
@pytest.mark.parametrize("unit", ["\\", "%5c", "\\u005c", '\\"'])
@pytest.mark.parametrize("secret", ["\\" * 40 + '"' + "\\" * 40, '"x', "ab"])
def test_backslashes_cannot_make_it_slow(unit: str, secret: str) -> None:
    """Bounded work where the text or the secret is full of escapes."""
    started = time.process_time()
    redact(unit * (200_000 // len(unit)) + "x", (secret,))
    assert time.process_time() - started < 5
