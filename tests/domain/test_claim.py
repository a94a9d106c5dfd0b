"""The claim: the lease object of the command line, what it cost, what a person has to do, and when it ends."""

from decimal import Decimal
from typing import Any

import pytest
from msgspec import json

from ledger.domain import claim as c
from ledger.domain.claim import Claim, accrued, attention, lease_object
from ledger.domain.events import ClaimMoved, Repository
from ledger.domain.money import cost_of
from ledger.domain.projection import claim_of
from ledger.domain.state import Lease
from tests.domain import histories as h
from tests.domain.histories import Past

KEYS = "/state/keys"
PRIVATE_KEY = f"{KEYS}/{h.LEASE_ID}/id_ed25519"
STOP = "run `rentroll stop amber-acre`"


def claimed(past: Past) -> Claim:
    lease = h.tell(past)
    return claim_of(lease, position=100 + lease.sequence)


def shown(past: Past, seconds: float) -> dict[str, Any]:
    return lease_object(claimed(past), h.at(seconds), KEYS)


REQUESTED_OBJECT = {
    "lease_id": h.LEASE_ID,
    "slug": "amber-acre",
    "provider": "fal",
    "phase": "requested",
    "outcome": None,
    "instance_id": None,
    "instance_type": "gpu_1x_h100_sxm5",
    "sector": None,
    "region": None,
    "provider_status": None,
    "ssh": {"host": None, "port": 22, "user": "ubuntu", "key_path": PRIVATE_KEY, "host_key_fingerprint": None},
    "keep": None,
    "created_at": "2026-09-20T02:00:00Z",
    "ready_at": None,
    "last_touched_at": None,
    "expires_at": "2026-09-20T03:30:00Z",
    "released_at": None,
    "ttl_seconds": 5400,
    "idle_timeout_seconds": 1800,
    "repo": "https://example.org/tool.git",
    "actor": h.ACTOR,
    "cost": {"rate_per_hour": "2.10", "accrued": "0.00", "currency": "USD", "source": "config"},
    "attention": None,
    "sequence": 1,
    "position": 101,
}
IN_DOUBT_OBJECT = REQUESTED_OBJECT | {
    "phase": "in-doubt",
    "cost": {"rate_per_hour": "2.10", "accrued": None, "currency": "USD", "source": "config"},
    "sequence": 3,
    "position": 103,
}
BOX_FIELDS = {"instance_id": h.BOX, "region": "us-west", "provider_status": "ready"}
READY_SSH = {
    "host": "203.0.113.9",
    "port": 22,
    "user": "ubuntu",
    "key_path": PRIVATE_KEY,
    "host_key_fingerprint": "SHA256:bbbb",
}
KEPT_OBJECT = (
    REQUESTED_OBJECT
    | BOX_FIELDS
    | {
        "phase": "ready",
        "ssh": READY_SSH,
        "keep": {"until": "2026-09-21T02:00:00Z", "reason": "training overnight"},
        "ready_at": "2026-09-20T02:02:00Z",
        "last_touched_at": "2026-09-20T02:02:00Z",
        "expires_at": "2026-09-21T02:00:00Z",
        "cost": {"rate_per_hour": "2.10", "accrued": "2.10", "currency": "USD", "source": "config"},
        "sequence": 5,
        "position": 105,
    }
)
RELEASED_OBJECT = KEPT_OBJECT | {
    "phase": "released",
    "outcome": "completed",
    "provider_status": None,
    "ssh": READY_SSH | {"key_path": None},
    "keep": None,
    "expires_at": "2026-09-20T02:32:00Z",
    "released_at": "2026-09-20T02:03:31Z",
    "cost": {"rate_per_hour": "2.10", "accrued": "0.12", "currency": "USD", "source": "config"},
    "sequence": 8,
    "position": 108,
}


@pytest.mark.parametrize(
    ("past", "seconds", "expected"),
    [
        pytest.param(h.REQUESTED, 10, REQUESTED_OBJECT, id="requested"),
        pytest.param(h.UNANSWERED, 40, IN_DOUBT_OBJECT, id="in doubt"),
        pytest.param(h.KEPT, 2 + 3_600, KEPT_OBJECT, id="ready and kept, an hour after it was bound"),
        pytest.param(h.RELEASED, 90_000, RELEASED_OBJECT, id="released, long ago"),
    ],
)
def test_the_lease_object_has_these_fields_in_this_order(past: Past, seconds: float, expected: dict[str, Any]) -> None:
    """The JSON of a lease is the contract's, field for field, order for order, null for null."""
    assert json.encode(shown(past, seconds)) == json.encode(expected)


