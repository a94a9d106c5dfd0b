"""What recovery looks up: leases released lately, leases with a box that nobody holds, and what was seen since."""

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger.domain import events as e
from ledger.domain.state import Lease
from ledger.domain.suspects import Seen
from ledger.domain.units import format_time
from ledger.store import sqlite_text as sql
from ledger.store.sqlite import SqliteRegister
from tests.contract.conftest import sqlite_ledger
from tests.contract.facts import ACCOUNT_FACTS, ACTOR, BOX, LATER, LEASE_A, LEASE_B, NOW, SEEN, bound, requested, sent
from tests.contract.facts import released as released_as
from tests.contract.test_register import append, begin
from tests.contract.test_tampering import without_triggers

DAY = timedelta(days=1)
INVENTORY = e.InventoryObserved(scope="https://api.fal.ai/v1", credential_binding="c" * 64, begun_at=NOW, instances=())


class NewerInventory(e.InventoryObserved, frozen=True, kw_only=True):
    """The same fact as a newer program writes it."""

    VERSION = e.InventoryObserved.VERSION + 1


def observe(register: SqliteRegister, fact: e.AccountEvent = INVENTORY, *, at: datetime = NOW) -> int:
    with register.transaction() as transaction:
        return transaction.append_account(fact, at=at, actor=ACTOR)


def ended(register: SqliteRegister, lease_id: str, *, at: datetime) -> Lease:
    lease = begin(register, lease_id, requested(lease_id[-3:]))
    return append(register, lease, released_as("cancelled"), at=at)


def released(register: SqliteRegister, since: datetime) -> list[str]:
    return [claim.lease_id for claim in register.released_since(format_time(since))]


def suspects(register: SqliteRegister, since: datetime = NOW) -> list[str]:
    return [claim.lease_id for claim in register.suspects(format_time(since))]


def test_a_new_ledger_has_nothing_to_look_for(register: SqliteRegister) -> None:
    assert (
        register.released_since(format_time(NOW)),
        register.suspects(format_time(NOW)),
        register.inventories(after=0),
        register.first_position(LEASE_A),
        register.first_position("account"),
    ) == ([], [], [], 0, 0)


def test_what_was_released_after_a_moment_is_found_the_newest_first(register: SqliteRegister) -> None:
    ended(register, "rl_old", at=NOW)
    ended(register, "rl_new", at=NOW + DAY)
    ended(register, "rl_mid", at=NOW + timedelta(microseconds=1))
    begin(register, "rl_open", requested("open"))
    assert released(register, NOW - DAY) == ["rl_new", "rl_mid", "rl_old"]
    assert released(register, NOW) == ["rl_new", "rl_mid"]
    assert released(register, NOW + DAY) == []


def test_a_lease_that_opens_again_is_not_among_the_released(register: SqliteRegister) -> None:
    lease = begin(register, LEASE_A, requested(), sent(), bound())
    lease = append(register, lease, released_as(), at=LATER)
    assert [(c.lease_id, c.released_at) for c in register.released_since(format_time(NOW))] == [
        (LEASE_A, format_time(LATER))
    ]
    append(register, lease, e.Reopened(instance_id=BOX, credential_binding="c" * 64, slug="x", evidence=SEEN), at=LATER)
    assert released(register, NOW) == []


def test_leases_of_which_a_box_may_exist_unbound_are_found_open_or_released(register: SqliteRegister) -> None:
    written_off = begin(register, "rl_written-off", requested("a"), sent())
    append(register, written_off, e.Released(outcome="written-off", reason="no answer"), at=LATER)
    append(register, Lease(lease_id="rl_twice"), requested("b"), sent(), sent(2), bound(), at=NOW + DAY)
    begin(register, "rl_once", requested("c"), sent(), bound("inst-2"))
    begin(register, "rl_in-doubt", requested("d"), sent(), sent(2))
    append(register, Lease(lease_id="rl_cancelled"), requested("e"), released_as("cancelled"))
    assert register.suspects(format_time(NOW)) == [register.claim("rl_twice"), register.claim("rl_written-off")]


def test_an_open_suspect_is_found_whenever_and_a_released_one_only_after_a_moment(register: SqliteRegister) -> None:
    for lease_id, days in (("rl_old", 0), ("rl_new", 1)):
        lease = begin(register, lease_id, requested(lease_id[3:]), sent())
        append(register, lease, e.Released(outcome="written-off", reason="no answer"), at=NOW + days * DAY)
    begin(register, "rl_open", requested("open"), sent(), sent(2), bound())
    moments = (-1 * DAY, 0 * DAY, 1 * DAY - timedelta(microseconds=1), 1 * DAY)
    assert [set(suspects(register, NOW + moment)) for moment in moments] == [
        {"rl_open", "rl_new", "rl_old"},
        {"rl_open", "rl_new"},
        {"rl_open", "rl_new"},
        {"rl_open"},
    ]


