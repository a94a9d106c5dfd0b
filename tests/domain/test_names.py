"""Lease ids and slugs."""

import re
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.errors import UsageFailure
from ledger.domain.names import SLUG_MAX, generated_slug, is_lease_id, lease_id, normalise_slug, suffixed_slug
from tests.domain.histories import EXAMPLES

LEASE_ID = "rl_0123456789abcdefghjkmnpqrs"
LONG = "a-very-long-name-of-a-lease-for-training-x"[:SLUG_MAX]
SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


@pytest.mark.holds("LCK-14", "HOLE-12")
def test_a_lease_id_is_a_prefix_and_130_random_bits() -> None:
    """Every bit that is read ends in the id, five to a character."""
    asked: list[int] = []

    def ones(count: int) -> bytes:
        asked.append(count)
        return b"\xff" * count

    ids = (lease_id(ones), lease_id(bytes), lease_id(lambda count: (1 << 129).to_bytes(count, "big")))
    assert (ids, asked) == (("rl_" + "z" * 26, "rl_" + "0" * 26, "rl_" + "0" * 25 + "g"), [17])


def test_lease_ids_from_a_secure_source_differ_and_are_recognised() -> None:
    """A thousand ids are a thousand names of the right form."""
    ids = {lease_id(secrets.token_bytes) for _ in range(1_000)}
    assert (len(ids), {is_lease_id(text) for text in ids}) == (1_000, {True})


@pytest.mark.holds("LCK-14")
@pytest.mark.parametrize(
    "hostile",
    [
        "", "rl_", LEASE_ID + "0", LEASE_ID[:-1], LEASE_ID.upper(), f" {LEASE_ID}", f"{LEASE_ID}\n", "../" + LEASE_ID,
        "rl_../../../../../etc/passwd0", "rl_" + "/" * 26, "rl_" + "\0" * 26, "rl_" + "i" * 26, "con", "nul",
        LEASE_ID + "/..", "rl_" + "٣" * 26,
    ],
)  # fmt: skip
def test_a_hostile_id_is_no_lease_id(hostile: str) -> None:
    """Traversal, separators, padding, reserved names and look-alikes never become a path."""
    assert is_lease_id(hostile) is False


@pytest.mark.holds("LCK-15")
@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("gpu-box", "gpu-box"),
        ("  My GPU  Box! ", "my-gpu-box"),
        ("--a__b--", "a-b"),
        ("Ünïcode", "n-code"),
        ("a" * SLUG_MAX, "a" * SLUG_MAX),
        ("-" * 60 + "a", "a"),
    ],
)
def test_a_requested_slug_is_normalised(text: str, slug: str) -> None:
    """Lower-case letters, digits and single dashes."""
    assert normalise_slug(text) == slug


@pytest.mark.holds("LCK-15")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a usable slug: ''"),
        (" !! ", "not a usable slug: '!!'"),
        ("a" * 42, f"the slug {'a' * 42!r} is longer than 41 characters"),
    ],
)
def test_an_unusable_slug_is_refused(text: str, message: str) -> None:
    """Only symbols, nothing, or too long after normalising is a usage error."""
    with pytest.raises(UsageFailure, match=re.escape(message)) as refusal:
        normalise_slug(text)
    assert refusal.value.exit_code == 2


@pytest.mark.holds("LCK-15")
def test_a_generated_slug_is_derived_from_the_lease_id() -> None:
    """Adjective and noun, the same for the same id on every machine."""
    names = [generated_slug(LEASE_ID), generated_slug(LEASE_ID), generated_slug("rl_" + "0" * 26)]
    assert names == ["quiet-acre", "quiet-acre", "jolly-barn"]


def test_a_free_slug_is_taken_as_it_is() -> None:
    """No suffix without a collision."""
    assert suffixed_slug("gpu-box", LEASE_ID, lambda _slug: False) == "gpu-box"


@pytest.mark.holds("LCK-15")
@pytest.mark.parametrize("slug", ["gpu-box", LONG, "a" * 35 + "-bcdef", "a" * 27 + "-" + "b" * 13])
def test_a_taken_slug_gets_the_first_free_of_19_variants_then_the_fallback(slug: str) -> None:
    """Nineteen four-hex suffixes derived from the lease id, in order, then its last twelve characters."""
    tried: list[str] = []

    def everything_is_taken(name: str) -> bool:
        tried.append(name)
        return True

    fallback = suffixed_slug(slug, LEASE_ID, everything_is_taken)
    variants = tried[1:]
    third = suffixed_slug(slug, LEASE_ID, lambda name: name in {slug, *variants[:2]})
    assert (tried[0], len(set(variants)), third) == (slug, 19, variants[2])
    assert fallback.endswith("-" + LEASE_ID[-12:])
    assert [name for name in (*variants, fallback) if not SLUG.fullmatch(name) or len(name) > SLUG_MAX] == []
    assert [name for name in variants if not re.fullmatch(r".+-[0-9a-f]{4}", name)] == []


@EXAMPLES
@given(st.text(max_size=60))
def test_every_text_is_a_slug_or_refused(text: str) -> None:
    """Whatever is typed, a slug that is accepted has the one form, and normalising it again changes nothing."""
    try:
        slug = normalise_slug(text)
    except UsageFailure:
        return
    assert SLUG.fullmatch(slug)
    assert normalise_slug(slug) == slug
