"""Every statement of the hot path, written once with SQLAlchemy Core and compiled to text for each database.

Parameters are positional, in the order in which they stand in the text. Conditions of partial indexes are literal:
SQLite does not use such an index for a bound parameter.
"""

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ClauseElement

from ledger.store.schema import SQLITE_TRIGGERS, claims, events, ledger_meta

PAGE = 1000
"""Rows read at a time: a read holds no snapshot between two pages, so that it never holds up a checkpoint."""

_one: sa.ColumnElement[int] = sa.literal_column("1")
_is_open = claims.c.is_open == _one
_open_claim = _is_open & (claims.c.slug == sa.bindparam("slug"))
_of_instance = claims.c.instance_id == sa.bindparam("instance_id")


def _every_column(table: sa.Table) -> dict[str, sa.BindParameter[object]]:
    return {column.name: sa.bindparam(column.name) for column in table.c}


def _page(select: sa.Select[tuple[object, ...]], size: int = PAGE) -> sa.Select[tuple[object, ...]]:
    return select.limit(sa.literal_column(str(size))).offset(sa.literal_column("0"))


def _upsert_claim() -> sqlite.Insert:
    """A slug given while the lease is open stays; it is chosen anew only when a released lease opens again.

    A contradiction stays until a person has settled it.
    """
    insert = sqlite.insert(claims).values(_every_column(claims))
    new = insert.excluded
    changes: dict[str, sa.ColumnElement[object]] = {
        column.name: new[column.name] for column in claims.c if not column.primary_key
    }
    opens_again = (claims.c.is_open == sa.literal_column("0")) & (new.is_open == _one)
    changes["slug"] = sa.case((opens_again, new.slug), else_=claims.c.slug)
    changes["contradiction"] = sa.func.coalesce(new.contradiction, claims.c.contradiction)
    return insert.on_conflict_do_update(index_elements=["lease_id"], set_=changes)


UNINDEXED: tuple[str, ...] = tuple(
    column.name
    for column in claims.c
    if column.name not in ("lease_id", "is_open", "slug", "instance_id", "created_at", "contradiction")
)
"""What most facts change in a claim. SQLite rewrites an index for each column that is set, changed or not, for a row
that is in it: `released_at` and `suspect` are only in indexes of released leases and of suspects.
"""


def _update_claim() -> sa.Update:
    """The same as the upsert where neither the lease's end nor its box has changed.

    No index is touched while the lease is open and no suspect.
    """
    return (
        claims.update()
        .values({name: sa.bindparam(f"new_{name}") for name in UNINDEXED})
        .where(
            claims.c.lease_id == sa.bindparam("of_lease"),
            claims.c.is_open == sa.bindparam("as_open"),
            claims.c.instance_id.is_not_distinct_from(sa.bindparam("of_instance")),
        )
    )


ACTIVITY = ("sequence", "position", "touched_at", "expires_at", "ttl_ms", "idle_timeout_ms")
"""All that a sign of life changes in a claim: most facts of a long lease are such."""


def _touch_claim() -> sa.Update:
    return (
        claims.update()
        .values({name: sa.bindparam(f"new_{name}") for name in ACTIVITY})
        .where(claims.c.lease_id == sa.bindparam("of_lease"))
    )


