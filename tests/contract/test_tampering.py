"""The database refuses to change the log, and what gets past it is named by `verify`."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ledger.domain.errors import IntegrityFailure
from ledger.domain.rows import GENESIS, Problem
from ledger.domain.state import Lease
from ledger.store.chain import event_hash
from ledger.store.sqlite_read import open_sqlite_reader
from tests.contract.conftest import sqlite_ledger
from tests.contract.facts import LEASE_A, LEASE_B, bound, requested, sent
from tests.contract.test_register import append, begin


@pytest.fixture
def told(ledger_path: Path) -> Path:
    """A ledger of two leases: events 1, 2, 4, 5 of the one, 3 of the other."""
    with sqlite_ledger(ledger_path.parent) as register:
        lease = begin(register, LEASE_A, requested("a"), sent())
        begin(register, LEASE_B, requested("b"))
        append(register, lease, bound())
        append(register, register.load(LEASE_A), bound("inst-2"))
    return ledger_path


@pytest.fixture
def raw(told: Path) -> Iterator[sqlite3.Connection]:
    """The same ledger through a connection of somebody else's."""
    with closing(sqlite3.connect(told, isolation_level=None)) as connection:
        yield connection


def problems(path: Path) -> list[Problem]:
    with sqlite_ledger(path.parent) as register:
        return list(register.verify().problems)


def without_triggers(connection: sqlite3.Connection, *statements: str) -> None:
    """Edits the log as somebody would who knows SQLite, and puts the triggers back."""
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    for _, text in triggers:
        connection.execute(text)


COPY = "SELECT position, stream, sequence, type, version, recorded_at, actor, payload, prev_hash, hash FROM events"


@pytest.mark.holds("CRE-28", "LCK-13", "W-29")
@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE events SET actor = 'eve' WHERE position = 1", "events are never changed"),
        ("DELETE FROM events WHERE position = 5", "events are never deleted"),
        (f"INSERT OR REPLACE INTO events {COPY} WHERE position = 5", "events are appended in order"),
        (
            (
                "INSERT INTO events SELECT 7, 'x', 1, type, version, recorded_at, actor, payload, prev_hash, hash"
                " FROM events WHERE position = 5"
            ),
            "events are appended in order",
        ),
        (
            (
                "INSERT OR REPLACE INTO events SELECT 6, stream, sequence, type, version, recorded_at, actor, payload,"
                " prev_hash, hash FROM events WHERE position = 5"
            ),
            "events are appended in order",
        ),
        (
            (
                "INSERT INTO events SELECT 6, 'x', 1, type, version, recorded_at, actor, payload, prev_hash, hash"
                " FROM events WHERE position = 5"
            ),
            "events are appended in order",
        ),
        # Both continue the chain: one would replace event 5 by its stream and sequence, the other leaves a gap there.
        (
            (
                "INSERT OR REPLACE INTO events SELECT 6, stream, sequence, type, version, recorded_at, actor, payload,"
                " hash, 'h' FROM events WHERE position = 5"
            ),
            "events are appended in order",
        ),
        (
            (
                "INSERT INTO events SELECT 6, 'x', 2, type, version, recorded_at, actor, payload, hash, 'h'"
                " FROM events WHERE position = 5"
            ),
            "events are appended in order",
        ),
        ("UPDATE ledger_meta SET salt = ''", "the identity of a ledger never changes"),
        ("DELETE FROM ledger_meta", "the identity of a ledger never goes"),
        ("INSERT OR REPLACE INTO ledger_meta SELECT 1, 'x', 'y', 'z'", "a ledger has one identity"),
    ],
)
def test_the_database_itself_refuses_to_change_what_was_recorded(
    raw: sqlite3.Connection, statement: str, reason: str
) -> None:
    before = list(raw.iterdump())
    with pytest.raises(sqlite3.IntegrityError) as caught:
        raw.execute(statement)
    assert (str(caught.value), list(raw.iterdump())) == (reason, before)