def test_a_fractional_time_and_duration_are_shown_as_they_are() -> None:
    """Nothing is rounded away: half a second is shown in both forms."""
    lease = shown(((0.5, h.requested(ttl_ms=1_500)),), 1)
    assert (lease["created_at"], lease["ttl_seconds"], lease["expires_at"]) == (
        "2026-09-20T02:00:00.500000Z",
        1.5,
        "2026-09-20T02:00:02Z",
    )


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        pytest.param(h.REPOSITORY, "https://example.org/tool.git", id="the origin"),
        pytest.param(Repository(path="/src/tool"), "/src/tool", id="else the path"),
        pytest.param(None, None, id="else nothing"),
    ],
)
def test_a_repository_is_named_by_its_origin_or_its_path(repository: Repository | None, expected: str | None) -> None:
    """`repo` is what tells leases of one machine apart."""
    moved = ClaimMoved(repository=repository, host="desk", reason="x")
    past: Past = (*h.READY, (150, h.moved()), (151, moved))
    assert shown(past, 200)["repo"] == expected


@pytest.mark.holds("W-26", "HOLE-10")
@pytest.mark.parametrize(
    ("past", "seconds", "expected"),
    [
        pytest.param(h.REQUESTED, 9_000, "0.00", id="nothing was sent, so nothing was spent"),
        pytest.param(h.UNSENT, 9_000, "0.00", id="no byte left"),
        pytest.param(h.REJECTED, 9_000, "0.00", id="the provider refused"),
        pytest.param(h.REJECTED_RELEASED, 9_000, "0.00", id="refused and released"),
        pytest.param(h.NEVER_CREATED, 9_000, "0.00", id="proven never to have been"),
        pytest.param(h.SENT, 9_000, None, id="a POST on its way is not known"),
        pytest.param(h.UNANSWERED, 9_000, None, id="in doubt is not known (rule 7)"),
        pytest.param(h.WRITTEN_OFF, 9_000, None, id="written off is not known"),
        pytest.param(
            (*h.DEFERRED, (600, h.released("written-off", reason="x"))), 9_000, None, id="nor with a known box"
        ),
        pytest.param(h.PROVISIONING, 2, "0.00", id="a box of this instant"),
        pytest.param(h.PROVISIONING, 2 + 3_600, "2.10", id="an open box bills until now"),
        pytest.param(h.ACCEPTED, 2 + 7_200, "4.20", id="an accepted DELETE ends no bill (DEL-01)"),
        pytest.param(h.CONFIRMED, 90_000, "0.12", id="a confirmed end ends it: 208 s"),
        pytest.param((*h.RELEASED, (900, h.reopened(890))), 2 + 3_600, "2.10", id="a box that came back never ended"),
        pytest.param(h.PROVISIONING, -50, "0.00", id="a clock set back makes no negative cost"),
        pytest.param(
            ((0, h.requested(rate=None)), *h.PROVISIONING[1:]), 9_000, None, id="without a rate it is not known"
        ),
        pytest.param(((0, h.requested(rate=None)),), 9_000, "0.00", id="but nothing sent costs nothing at any rate"),
    ],
)
def test_what_a_box_has_cost(past: Past, seconds: float, expected: str | None) -> None:
    """Unknown is null, never zero; zero is only what is proven to be nothing."""
    assert accrued(claimed(past), h.at(seconds)) == expected


