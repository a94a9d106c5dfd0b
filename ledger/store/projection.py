"""Writes what a new fact makes of a claim. Nothing here may stop the fact: where an index or the fold fails, the
claim is bent, marked or left behind, and the fact stands.

The append and the rebuild both go through here, one event at a time, so that the projection equals the replay.
"""

import sqlite3
from operator import itemgetter
from typing import Any

from msgspec.structs import replace

from ledger.domain.claim import Claim
from ledger.domain.events import RunFinished, RunStarted, SyncFinished, Touched
from ledger.domain.evolve import evolve
from ledger.domain.names import suffixed_slug
from ledger.domain.projection import claim_of
from ledger.domain.state import Lease, Phase, Recorded
from ledger.store import sqlite_text as sql
from ledger.store.codec import time_text

Executing = sqlite3.Connection | sqlite3.Cursor
SIGNS_OF_LIFE = frozenset((Touched, SyncFinished, RunStarted, RunFinished))
_unindexed = itemgetter(*(Claim._fields.index(name) for name in sql.UNINDEXED))


def fold(lease: Lease, fact: Recorded) -> tuple[Lease, str | None]:
    """The lease after one more fact, and what went wrong if the fold failed: then only its place has moved on."""
    try:
        return evolve(lease, fact), None
    except Exception as error:  # noqa: BLE001 - a bug in the fold must not cost us the fact
        return replace(lease, sequence=fact.sequence, recorded_at=fact.recorded_at), _unreadable(fact.event.TYPE, error)


def project(
    connection: Executing,
    lease: Lease,
    position: int,
    failure: str | None,
    fact: Recorded | None = None,
    recorded_at: str | None = None,
) -> None:
    """Writes the claim of a lease whose newest fact stands at `position`; `failure` is what `fold` said of it.

    With `fact`, that newest fact, a sign of life writes only what it can change; `recorded_at` is its time as it was
    stored, where that is at hand. Raises only what would stop any write: a full disk, a damaged file.
    """
    if failure is None:
        try:
            if fact is None or not _touch(connection, lease, position, fact, recorded_at):
                _place(connection, claim_of(lease, position))
        except Exception as error:  # noqa: BLE001 - nor may a bug in the projection
            _raise_if_fatal(error)
            failure = _unreadable("its claim", error)
    if failure is not None:
        try:
            _mark(connection, lease, position, failure)
        except sqlite3.Error as error:
            # There is no claim to mark: the table itself is gone or barred. `verify` says so.
            _raise_if_fatal(error)


def _raise_if_fatal(error: Exception) -> None:
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code not in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT):
            raise error


def _unreadable(what: str, error: Exception) -> str:
    return f"{what} could not be understood ({type(error).__name__}: {error})"


def _touch(connection: Executing, lease: Lease, position: int, fact: Recorded, recorded_at: str | None) -> bool:
    """Writes the activity of a claim, where the fact is a sign of life and the claim exists."""
    if type(fact.event) not in SIGNS_OF_LIFE:
        return False
    touched_at, expires_at = lease.touched_at, lease.expires_at
    if touched_at is None or expires_at is None:
        return False
    activity = (
        lease.sequence,
        position,
        recorded_at if recorded_at and touched_at is fact.recorded_at else time_text(touched_at),
        time_text(expires_at),
        lease.ttl_ms,
        lease.idle_timeout_ms,
        lease.lease_id,
    )
    return bool(connection.execute(sql.TOUCH_CLAIM, activity).rowcount)


def _place(connection: Executing, claim: Claim) -> None:
    same = (*_unindexed(claim), claim.lease_id, claim.is_open, claim.instance_id)
    if connection.execute(sql.UPDATE_CLAIM, same).rowcount:
        return
    try:
        connection.execute(sql.UPSERT_CLAIM, claim)
    except sqlite3.IntegrityError:
        connection.execute(sql.UPSERT_CLAIM, _out_of_the_way(connection, claim))


def _out_of_the_way(connection: Executing, claim: Claim) -> Claim:
    """The claim as the unique indexes allow it: under a suffixed slug, or outside the index of boxes."""

    def is_taken(slug: str) -> bool:
        return _other(connection, sql.SLUG_HOLDER, slug, claim.lease_id) is not None

    if claim.is_open:
        claim = claim._replace(slug=suffixed_slug(claim.slug, claim.lease_id, is_taken))
    if claim.instance_id is not None:
        holder = _other(connection, sql.INSTANCE_HOLDER, claim.instance_id, claim.lease_id)
        if holder is not None:
            claim = claim._replace(
                contradiction=f"leases {holder} and {claim.lease_id} both claim box {claim.instance_id}"
            )
    return claim


def _other(connection: Executing, statement: str, value: str, lease_id: str) -> str | None:
    for (found,) in connection.execute(statement, (value,)).fetchall():
        if found != lease_id:
            return str(found)
    return None


def _mark(connection: Executing, lease: Lease, position: int, failure: str) -> None:
    """Keeps the claim as it was, marked; a lease that has none yet gets one that says only what is certain."""
    contradiction = f"the facts of lease {lease.lease_id} contradict each other at event {position}: {failure}"
    marked = connection.execute(sql.MARK_CLAIM, (lease.sequence, position, contradiction, lease.lease_id))
    if marked.rowcount == 0:
        connection.execute(sql.UPSERT_CLAIM, _placeholder(lease, position, contradiction))


def _placeholder(lease: Lease, position: int, contradiction: str) -> Claim:
    """Open and in doubt, under its own id: what is not known must not look absent, free or released."""
    at = time_text(lease.recorded_at) if lease.recorded_at else ""
    unknown: dict[str, Any] = dict.fromkeys(Claim._fields)
    texts = ("provider", "scope", "purpose", "actor", "host", "instance_type", "ssh_user", "work_root")
    return Claim(
        **unknown
        | dict.fromkeys((*texts, "credential_binding"), "")
        | dict.fromkeys(("created_at", "expires_at", "acquire_deadline"), at)
        | {
            "lease_id": lease.lease_id,
            "sequence": lease.sequence,
            "position": position,
            "is_open": 1,
            "phase": Phase.IN_DOUBT.value,
            "slug": lease.lease_id,
            "instance_id": lease.instance_id,
            "ttl_ms": 0,
            "idle_timeout_ms": 0,
            "sent": 1,
            "suspect": 0,
            "contradiction": contradiction,
        }
    )
