"""How a live smoke ended: judged by the type of a failure, fal's status, a balance and the ledger. Pure.

Never by words: a bug of ours whose message mentions capacity is a bug (W-39, SMK-08).
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from ledger.domain.errors import CredentialsFailure, Interrupted, RentrollError, UsageFailure
from ledger.domain.instance import Instance
from ledger.domain.ports import CallFailed, KeyRejected
from ledger.domain.state import Lease, Outcome, Phase
from ledger.domain.suspects import IsBound, new_boxes

PAYMENT_REQUIRED = 402
FORBIDDEN = 403
TOO_MANY_REQUESTS = 429
SERVER_ERRORS = range(500, 600)


class Classification(StrEnum):
    """What a live smoke proved. What is blocked proves nothing and accuses nobody: its exit code is 0."""

    PASSED = "passed"
    ENVIRONMENT_BLOCKED = "environment_blocked"
    CAPACITY_BLOCKED = "capacity_blocked"
    BILLING_BLOCKED = "billing_blocked"
    VALIDATION_FAILED = "validation_failed"
    CLEANUP_FAILED = "cleanup_failed"


class NotFit(UsageFailure):
    """Something that a live smoke needs is missing here, so that it did not begin. `reason` says what, in a word."""

    def __init__(self, reason: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class NotAsExpected(RentrollError):
    """A step of the live smoke went through and showed something else than it must. `reason` says what, in a word."""

    remedy = "The steps say what was expected; `rentroll events LEASE` shows what happened."

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Verdict(Struct, frozen=True, kw_only=True):
    """A classification, its `reason` in a word, and the exit code that goes with it."""

    classification: Classification
    reason: str
    exit_code: int = 0


_PASSED = Verdict(classification=Classification.PASSED, reason="passed")


class Ending(Struct, frozen=True, kw_only=True):
    """How a smoke ended. `beside` is what else is true of one whose cleanup failed."""

    classification: Classification
    beside: Classification | None
    reason: str
    exit_code: int


class Left(Struct, frozen=True, kw_only=True):
    """Something of the smoke that may still be there, and a sentence of it.

    `kind` is open, in-doubt, listed (released, and fal shows it), suspect (a second box may exist), candidate (its
    create was refused, and a new box may be its own), key; or stop and look, where these failed.
    """

    kind: str
    told: str


def ending_of(
    failure: Exception | Interrupted | None, left: Sequence[Left], lease: Lease, *, balance: Decimal | None
) -> Ending:
    """How a smoke ended. `lease` is as the cleanup left it; `balance` is the account's, where it is known.

    What is left fails it whatever else is true (SMK-10); an exit code of its own is kept (SMK-16).
    """
    first = verdict_of(failure, lease, balance=balance) if failure is not None else _PASSED
    if not left:
        return Ending(classification=first.classification, beside=None, reason=first.reason, exit_code=first.exit_code)
    return Ending(
        classification=Classification.CLEANUP_FAILED,
        beside=first.classification if failure is not None else None,
        reason=first.reason if failure is not None else left[0].kind,
        exit_code=first.exit_code or RentrollError.exit_code,
    )


def verdict_of(failure: Exception | Interrupted, lease: Lease, *, balance: Decimal | None) -> Verdict:
    """What a failure of the smoke says by itself."""
    blocked = _blocked(failure, lease, balance)
    if blocked is not None:
        classification, reason = blocked
        return Verdict(classification=classification, reason=reason)
    named = failure if isinstance(failure, RentrollError | Interrupted) else RentrollError(str(failure))
    return Verdict(
        classification=Classification.VALIDATION_FAILED,
        reason=named.reason if isinstance(named, NotAsExpected) else named.code,
        exit_code=named.exit_code,
    )


def _blocked(
    failure: Exception | Interrupted, lease: Lease, balance: Decimal | None
) -> tuple[Classification, str] | None:
    """The outcome that is nobody's bug, with its reason; None where nothing excuses the failure."""
    if isinstance(failure, NotFit):
        return Classification.ENVIRONMENT_BLOCKED, failure.reason
    if lease.phase is None:
        return _blocked_before(failure, balance)
    refused = lease.phase is Phase.RELEASED and lease.outcome is Outcome.REJECTED
    return _blocked_create(failure, balance) if refused and isinstance(failure, CallFailed) else None