@pytest.mark.parametrize(
    ("position", "prev_hash"), [(1, "1" * 64), (2, GENESIS)], ids=["after-another-hash", "not-the-first"]
)
def test_the_first_event_begins_the_chain(ledger_path: Path, position: int, prev_hash: str) -> None:
    sqlite_ledger(ledger_path.parent).close()
    with closing(sqlite3.connect(ledger_path, isolation_level=None)) as raw:
        with pytest.raises(sqlite3.IntegrityError, match=r"^events are appended in order$"):
            raw.execute(
                "INSERT INTO events VALUES (?, 'x', 1, 'ready', 1, '2026', 'eve', '{}', ?, 'h')", (position, prev_hash)
            )
        assert raw.execute("SELECT count(*) FROM events").fetchone() == (0,)


def test_an_untouched_ledger_verifies(told: Path) -> None:
    assert problems(told) == []


def test_an_edited_payload_is_found(told: Path, raw: sqlite3.Connection) -> None:
    without_triggers(raw, "UPDATE events SET payload = replace(payload, 'inst-2', 'inst-3') WHERE position = 5")
    assert problems(told) == [
        Problem(5, "chain", "event 5 is not what its hash covers: it was changed"),
        Problem(5, "projection", f"claim {LEASE_A} is not what its events come to: instance_id"),
    ]


def test_an_edited_payload_with_its_own_hash_mended_is_found_at_the_next_event(
    told: Path, raw: sqlite3.Connection
) -> None:
    row = raw.execute(f"{COPY} WHERE position = 3").fetchone()
    forged = (*row[:6], "eve", row[7])
    without_triggers(raw, f"UPDATE events SET actor = 'eve', hash = '{event_hash(row[8], forged)}' WHERE position = 3")
    assert problems(told) == [
        Problem(4, "chain", "event 4 does not follow the event that stands before it"),
        Problem(3, "projection", f"claim {LEASE_B} is not what its events come to: actor"),
    ]


def test_two_swapped_rows_are_found(told: Path, raw: sqlite3.Connection) -> None:
    without_triggers(
        raw,
        "UPDATE events SET position = -4 WHERE position = 4",
        "UPDATE events SET position = 4 WHERE position = 5",
        "UPDATE events SET position = 5 WHERE position = -4",
    )
    found = problems(told)
    assert [(problem.position, problem.kind) for problem in found if problem.kind != "projection"] == [
        (4, "chain"),
        (4, "chain"),
        (5, "chain"),
        (5, "chain"),
        (4, "sequence"),
    ]


def test_a_deleted_event_in_the_middle_is_found(told: Path, raw: sqlite3.Connection) -> None:
    without_triggers(raw, "DELETE FROM events WHERE position = 2")
    found = problems(told)
    assert found[:2] == [
        Problem(3, "chain", "event 3 follows event 1: positions have no gaps"),
        Problem(3, "chain", "event 3 does not follow the event that stands before it"),
    ]
    assert Problem(4, "sequence", f"event 4 of {LEASE_A} has sequence 3, after 1") in found


def test_events_cut_off_at_the_end_are_found_by_the_claim(told: Path, raw: sqlite3.Connection) -> None:
    without_triggers(raw, "DELETE FROM events WHERE position = 5")
    assert problems(told) == [
        Problem(
            4, "projection", f"claim {LEASE_A} is not what its events come to: sequence, position, phase, instance_id"
        )
    ]


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            f"UPDATE claims SET slug = 'z', host = 'h' WHERE lease_id = '{LEASE_B}'",
            Problem(3, "projection", f"claim {LEASE_B} is not what its events come to: slug, host"),
        ),
        (
            f"DELETE FROM claims WHERE lease_id = '{LEASE_B}'",
            Problem(3, "projection", f"lease {LEASE_B} has no claim"),
        ),
        (
            f"UPDATE claims SET lease_id = 'rl_z' WHERE lease_id = '{LEASE_B}'",
            Problem(3, "projection", f"lease {LEASE_B} has no claim"),
        ),
    ],
)
def test_an_edited_claim_is_found(told: Path, raw: sqlite3.Connection, statement: str, problem: Problem) -> None:
    raw.execute(statement)
    assert problem in problems(told)