def test_a_suspect_whose_box_is_found_is_open_and_no_suspect(register: SqliteRegister) -> None:
    lease = begin(register, LEASE_A, requested(), sent())
    lease = append(register, lease, e.Released(outcome="written-off", reason="no answer"))
    assert suspects(register, NOW - DAY) == [LEASE_A]
    append(register, lease, bound(evidence="key-proof"))
    assert (suspects(register, NOW - DAY), released(register, NOW - DAY)) == ([], [])


def test_a_lease_is_looked_for_no_more_once_its_candidates_are_settled(register: SqliteRegister) -> None:
    lease = begin(register, LEASE_A, requested(), sent(), sent(2), bound())
    assert suspects(register) == [LEASE_A]
    append(register, lease, e.CandidatesSettled(inventories=(4,)))
    assert suspects(register) == []


def test_the_inventories_behind_a_position_come_in_order_and_nothing_else_does(register: SqliteRegister) -> None:
    full = ACCOUNT_FACTS[0]
    assert isinstance(full, e.InventoryObserved)
    observe(register, at=NOW)
    begin(register, LEASE_A, requested(), sent())
    observe(register, full, at=LATER)
    observe(register, ACCOUNT_FACTS[1])
    # A clock that was set back does not change the order.
    observe(register, at=NOW - DAY)
    seen = [
        Seen(position=1, recorded_at=NOW, fact=INVENTORY),
        Seen(position=4, recorded_at=LATER, fact=full),
        Seen(position=6, recorded_at=NOW - DAY, fact=INVENTORY),
    ]
    assert [register.inventories(after=after) for after in (0, 1, 4, 6)] == [seen, seen[1:], seen[2:], []]
    assert [register.first_position(stream) for stream in ("account", LEASE_A, LEASE_B)] == [1, 2, 0]


def test_more_inventories_than_a_page_holds_are_all_found(register: SqliteRegister) -> None:
    with register.transaction() as transaction:
        for _ in range(2_001):
            transaction.append_account(INVENTORY, at=NOW, actor=ACTOR)
    assert [seen.position for seen in register.inventories(after=0)] == list(range(1, 2_002))


def test_an_inventory_of_a_newer_program_takes_away_those_before_it(register: SqliteRegister) -> None:
    """It may have shown a box, and what came before proves nothing any more; behind it one counts again."""
    observe(register)
    observe(register, NewerInventory(**{name: getattr(INVENTORY, name) for name in INVENTORY.__struct_fields__}))
    assert register.inventories(after=0) == []
    observe(register, at=LATER)
    seen = [Seen(position=3, recorded_at=LATER, fact=INVENTORY)]
    assert [register.inventories(after=after) for after in (0, 1, 2, 3)] == [seen, seen, seen, []]


def test_a_damaged_inventory_takes_away_those_before_it_and_is_named_by_verify(ledger_path: Path) -> None:
    with sqlite_ledger(ledger_path.parent) as register:
        for minute in range(5):
            observe(register, replace(INVENTORY, begun_at=NOW + timedelta(minutes=minute)))
    with closing(sqlite3.connect(ledger_path, isolation_level=None)) as raw:
        without_triggers(raw, "UPDATE events SET payload = '{' WHERE position IN (1, 3)")
    with sqlite_ledger(ledger_path.parent) as register:
        assert [(seen.position, seen.fact.begun_at) for seen in register.inventories(after=0)] == [
            (4, NOW + timedelta(minutes=3)),
            (5, NOW + timedelta(minutes=4)),
        ]
        assert {problem.position for problem in register.verify().problems} == {1, 3}


@pytest.mark.parametrize(
    ("statement", "parameters", "plan"),
    [
        (sql.RELEASED_SINCE, ("t",), ["SEARCH claims USING INDEX claims_released (released_at>?)"]),
        (
            sql.SUSPECTS,
            ("t", "t"),
            [
                "COMPOUND QUERY",
                "LEFT-MOST SUBQUERY",
                "SEARCH claims USING INDEX claims_suspect (released_at=?)",
                "UNION ALL",
                "SEARCH claims USING INDEX claims_suspect (released_at>?)",
                "UNION ALL",
                "SEARCH claims USING INDEX claims_suspect (released_at<?)",
            ],
        ),
        (sql.ACCOUNT_ROWS, (0,), ["SEARCH events USING INDEX events_account (stream=? AND position>?)"]),
        (
            sql.FIRST_POSITION,
            ("s",),
            ["SEARCH events USING COVERING INDEX sqlite_autoindex_events_1 (stream=? AND sequence=?)"],
        ),
    ],
    ids=["released since", "suspects", "inventories", "first position"],
)
def test_each_of_these_costs_what_is_open_or_recent(
    ledger_path: Path, statement: str, parameters: tuple[object, ...], plan: list[str]
) -> None:
    """SQLite reads through the index that holds only those, in its order: nothing is sorted, nothing else is read."""
    with closing(sqlite3.connect(ledger_path)) as raw:
        found = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    assert found == plan
