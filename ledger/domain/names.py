"""Lease ids and slugs. Randomness comes in as a parameter; nothing here reads any."""

import hashlib
import re
from collections.abc import Callable

from ledger.domain.errors import UsageFailure

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LEASE_ID = re.compile(r"rl_[0-9a-hjkmnp-tv-z]{26}")
SLUG_MAX = 41
_SUFFIXED_VARIANTS = 19

_ADJECTIVES = (
    "amber", "bold", "brisk", "calm", "clear", "cosy", "crisp", "deft", "eager", "early", "fair", "fleet", "fond",
    "frank", "gentle", "glad", "grand", "hardy", "jolly", "keen", "kind", "level", "light", "lucid", "merry", "mild",
    "neat", "noble", "plain", "proud", "quick", "quiet",
)  # fmt: skip
_NOUNS = (
    "acre", "annex", "arbor", "attic", "barn", "bay", "bower", "cabin", "cedar", "court", "croft", "dell", "den",
    "eave", "field", "forge", "gable", "garth", "glade", "grange", "grove", "hall", "haven", "hearth", "heath", "lodge",
    "loft", "manor", "mews", "mill", "orchard", "porch",
)  # fmt: skip


def lease_id(random_bytes: Callable[[int], bytes]) -> str:
    """A new lease id: `rl_` and 130 random bits (at least 80 are required: scenario LCK-14)."""
    return _encoded(random_bytes(17))


def _encoded(random_bytes: bytes) -> str:
    number = int.from_bytes(random_bytes, "big")
    return "rl_" + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(0, 130, 5))


def twin_id(lease_id: str, instance_id: str) -> str:
    """The id of the lease that holds a second box of another: as random as the other's own id."""
    digest = hashlib.sha256(f"{lease_id}/{instance_id}".encode()).digest()
    return _encoded(digest)


def is_lease_id(text: str) -> bool:
    """Whether the text has the form of a lease id; anything else must never become a path."""
    return _LEASE_ID.fullmatch(text) is not None


def normalise_slug(text: str) -> str:
    """A requested slug in lower-case letters, digits and single dashes; nothing left or too long is refused."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.strip().lower()).strip("-")
    if not slug:
        raise UsageFailure(f"not a usable slug: {text.strip()!r}", hint="use letters, digits and dashes")
    if len(slug) > SLUG_MAX:
        raise UsageFailure(f"the slug {slug!r} is longer than {SLUG_MAX} characters")
    return slug


def generated_slug(lease_id: str) -> str:
    """The adjective-noun name that a lease id stands for; the same id always gives the same name."""
    digest = hashlib.sha256(lease_id.encode()).digest()
    return f"{_ADJECTIVES[digest[0] % len(_ADJECTIVES)]}-{_NOUNS[digest[1] % len(_NOUNS)]}"


def suffixed_slug(slug: str, lease_id: str, is_taken: Callable[[str], bool]) -> str:
    """`slug` if it is free, else the first free variant with four hexadecimal digits derived from the lease id.

    After nineteen taken variants the last twelve characters of the lease id decide (scenario LCK-15).
    """
    if not is_taken(slug):
        return slug
    for n in range(_SUFFIXED_VARIANTS):
        variant = f"{slug[: SLUG_MAX - 5].rstrip('-')}-{hashlib.sha256(f'{lease_id}/{n}'.encode()).hexdigest()[:4]}"
        if not is_taken(variant):
            return variant
    return f"{slug[: SLUG_MAX - 13].rstrip('-')}-{lease_id[-12:]}"