def test_a_claim_without_events_is_found(told: Path, raw: sqlite3.Connection) -> None:
    raw.execute(f"UPDATE claims SET lease_id = 'rl_z' WHERE lease_id = '{LEASE_B}'")
    assert Problem(3, "projection", "claim rl_z has no events in the log") in problems(told)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DROP TRIGGER events_no_delete", "the trigger events_no_delete is missing"),
        ("DROP INDEX claims_open_slug", "the unique index claims_open_slug is missing"),
        (
            (
                "DROP TRIGGER ledger_meta_once;"
                "CREATE TRIGGER ledger_meta_once BEFORE INSERT ON ledger_meta BEGIN SELECT 1; END"
            ),
            "the trigger ledger_meta_once is not the declared one",
        ),
    ],
)
def test_a_guard_that_was_taken_away_is_found(
    told: Path, raw: sqlite3.Connection, statement: str, message: str
) -> None:
    raw.executescript(statement)
    assert problems(told) == [Problem(0, "schema", message)]


@pytest.mark.holds("W-04")
def test_a_damaged_event_takes_only_its_own_lease_out(told: Path, raw: sqlite3.Connection) -> None:
    """One unreadable record must not disable the rest."""
    without_triggers(raw, "UPDATE events SET payload = '{' WHERE position = 2")
    with sqlite_ledger(told.parent) as register:
        with pytest.raises(IntegrityFailure, match=f"^event 2 of {LEASE_A}: the payload of create-sent version 1"):
            register.load(LEASE_A)
        other = append(register, register.load(LEASE_B), sent())
        assert (other.sequence, [claim.lease_id for claim in register.claims()]) == (2, [LEASE_B, LEASE_A])
        found = register.verify().problems
    assert [(problem.position, problem.kind) for problem in found] == [(2, "chain"), (2, "payload")]
    assert found[1].message.startswith(f"event 2 of {LEASE_A}: the payload of create-sent version 1 cannot be read")


def test_a_missing_event_is_refused_when_its_lease_is_loaded(told: Path, raw: sqlite3.Connection) -> None:
    without_triggers(raw, "DELETE FROM events WHERE position = 2")
    with sqlite_ledger(told.parent) as register:
        with pytest.raises(IntegrityFailure, match=f"^event 2 of {LEASE_A} is missing before position 4$"):
            register.load(LEASE_A)
        assert register.load(LEASE_B).sequence == 1


def test_an_id_is_appended_to_a_lease_whose_past_is_damaged(told: Path, raw: sqlite3.Connection) -> None:
    """The process that knows the state from before goes on: an id that was learnt is never lost."""
    with sqlite_ledger(told.parent) as register:
        lease = register.load(LEASE_A)
        without_triggers(raw, "UPDATE events SET payload = '{' WHERE position = 2")
        assert append(register, lease, bound("inst-9")).sequence == lease.sequence + 1


@pytest.mark.holds("CLN-19")
def test_a_newer_event_is_refused_and_not_guessed_at(told: Path, raw: sqlite3.Connection) -> None:
    without_triggers(raw, "UPDATE events SET version = 2 WHERE position = 3")
    with sqlite_ledger(told.parent) as register, pytest.raises(IntegrityFailure) as caught:
        register.load(LEASE_B)
    assert (caught.value.message, caught.value.hint) == (
        f"event 3 of {LEASE_B}: written by a newer rentroll: event create-requested version 2",
        "upgrade this program; it does not guess at what it cannot read",
    )


def test_a_reader_does_not_need_to_understand_an_event(told: Path, raw: sqlite3.Connection) -> None:
    without_triggers(raw, "UPDATE events SET payload = '{', type = 'box-painted' WHERE position = 2")
    reader = open_sqlite_reader(told)
    assert reader is not None
    with reader:
        assert [row.type for row in reader.rows(LEASE_A)][:2] == ["create-requested", "box-painted"]
        assert [claim.lease_id for claim in reader.claims()] == [LEASE_A, LEASE_B]
        assert reader.head().position == 5


def test_a_control_character_before_the_payload_is_refused() -> None:
    with pytest.raises(ValueError, match="a field of event 1 holds a control character"):
        event_hash("0" * 64, (1, LEASE_A, 1, "ready", 1, "2026", "ada\nevil", "{}"))


def test_an_actor_with_a_line_break_is_not_recorded(told: Path) -> None:
    with sqlite_ledger(told.parent) as register:
        with pytest.raises(ValueError, match="holds a control character"):
            append(register, Lease(lease_id="rl_z"), requested(), actor="ada\nevil")
        assert register.head().position == 5