def _blocked_before(failure: Exception | Interrupted, balance: Decimal | None) -> tuple[Classification, str] | None:
    """Before anything was asked for: also a fal that cannot be reached or is down says nothing of us."""
    if isinstance(failure, CallFailed):
        if failure.status == TOO_MANY_REQUESTS:
            return Classification.ENVIRONMENT_BLOCKED, "rate-limited"
        if failure.status in SERVER_ERRORS:
            return Classification.ENVIRONMENT_BLOCKED, "provider-error"
        if not failure.answered:
            return Classification.ENVIRONMENT_BLOCKED, "no-answer" if failure.sent else "unreachable"
    elif isinstance(failure, CredentialsFailure):
        return Classification.ENVIRONMENT_BLOCKED, "key-refused"
    return _blocked_account(failure, balance)


def _blocked_create(failure: CallFailed, balance: Decimal | None) -> tuple[Classification, str] | None:
    """fal understood the create and refused it, so that nothing was made. Other refusals are of our own making."""
    if failure.status == TOO_MANY_REQUESTS:
        return Classification.CAPACITY_BLOCKED, failure.error_type or "too-many-requests"
    return _blocked_account(failure, balance)


def _blocked_account(failure: Exception | Interrupted, balance: Decimal | None) -> tuple[Classification, str] | None:
    """fal documents no status for an empty account; a refusal of one whose balance fal itself shows as used up is it.

    Its OpenAPI document of 2026-08-21 has 401 and 403 with the type `authorization_error` for both.
    """
    if isinstance(failure, CallFailed) and failure.status == PAYMENT_REQUIRED:
        return Classification.BILLING_BLOCKED, "payment-required"
    if not isinstance(failure, KeyRejected):
        return None
    if failure.status == FORBIDDEN and balance is not None and balance <= 0:
        return Classification.BILLING_BLOCKED, "no-credit"
    return Classification.ENVIRONMENT_BLOCKED, "key-refused"


def left_of(leases: Iterable[Lease], listed: frozenset[str]) -> list[Left]:
    """What the ledger and an inventory still show of the smoke's own leases.

    `listed` are the ids of a complete inventory. Only our own ids are looked for: others' come and go (W-39).
    """
    left = []
    for lease in leases:
        box = lease.instance_id
        if lease.phase is Phase.IN_DOUBT:
            left.append(Left(kind="in-doubt", told=f"whether a box was made for lease {lease.slug} is not known"))
        elif lease.is_open:
            what = f", box {box}" if box else ""
            left.append(Left(kind="open", told=f"lease {lease.slug} is open ({lease.phase}{what})"))
        elif box is not None and box in listed:
            left.append(Left(kind="listed", told=f"fal lists box {box} after its lease {lease.slug} was released"))
        if box is not None and lease.is_suspect:
            left.append(Left(kind="suspect", told=f"a second box of lease {lease.slug} is not ruled out"))
    return left


def could_be_of(lease: Lease, instances: Iterable[Instance], is_bound: IsBound) -> list[Left]:
    """The new boxes that have not refused the key of a lease whose create was refused: none may be its own (SMK-11).

    fal said that it made nothing, so that one clean refusal is enough to believe it.
    """
    if lease.outcome is not Outcome.REJECTED:
        return []
    return [
        Left(kind="candidate", told=f"box {box.id} is new and has not refused the key of lease {lease.slug}")
        for box in new_boxes(lease, instances, is_bound)
        if next((tried.verdict for tried in reversed(lease.tries) if tried.instance_id == box.id), None) != "refused"
    ]