@pytest.mark.holds("PEER-08", "PEER-23")
@pytest.mark.parametrize(
    ("past", "seconds", "expected"),
    [
        pytest.param(h.REQUESTED, 1_020, None, id="requested, inside its deadline"),
        pytest.param(h.REQUESTED, 1_021, f"its create was left unfinished: {STOP}", id="requested, left behind"),
        pytest.param(h.UNANSWERED, 1_020, None, id="in doubt, inside its deadline"),
        pytest.param(
            h.UNANSWERED, 1_021, f"its create may have made a box that bills: {STOP}", id="in doubt, left behind"
        ),
        pytest.param(h.PROVISIONING, 1_020, None, id="provisioning, inside its deadline"),
        pytest.param(h.PROVISIONING, 1_021, f"its create was left unfinished: {STOP}", id="provisioning, left behind"),
        pytest.param(
            h.KEPT_FAILED,
            700,
            f"its acquire failed at ssh and the box was kept until 2026-09-21T02:00:00Z: {STOP}",
            id="a kept failure",
        ),
        pytest.param(h.READY, 1_919, None, id="ready, with time left"),
        pytest.param(
            h.READY, 1_920, f"its time ended at 2026-09-20T02:32:00Z and it still bills: {STOP}", id="ready, overdue"
        ),
        pytest.param(h.KEPT, 9_000, None, id="kept"),
        pytest.param(h.REJECTED, 9, None, id="rejected, inside its deadline: nothing bills"),
        pytest.param(h.REJECTED, 1_021, f"its create was left unfinished: {STOP}", id="rejected, left behind"),
        pytest.param(h.ROLLING_BACK, 601, f"its box is to be deleted and may still bill: {STOP}", id="rolling back"),
        pytest.param(h.ACCEPTED, 300, f"its box is to be deleted and may still bill: {STOP}", id="deleting"),
        pytest.param(
            h.DEFERRED, 300, f"its deletion failed (server_error) and the box may still bill: {STOP}", id="deferred"
        ),
        pytest.param(
            (*h.DEFERRED, (300, h.confirmed(299))),
            301,
            f"its box is gone and only its record is open: {STOP}",
            id="gone, not yet released (DEL-12)",
        ),
        pytest.param(h.RELEASED, 90_000, None, id="released"),
        pytest.param(h.WRITTEN_OFF, 90_000, None, id="written off"),
    ],
)
def test_what_a_person_has_to_do(past: Past, seconds: float, expected: str | None) -> None:
    """One sentence and a command while something may cost money and nobody is at it; else null."""
    assert attention(claimed(past), h.at(seconds)) == expected


def test_a_contradiction_asks_for_a_person_even_after_the_release() -> None:
    """Two leases that claim one box are shown before anything is deleted (rule 10)."""
    claim = claimed(h.RELEASED)._replace(contradiction="instance i-1 is bound to two leases")
    assert attention(claim, h.at(300)) == (
        "instance i-1 is bound to two leases: look at both before anything is deleted"
    )


@pytest.mark.parametrize(
    ("past", "seconds", "expected"),
    [
        pytest.param(h.READY, 1_919, False, id="ready, with time left"),
        pytest.param(h.READY, 1_920, True, id="ready, at its end (CLN-05)"),
        pytest.param((*h.READY, (180, h.touched()), (840, h.touched())), 2_639, False, id="touched (TCH-02)"),
        pytest.param((*h.READY, (5_000, h.touched())), 5_400, True, id="touched, at its TTL (TCH-02)"),
        pytest.param(h.RELEASED, 90_000, False, id="released"),
    ],
)
def test_a_claim_is_overdue_from_its_end_while_open(past: Past, seconds: float, expected: bool) -> None:
    """`is_overdue` is min(created + TTL, touched + idle), and nothing once released."""
    assert c.is_overdue(claimed(past), h.at(seconds)) is expected


@pytest.mark.parametrize(
    ("rate", "milliseconds", "expected"),
    [
        pytest.param("2.10", 3_600_000, "2.10", id="an hour"),
        pytest.param("0.01", 1_800_000, "0.00", id="half a cent to the even cent below"),
        pytest.param("0.03", 1_800_000, "0.02", id="one and a half to the even cent above"),
        pytest.param("0.05", 1_800_000, "0.02", id="two and a half to the even cent below"),
        pytest.param("3", 1, "0.00", id="a millisecond"),
        pytest.param("2.10", 0, "0.00", id="no time"),
    ],
)
def test_a_cost_is_rounded_to_the_cent_half_even(rate: str, milliseconds: int, expected: str) -> None:
    """Rounding once, at the end, to the even neighbour."""
    assert str(cost_of(Decimal(rate), milliseconds)) == expected


def test_claims_are_listed_newest_first() -> None:
    """By creation, then by position; a list never jumps about."""
    old, new, newer = (
        claimed(h.REQUESTED)._replace(lease_id=name, created_at=created, position=position)
        for name, created, position in (
            ("old", "2026-09-20T02:00:00.000000Z", 9),
            ("new", "2026-09-20T03:00:00.000000Z", 3),
            ("newer", "2026-09-20T03:00:00.000000Z", 4),
        )
    )
    assert [claim.lease_id for claim in c.newest_first([old, newer, new])] == ["newer", "new", "old"]


def test_a_lease_never_asked_for_has_no_claim() -> None:
    """Asking for the row of an empty stream is a bug, not a row of nothings."""
    with pytest.raises(ValueError, match="was never requested"):
        claim_of(Lease(lease_id=h.LEASE_ID), position=1)


@pytest.mark.holds("CRE-02")
def test_internal_facts_stay_internal() -> None:
    """Neither the credential binding nor the public key is in what is printed."""
    printed = json.encode(shown(h.READY, 200)).decode()
    assert [secret for secret in ('"c1"', "AAAA", "BBBB", "d1") if secret in printed] == []
