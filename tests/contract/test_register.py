"""What every ledger does: append, read back, look up."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger.domain import events as e
from ledger.domain.claim import Claim
from ledger.domain.errors import Conflict
from ledger.domain.evolve import replay
from ledger.domain.projection import claim_of
from ledger.domain.rows import GENESIS, Head
from ledger.domain.state import Lease, Phase, Recorded
from ledger.store import codec
from ledger.store.chain import event_hash
from ledger.store.sqlite import SqliteRegister
from tests.contract.conftest import FACTORIES
from tests.contract.facts import (
    ACCOUNT_FACTS,
    ACTOR,
    BOX,
    LATER,
    LEASE_A,
    LEASE_B,
    LEASE_FACTS,
    NOW,
    bound,
    released,
    requested,
    sent,
)


def append(
    register: SqliteRegister, lease: Lease, *facts: e.LeaseEvent, at: datetime = NOW, actor: str = ACTOR
) -> Lease:
    with register.transaction() as transaction:
        return transaction.append(lease, facts, at=at, actor=actor)


def begin(register: SqliteRegister, lease_id: str, *facts: e.LeaseEvent) -> Lease:
    return append(register, Lease(lease_id=lease_id), *facts)


def test_an_empty_ledger_has_no_head_no_claims_and_verifies(register: SqliteRegister) -> None:
    verified = register.verify()
    assert (register.head(), register.claims(include_released=True), list(register.rows())) == (
        Head(0, GENESIS, None),
        [],
        [],
    )
    assert (verified.events, verified.head_hash, verified.problems) == (0, GENESIS, ())


def test_a_lease_of_which_nothing_is_known_loads_as_nothing(register: SqliteRegister) -> None:
    assert (register.load(LEASE_A), register.claim(LEASE_A), register.find(LEASE_A)) == (
        Lease(lease_id=LEASE_A),
        None,
        [],
    )


def test_every_fact_comes_back_as_it_was_appended(register: SqliteRegister) -> None:
    """What `append` gives is what `load` reads, and what a replay of the same facts comes to."""
    lease = Lease(lease_id=LEASE_A)
    for minute, fact in enumerate(LEASE_FACTS):
        lease = append(register, lease, fact, at=NOW + timedelta(minutes=minute))
    facts = [
        Recorded(stream=LEASE_A, sequence=n + 1, recorded_at=NOW + timedelta(minutes=n), actor=ACTOR, event=fact)
        for n, fact in enumerate(LEASE_FACTS)
    ]
    assert (lease, register.load(LEASE_A), register.claim(LEASE_A)) == (
        replay(LEASE_A, facts),
        lease,
        claim_of(lease, len(facts)),
    )


@pytest.mark.holds("CRE-27")
def test_a_row_holds_the_canonical_payload_and_the_chain(register: SqliteRegister) -> None:
    begin(register, LEASE_A, requested(), sent())
    payloads = [codec.encode(fact)[0] for fact in (requested(), sent())]
    at = "2026-09-20T02:00:00.000000Z"
    first = event_hash(GENESIS, (1, LEASE_A, 1, "create-requested", 1, at, ACTOR, payloads[0]))
    second = event_hash(first, (2, LEASE_A, 2, "create-sent", 1, at, ACTOR, payloads[1]))
    assert list(register.rows()) == [
        (1, LEASE_A, 1, "create-requested", 1, at, ACTOR, payloads[0], GENESIS, first),
        (2, LEASE_A, 2, "create-sent", 1, at, ACTOR, payloads[1], first, second),
    ]
    assert register.head() == Head(2, second, at)


def test_facts_of_the_account_stand_in_its_own_stream(register: SqliteRegister) -> None:
    begin(register, LEASE_A, requested())
    with register.transaction() as transaction:
        positions = [transaction.append_account(fact, at=NOW, actor=ACTOR) for fact in ACCOUNT_FACTS]
    rows = [(row.position, row.sequence, row.type) for row in register.rows("account")]
    assert positions == [2, 3, 4, 5, 6]
    assert rows == [(n + 2, n + 1, fact.TYPE) for n, fact in enumerate(ACCOUNT_FACTS)]
    assert [claim.lease_id for claim in register.claims()] == [LEASE_A]


def test_rows_are_chosen_by_stream_position_and_type(register: SqliteRegister) -> None:
    lease = begin(register, LEASE_A, requested("a"), sent())
    begin(register, LEASE_B, requested("b"), sent())
    append(register, lease, bound())

    def positions(*arguments: Any, **options: Any) -> list[int]:
        return [row.position for row in register.rows(*arguments, **options)]

    assert positions() == [1, 2, 3, 4, 5]
    assert positions(LEASE_A) == [1, 2, 5]
    assert positions(after=3) == [4, 5]
    assert positions(LEASE_A, after=1) == [2, 5]
    assert positions(types=["create-sent", "instance-id-bound"]) == [2, 4, 5]
    assert positions(LEASE_B, after=3, types=["create-sent"]) == [4]


def test_rows_can_be_read_while_the_reader_appends(register: SqliteRegister) -> None:
    lease = begin(register, LEASE_A, requested(), *(e.Touched(cause=str(n)) for n in range(1500)))
    seen = []
    for row in register.rows():
        seen.append(row.position)
        if row.position == 1200:
            append(register, lease, released())
    assert seen == list(range(1, 1503))


@pytest.mark.holds("LCK-08", "PEER-44")
def test_two_writers_on_one_state_have_one_winner(register: SqliteRegister) -> None:
    """Every change is compare-and-append."""
    lease = begin(register, LEASE_A, requested())
    won = append(register, lease, sent())
    with pytest.raises(Conflict) as caught:
        append(register, lease, e.StopRequested(reason="late"))
    assert caught.value.message == "lease calm-barn has changed meanwhile, try again"
    assert (register.load(LEASE_A), register.head().position) == (won, 2)


def test_two_registers_take_turns_on_one_chain(register: SqliteRegister, tmp_path: Path) -> None:
    """Each has seen another head than its own last one; a state that is old is still refused."""
    with FACTORIES["sqlite"](tmp_path) as other:
        mine, theirs = begin(register, LEASE_A, requested("a")), begin(other, LEASE_B, requested("b"))
        stale = mine
        for _ in range(2):
            mine = append(register, mine, e.Touched(cause="touch"))
            theirs = append(other, theirs, e.Touched(cause="touch"))
        with pytest.raises(Conflict, match=r"^lease a has changed meanwhile, try again$"):
            append(register, stale, sent())
        append(register, mine, sent())
    assert [(row.position, row.stream, row.sequence) for row in register.rows()] == [
        (1, LEASE_A, 1),
        (2, LEASE_B, 1),
        (3, LEASE_A, 2),
        (4, LEASE_B, 2),
        (5, LEASE_A, 3),
        (6, LEASE_B, 3),
        (7, LEASE_A, 4),
    ]
    assert register.verify().problems == ()


def test_a_head_that_was_taken_back_is_not_continued(register: SqliteRegister) -> None:
    lease = begin(register, LEASE_A, requested())

    def interrupted() -> None:
        with register.transaction() as transaction:
            transaction.append(lease, [sent()], at=NOW, actor=ACTOR)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    append(register, lease, e.Touched(cause="touch"))
    assert [row.type for row in register.rows()] == ["create-requested", "touched"]
    assert register.verify().problems == ()


def test_a_state_that_is_ahead_of_the_log_is_refused(register: SqliteRegister) -> None:
    with pytest.raises(Conflict):
        append(register, Lease(lease_id=LEASE_A, sequence=3), sent())
    assert list(register.rows()) == []


def test_several_leases_change_together_or_not_at_all(register: SqliteRegister) -> None:
    stale = begin(register, LEASE_A, requested("a"))
    append(register, stale, sent())

    def both() -> None:
        with register.transaction() as transaction:
            transaction.append(Lease(lease_id=LEASE_B), [requested("b")], at=NOW, actor=ACTOR)
            transaction.append(stale, [sent()], at=NOW, actor=ACTOR)

    with pytest.raises(Conflict):
        both()
    assert (register.load(LEASE_B), register.claim(LEASE_B), register.head().position) == (
        Lease(lease_id=LEASE_B),
        None,
        2,
    )


def test_an_exception_in_the_block_takes_everything_back(register: SqliteRegister) -> None:
    def interrupted() -> None:
        with register.transaction() as transaction:
            transaction.append(Lease(lease_id=LEASE_A), [requested()], at=NOW, actor=ACTOR)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (register.head().position, begin(register, LEASE_A, requested()).sequence) == (0, 1)


def test_a_transaction_sees_what_it_has_appended(register: SqliteRegister) -> None:
    with register.transaction() as transaction:
        lease = transaction.append(Lease(lease_id=LEASE_A), [requested(), sent(), bound()], at=NOW, actor=ACTOR)
        assert (
            transaction.load(LEASE_A),
            transaction.head().position,
            transaction.slug_holder("calm-barn"),
            transaction.instance_holder(BOX),
            transaction.slug_holder("other"),
            transaction.instance_holder("other"),
        ) == (lease, 3, LEASE_A, LEASE_A, None, None)


def test_appending_nothing_changes_nothing(register: SqliteRegister) -> None:
    lease = begin(register, LEASE_A, requested())
    assert (append(register, lease), register.head().position) == (lease, 1)


def test_transactions_do_not_nest(register: SqliteRegister) -> None:
    with pytest.raises(RuntimeError, match="transactions do not nest"), register.transaction(), register.transaction():
        pass
    assert begin(register, LEASE_A, requested()).sequence == 1


def test_a_fact_without_a_zone_in_its_time_is_not_recorded(register: SqliteRegister) -> None:
    with pytest.raises(TypeError, match="a fact is recorded at a time with a zone"):
        append(register, Lease(lease_id=LEASE_A), requested(), at=NOW.replace(tzinfo=None))
    assert register.head().position == 0


def test_claims_are_open_ones_newest_first_or_all(register: SqliteRegister) -> None:
    ended = begin(register, "rl_1", requested("a"))
    append(register, ended, released("cancelled"))
    append(register, Lease(lease_id="rl_2"), requested("b"), at=LATER)
    begin(register, "rl_3", requested("c"))
    begin(register, "rl_4", requested("d"))
    assert [claim.lease_id for claim in register.claims()] == ["rl_2", "rl_4", "rl_3"]
    assert [claim.lease_id for claim in register.claims(include_released=True)] == ["rl_2", "rl_4", "rl_3", "rl_1"]


def found(register: SqliteRegister, name: str) -> list[str]:
    return [claim.lease_id for claim in register.find(name)]


@pytest.mark.holds("LST-10")
def test_a_name_is_an_id_else_an_open_slug_else_a_bound_box(register: SqliteRegister) -> None:
    first = begin(register, LEASE_A, requested("calm-barn"), sent(), bound("box-1"))
    begin(register, LEASE_B, requested(LEASE_A), sent(), bound("box-2"))
    assert found(register, LEASE_A) == [LEASE_A]
    assert found(register, "calm-barn") == [LEASE_A]
    assert found(register, "box-2") == [LEASE_B]
    append(register, first, released())
    assert found(register, "calm-barn") == []
    assert found(register, "box-1") == [LEASE_A]
    assert found(register, "unknown") == []


@pytest.mark.holds("LST-11")
def test_a_box_that_two_leases_claim_finds_both(register: SqliteRegister) -> None:
    begin(register, LEASE_A, requested("a"), sent(), bound())
    begin(register, LEASE_B, requested("b"), sent(), bound())
    assert sorted(found(register, BOX)) == [LEASE_A, LEASE_B]


def test_the_salt_is_random_and_stays(register: SqliteRegister) -> None:
    assert (len(register.salt()), register.salt()) == (32, register.salt())
    assert register.ledger_id().startswith("rr_")


def test_a_claim_is_every_field_of_the_lease_that_a_list_needs(register: SqliteRegister) -> None:
    lease = begin(register, LEASE_A, requested(), sent())
    claim = register.claim(LEASE_A)
    assert isinstance(claim, Claim)
    assert claim == claim_of(lease, 2)
    assert (claim.phase, claim.is_open, claim.contradiction) == (Phase.IN_DOUBT, 1, None)