STATEMENTS: dict[str, ClauseElement] = {
    "HEAD": _page(sa.select(events.c.position, events.c.hash, events.c.recorded_at), 1).order_by(
        events.c.position.desc()
    ),
    "STREAM_SEQUENCE": sa.select(sa.func.coalesce(sa.func.max(events.c.sequence), sa.literal_column("0"))).where(
        events.c.stream == sa.bindparam("stream")
    ),
    "INSERT_EVENT": events.insert().prefix_with("OR FAIL").values(_every_column(events)),
    "ROWS": _page(
        sa.select(events).where(events.c.position > sa.bindparam("after")).order_by(events.c.position),
    ),
    "STREAM_ROWS": _page(
        sa.select(events)
        .where(events.c.stream == sa.bindparam("stream"), events.c.sequence > sa.bindparam("after"))
        .order_by(events.c.sequence),
    ),
    "ACCOUNT_ROWS": _page(
        sa.select(events)
        .where(events.c.stream == sa.literal_column("'account'"), events.c.position > sa.bindparam("after"))
        .order_by(events.c.position),
    ),
    "FIRST_POSITION": sa.select(events.c.position).where(
        events.c.stream == sa.bindparam("stream"), events.c.sequence == _one
    ),
    "STREAM_PLACES": sa.select(events.c.stream, events.c.sequence, events.c.position).order_by(
        events.c.stream, events.c.sequence
    ),
    "UPDATE_CLAIM": _update_claim(),
    "TOUCH_CLAIM": _touch_claim(),
    "UPSERT_CLAIM": _upsert_claim(),
    "MARK_CLAIM": claims.update()
    .values(
        sequence=sa.bindparam("new_sequence"),
        position=sa.bindparam("new_position"),
        contradiction=sa.func.coalesce(claims.c.contradiction, sa.bindparam("new_contradiction")),
    )
    .where(claims.c.lease_id == sa.bindparam("of_lease")),
    "CLAIM": sa.select(claims).where(claims.c.lease_id == sa.bindparam("lease_id")),
    "OPEN_CLAIMS": sa.select(claims).where(_is_open).order_by(claims.c.created_at.desc(), claims.c.position.desc()),
    "ALL_CLAIMS": sa.select(claims).order_by(claims.c.created_at.desc(), claims.c.position.desc()),
    "CLAIMS_BY_LEASE": sa.select(claims).order_by(claims.c.lease_id),
    "RELEASED_SINCE": sa.select(claims)
    .where(claims.c.is_open == sa.literal_column("0"), claims.c.released_at > sa.bindparam("released_at"))
    .order_by(claims.c.released_at.desc()),
    "SUSPECTS": sa.union_all(
        sa.select(claims).where(claims.c.suspect == _one, claims.c.released_at.is_(None)),
        sa.select(claims).where(claims.c.suspect == _one, claims.c.released_at > sa.bindparam("released_at")),
        sa.select(claims).where(
            claims.c.suspect == _one,
            claims.c.released_at <= sa.bindparam("released_at_again"),
            claims.c.instance_id.is_not(None),
        ),
    ),
    "CLAIM_BY_SLUG": sa.select(claims).where(_open_claim),
    "CLAIMS_BY_INSTANCE": sa.union_all(
        sa.select(claims).where(_of_instance, claims.c.contradiction.is_(None)),
        sa.select(claims).where(
            claims.c.instance_id == sa.bindparam("instance_id_again"), claims.c.contradiction.is_not(None)
        ),
    ),
    "SLUG_HOLDER": sa.select(claims.c.lease_id).where(_open_claim),
    "INSTANCE_HOLDER": sa.select(claims.c.lease_id).where(_of_instance, claims.c.contradiction.is_(None)),
    "INSERT_META": ledger_meta.insert().values(_every_column(ledger_meta)),
    "META": sa.select(ledger_meta.c.ledger_id, ledger_meta.c.salt, ledger_meta.c.created_at),
}
"""By the name of its constant in the compiled module."""


def sqlite_statements() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Each statement's text for SQLite, with the names of its parameters in their order."""
    dialect = sqlite.dialect(paramstyle="qmark")
    compiled = {name: statement.compile(dialect=dialect) for name, statement in STATEMENTS.items()}
    return {
        name: (_one_line(str(text)), tuple(text.positiontup or ()))
        for name, text in compiled.items()
        if isinstance(text, SQLCompiler)
    }


def sqlite_schema() -> dict[str, str]:
    """The statement that makes each table, index and trigger on SQLite, by its name, in a good order."""
    dialect = sqlite.dialect()
    made: dict[str, str] = {}
    for table in (events, claims, ledger_meta):
        made[table.name] = _one_line(str(sa.schema.CreateTable(table).compile(dialect=dialect)))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            made[str(index.name)] = _one_line(str(sa.schema.CreateIndex(index).compile(dialect=dialect)))
    return made | {text.split()[2]: text for text in SQLITE_TRIGGERS}


def _one_line(text: str) -> str:
    return " ".join(text.split())
