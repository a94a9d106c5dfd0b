"""The first ledger: the append-only log of events, the claims that are projected from it, and its identity.

Frozen: it says what was made then, not what `ledger/store/schema.py` declares now.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_APPLICATION_ID = 0x72656E74
_WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _events()
    _claims()
    _ledger_meta()
    if op.get_bind().dialect.name == "sqlite":
        for trigger in _SQLITE_TRIGGERS:
            op.execute(trigger)
        op.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        op.execute("PRAGMA user_version = 1")


def _events() -> None:
    op.create_table(
        "events",
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
    account = sa.text("stream = 'account'")
    op.create_index("events_account", "events", ["stream", "position"], sqlite_where=account, postgresql_where=account)


_CLAIM_COLUMNS = """
lease_id text, sequence integer, position integer, is_open integer, phase text, outcome text?, slug text,
provider text, scope text, purpose text, actor text, host text, repository text?, instance_id text?,
instance_type text, sector text?, region text?, provider_status text?, ssh_host text?, ssh_port integer?,
ssh_user text, host_key_fingerprint text?, work_root text, keep_until text?, keep_reason text?, created_at text,
ready_at text?, touched_at text?, expires_at text, released_at text?, acquire_deadline text, ttl_ms integer,
idle_timeout_ms integer, rate_per_hour text?, currency text?, rate_source text?, billed_from text?,
billed_until text?, sent integer, suspect integer, failure_stage text?, failure_cause text?, stop_reason text?,
delete_cause text?, retry_at text?, credential_binding text, contradiction text?
"""
"""Name and type of each column; `?` where it may be null."""


def _claims() -> None:
    columns = []
    for column in _CLAIM_COLUMNS.split(","):
        name, kind = column.split()
        columns.append(
            sa.Column(
                name,
                _WIDE if kind.startswith("integer") else sa.Text(),
                primary_key=name == "lease_id",
                nullable=kind.endswith("?"),
            )
        )
    op.create_table("claims", *columns, sqlite_strict=True)
    for index, column, unique, where in (
        ("claims_open_slug", "slug", True, "is_open = 1"),
        ("claims_instance", "instance_id", True, "instance_id IS NOT NULL AND contradiction IS NULL"),
        ("claims_contradicted", "instance_id", False, "contradiction IS NOT NULL"),
        ("claims_open", "created_at", False, "is_open = 1"),
        ("claims_released", "released_at", False, "is_open = 0"),
        ("claims_suspect", "released_at", False, "suspect = 1"),
    ):
        op.create_index(
            index, "claims", [column], unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )


def _ledger_meta() -> None:
    op.create_table(
        "ledger_meta",
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
        sa.Column("ledger_id", sa.Text, nullable=False),
        sa.Column("salt", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sqlite_strict=True,
    )


_SQLITE_TRIGGERS = (
    # What was recorded is never edited, nor taken back,
    (
        "CREATE TRIGGER events_no_update BEFORE UPDATE ON events"
        " BEGIN SELECT RAISE(ABORT, 'events are never changed'); END"
    ),
    (
        "CREATE TRIGGER events_no_delete BEFORE DELETE ON events"
        " BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END"
    ),
    # nor replaced: INSERT OR REPLACE deletes without firing a DELETE trigger.
    (
        "CREATE TRIGGER events_in_order BEFORE INSERT ON events"
        " WHEN (NEW.position - 1, NEW.prev_hash)"
        " IS NOT (SELECT position, hash FROM events ORDER BY position DESC LIMIT 1)"
        " AND ((NEW.position, NEW.prev_hash)"
        " IS NOT (1, '0000000000000000000000000000000000000000000000000000000000000000')"
        " OR EXISTS (SELECT 1 FROM events))"
        " OR NEW.sequence IS NOT coalesce((SELECT sequence FROM events WHERE stream = NEW.stream"
        " ORDER BY sequence DESC LIMIT 1), 0) + 1"
        " BEGIN SELECT RAISE(FAIL, 'events are appended in order'); END"
    ),
    # Every credential binding was made with the salt: another one would disown every open lease.
    (
        "CREATE TRIGGER ledger_meta_no_update BEFORE UPDATE ON ledger_meta"
        " BEGIN SELECT RAISE(ABORT, 'the identity of a ledger never changes'); END"
    ),
    (
        "CREATE TRIGGER ledger_meta_no_delete BEFORE DELETE ON ledger_meta"
        " BEGIN SELECT RAISE(ABORT, 'the identity of a ledger never goes'); END"
    ),
    (
        "CREATE TRIGGER ledger_meta_once BEFORE INSERT ON ledger_meta WHEN EXISTS (SELECT 1 FROM ledger_meta)"
        " BEGIN SELECT RAISE(ABORT, 'a ledger has one identity'); END"
    ),
)
