"""The tables of a ledger, declared once with SQLAlchemy Core: what the migrations must build and statements refer to.

Column types are the ones that SQLite's STRICT tables and PostgreSQL both take. Nothing on the path of a command
imports this: its statements were compiled to text beforehand (`ledger/store/compile_sql.py`).
"""

from types import NoneType
from typing import Any, get_args, get_type_hints

import sqlalchemy as sa
from sqlalchemy.schema import SchemaItem

from ledger.domain.claim import Claim

metadata = sa.MetaData()

_WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""64 bits wherever it is; SQLite calls every integer INTEGER, and its STRICT tables know no BIGINT."""

events = sa.Table(
    "events",
    metadata,
    sa.Column("position", _WIDE, primary_key=True, autoincrement=False),
    sa.Column("stream", sa.Text, nullable=False),
    sa.Column("sequence", _WIDE, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("recorded_at", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("prev_hash", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.UniqueConstraint("stream", "sequence", name="events_stream_sequence"),
    sqlite_strict=True,
)


def _claim_columns() -> list[SchemaItem]:
    """One column for each field of `Claim`, in its order: a claim is read and written as one tuple."""
    columns: list[SchemaItem] = []
    for name, hint in get_type_hints(Claim).items():
        kinds: tuple[Any, ...] = get_args(hint) or (hint,)
        kind = _WIDE if int in kinds else sa.Text()
        columns.append(sa.Column(name, kind, primary_key=name == "lease_id", nullable=NoneType in kinds))
    return columns


claims = sa.Table("claims", metadata, *_claim_columns(), sqlite_strict=True)

_OPEN = sa.text("is_open = 1")
_BOUND = sa.text("instance_id IS NOT NULL AND contradiction IS NULL")
_RELEASED = sa.text("is_open = 0")
_SUSPECT = sa.text("suspect = 1")
_ACCOUNT = sa.text("stream = 'account'")
_CONTRADICTED = sa.text("contradiction IS NOT NULL")

# A name belongs to one open lease; a released one gives it back.
sa.Index("claims_open_slug", claims.c.slug, unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN)
# A box belongs to one lease for ever; a second claim on it stands outside the index, marked.
sa.Index("claims_instance", claims.c.instance_id, unique=True, sqlite_where=_BOUND, postgresql_where=_BOUND)
sa.Index("claims_contradicted", claims.c.instance_id, sqlite_where=_CONTRADICTED, postgresql_where=_CONTRADICTED)
# Open work is found at a cost that follows what is open; `created_at` never changes, so an append does not touch it.
sa.Index("claims_open", claims.c.created_at, sqlite_where=_OPEN, postgresql_where=_OPEN)

# A released box that shows up again is looked for among what was released lately,
sa.Index("claims_released", claims.c.released_at, sqlite_where=_RELEASED, postgresql_where=_RELEASED)
# and a box that was never bound by the leases that may have made it.
sa.Index("claims_suspect", claims.c.released_at, sqlite_where=_SUSPECT, postgresql_where=_SUSPECT)
# What was seen of the account since a moment, without reading what happened to the leases. The stream is the same in
# all of it, and named so that this index answers better than the one of streams.
sa.Index("events_account", events.c.stream, events.c.position, sqlite_where=_ACCOUNT, postgresql_where=_ACCOUNT)

ledger_meta = sa.Table(
    "ledger_meta",
    metadata,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    sa.Column("ledger_id", sa.Text, nullable=False),
    sa.Column("salt", sa.Text, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sqlite_strict=True,
)


def _refusing(name: str, moment: str, reason: str, how: str = "ABORT") -> str:
    return f"CREATE TRIGGER {name} BEFORE {moment} BEGIN SELECT RAISE({how}, '{reason}'); END"


SQLITE_TRIGGERS: tuple[str, ...] = (
    # The log is the only proof of ownership: what was recorded is never edited,
    _refusing("events_no_update", "UPDATE ON events", "events are never changed"),
    # nor taken back,
    _refusing("events_no_delete", "DELETE ON events", "events are never deleted"),
    # nor replaced: INSERT OR REPLACE deletes without firing a DELETE trigger. Each continues the chain; without
    # gaps, a missing event is seen; and an append to a stream that has moved on is refused here. FAIL and not ABORT:
    # nothing was written yet, and SQLite need not keep a copy of every page in case there was.
    # The newest row is read once, with no aggregate and no function: `printf` of the hash before the first event would
    # run at every insert.
    _refusing(
        "events_in_order",
        "INSERT ON events WHEN (NEW.position - 1, NEW.prev_hash)"
        " IS NOT (SELECT position, hash FROM events ORDER BY position DESC LIMIT 1)"
        " AND ((NEW.position, NEW.prev_hash)"
        " IS NOT (1, '0000000000000000000000000000000000000000000000000000000000000000')"
        " OR EXISTS (SELECT 1 FROM events))"
        " OR NEW.sequence IS NOT coalesce((SELECT sequence FROM events WHERE stream = NEW.stream"
        " ORDER BY sequence DESC LIMIT 1), 0) + 1",
        "events are appended in order",
        "FAIL",
    ),
    # Every credential binding was made with the salt: another one would disown every open lease.
    _refusing("ledger_meta_no_update", "UPDATE ON ledger_meta", "the identity of a ledger never changes"),
    _refusing("ledger_meta_no_delete", "DELETE ON ledger_meta", "the identity of a ledger never goes"),
    _refusing(
        "ledger_meta_once",
        "INSERT ON ledger_meta WHEN EXISTS (SELECT 1 FROM ledger_meta)",
        "a ledger has one identity",
    ),
)
"""What makes the log append-only on SQLite, whoever opens the file."""
