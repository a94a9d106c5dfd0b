"""Nothing about a name, a box or the projection itself stops a fact, and the claims are always what the log says."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.domain import events as e
from ledger.domain.claim import Claim
from ledger.domain.lease import decide
from ledger.domain.names import suffixed_slug
from ledger.domain.refusals import Refused
from ledger.domain.rows import Row
from ledger.domain.state import Lease
from ledger.store import sqlite_text as sql
from ledger.store.rebuild import ClaimRebuild
from ledger.store.sqlite import SqliteRegister
from ledger.store.verify import new_claims_table
from tests.contract.conftest import FACTORIES, sqlite_ledger
from tests.contract.facts import (
    ACCOUNT_FACTS,
    BOX,
    LEASE_A,
    LEASE_B,
    LEASE_FACTS,
    NOW,
    SEEN,
    bound,
    released,
    requested,
    sent,
)
from tests.contract.test_register import append, begin

SUFFIXED = suffixed_slug("calm-barn", LEASE_B, lambda slug: slug == "calm-barn")


def claim(register: SqliteRegister, lease_id: str) -> Claim:
    found = register.claim(lease_id)
    assert found is not None
    return found


def rebuilt(rows: Iterable[Row]) -> list[Claim]:
    """The claims that a prefix of the log comes to."""
    log = list(rows)
    with closing(new_claims_table()) as table:
        rebuild = ClaimRebuild(table, lambda stream: [row for row in log if row.stream == stream])
        for row in log:
            rebuild.feed(row)
        rebuild.finish()
        return [Claim(*values) for values in table.execute(sql.ALL_CLAIMS)]


@pytest.mark.holds("RBK-11", "LCK-06")
def test_a_taken_slug_is_suffixed_in_the_claim_and_not_in_the_fact(register: SqliteRegister) -> None:
    begin(register, LEASE_A, requested())
    lease = begin(register, LEASE_B, requested())
    assert (claim(register, LEASE_B).slug, lease.slug, register.load(LEASE_B)) == (SUFFIXED, "calm-barn", lease)


def test_a_suffixed_slug_stays_when_the_plain_one_becomes_free(register: SqliteRegister) -> None:
    first = begin(register, LEASE_A, requested())
    second = begin(register, LEASE_B, requested())
    append(register, first, released("cancelled"))
    second = append(register, second, sent())
    assert claim(register, LEASE_B).slug == SUFFIXED
    append(register, second, released("written-off"))
    assert claim(register, LEASE_B).slug == SUFFIXED


@pytest.mark.holds("RBK-11")
def test_a_reopened_lease_takes_its_new_slug_or_a_suffixed_one(register: SqliteRegister) -> None:
    lease = begin(register, LEASE_B, requested(), sent(), bound())
    lease = append(register, lease, released())
    begin(register, LEASE_A, requested())
    append(register, lease, e.Reopened(instance_id=BOX, credential_binding="c" * 64, slug="calm-barn", evidence=SEEN))
    assert (claim(register, LEASE_B).slug, claim(register, LEASE_B).is_open) == (SUFFIXED, 1)
    assert claim(register, LEASE_A).slug == "calm-barn"


def test_a_box_claimed_twice_is_bound_and_the_second_claim_says_so(register: SqliteRegister) -> None:
    begin(register, LEASE_A, requested("a"), sent(), bound())
    lease = begin(register, LEASE_B, requested("b"), sent(), bound())
    sentence = f"leases {LEASE_A} and {LEASE_B} both claim box {BOX}"
    assert (lease.instance_id, claim(register, LEASE_B).contradiction) == (BOX, sentence)
    assert claim(register, LEASE_A).contradiction is None
    append(register, lease, released())
    assert claim(register, LEASE_B).contradiction == sentence
    with register.transaction() as transaction:
        assert transaction.instance_holder(BOX) == LEASE_A


def test_a_fact_that_cannot_be_folded_is_kept_and_its_lease_marked(register: SqliteRegister) -> None:
    lease = begin(register, LEASE_A, requested())
    lease = append(register, lease, ACCOUNT_FACTS[1])  # type: ignore[arg-type]
    marked = claim(register, LEASE_A)
    assert (marked.phase, marked.is_open, marked.sequence) == ("requested", 1, 2)
    assert (marked.contradiction or "").startswith(
        f"the facts of lease {LEASE_A} contradict each other at event 2: balance-observed could not be understood"
    )
    append(register, lease, sent(), bound())
    assert (register.find(BOX)[0].contradiction, register.head().position) == (marked.contradiction, 4)
    assert register.verify().problems == ()


def test_a_fact_of_a_lease_that_was_never_requested_is_kept_and_shown_in_doubt(register: SqliteRegister) -> None:
    begin(register, LEASE_A, bound())
    marked = claim(register, LEASE_A)
    assert (marked.phase, marked.is_open, marked.slug, marked.instance_id, marked.sent) == (
        "in-doubt",
        1,
        LEASE_A,
        BOX,
        1,
    )
    assert marked.contradiction == (
        f"the facts of lease {LEASE_A} contradict each other at event 1: its claim could not be understood"
        f" (ValueError: lease {LEASE_A} was never requested)"
    )
    assert register.verify().problems == ()


def test_a_claim_that_the_database_refuses_is_marked_and_the_fact_kept(register: SqliteRegister) -> None:
    """An end beyond the calendar cannot be a column; the claim goes on from its last good row."""
    lease = begin(register, LEASE_A, requested())
    append(register, lease, e.Touched(cause="touch", ttl_ms=10**18), sent())
    marked = claim(register, LEASE_A)
    assert (marked.sequence, marked.phase) == (3, "requested")
    assert (marked.contradiction or "").startswith(f"the facts of lease {LEASE_A} contradict each other at event 2: ")
    assert register.verify().problems == ()


@pytest.mark.holds("RDY-09")
def test_a_fact_is_appended_even_where_the_table_of_claims_is_gone(ledger_path: Path) -> None:
    with closing(sqlite3.connect(ledger_path)) as raw:
        raw.execute("DROP TABLE claims")
    with sqlite_ledger(ledger_path.parent) as register:
        begin(register, LEASE_A, requested(), sent(), bound())
        assert (register.load(LEASE_A).instance_id, register.head().position) == (BOX, 3)


@pytest.mark.holds("RDY-09")
def test_a_claim_that_was_removed_comes_back_with_the_next_fact(ledger_path: Path) -> None:
    with sqlite_ledger(ledger_path.parent) as register:
        lease = begin(register, LEASE_A, requested())
        with closing(sqlite3.connect(ledger_path)) as raw, raw:
            raw.execute("DELETE FROM claims")
        append(register, lease, sent())
        assert register.verify().problems == ()


# One step of a random history: of which lease, which fact, how many seconds after the one before, decided or forced.
_STEP = st.tuples(
    st.sampled_from([LEASE_A, LEASE_B, "rl_" + "c" * 26]),
    st.sampled_from(
        [
            *LEASE_FACTS,
            requested(),
            requested("other-slug"),
            sent(2),
            bound("inst-2"),
            bound("inst-2", "key-proof"),
            e.DeleteRequested(instance_id=BOX, attempt=2, reason="stop", shown=True),
            *(released(outcome) for outcome in ("completed", "rolled-back", "cancelled", "rejected", "lost")),
            e.Released(outcome="written-off", reason="asked fal"),
            e.Reopened(instance_id=BOX, credential_binding="c" * 64, slug="other-slug", evidence=SEEN),
            e.Touched(cause="touch", ttl_ms=10**18),
        ]
    ),
    st.integers(0, 700),
    st.booleans(),
)


@settings(max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_STEP, max_size=30))
@pytest.mark.parametrize("kind", FACTORIES)
def test_the_claims_equal_the_replay_after_every_prefix_of_any_history(
    kind: str, steps: list[tuple[str, e.LeaseEvent, int, bool]]
) -> None:
    """Property 5, for histories that were decided and for those that no decision would have allowed."""
    now = NOW
    with TemporaryDirectory() as folder, FACTORIES[kind](Path(folder)) as register:
        leases: dict[str, Lease] = {}
        for lease_id, fact, seconds, decided in steps:
            now += timedelta(seconds=seconds)
            lease = leases.get(lease_id, Lease(lease_id=lease_id))
            try:
                facts = decide(lease, fact, now) if decided else [fact]
            except (Refused, ValueError, OverflowError):
                continue
            leases[lease_id] = append(register, lease, *facts, at=now)
            assert rebuilt(register.rows()) == register.claims(include_released=True)
        assert register.verify().problems == ()
