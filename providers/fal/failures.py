"""What went wrong, as an error that may be shown: typed, redacted, and clear about whether it settles a create.

Which failures settle follows fal's documented errors (400, 401, 403, 404, 429, 500 with an error object): only a 4xx
with that object says that fal itself understood and refused.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ledger.domain.ports import CallFailed, InstanceAbsent, KeyRejected
from ledger.domain.redact import redact
from providers.fal.transport import Answer, Loss
from providers.fal.wire import ErrorBody, decode_error

_LONGEST_SHOWN = 500
_NEVER_SETTLES = frozenset({408, 409})
_KEY_REFUSALS = frozenset({401, 403})
_NOT_FOUND = 404


def from_loss(loss: Loss, *, timeout_s: float, secrets: Sequence[str]) -> CallFailed:
    """No usable answer: too late, cut off, refused, or never on its way. Settles nothing.

    A deadline is recognisable by its cause, a bare `TimeoutError`; nothing else of the original is reachable.
    """
    detail = shown(loss.detail, secrets)
    texts = {
        "deadline": f"fal did not answer completely within {timeout_s:g} s",
        "connection": f"the connection to fal broke: {detail}" if loss.sent else f"fal cannot be reached: {detail}",
        "answer": f"fal's answer cannot be read: it is {detail}",
        "redirect": f"fal's answer was not followed: {detail}",
        "setup": f"fal cannot be reached: {detail}",
    }
    failure = CallFailed(
        texts[loss.cause],
        sent=loss.sent,
        answered=loss.status is not None,
        status=loss.status,
        hint="Check HTTPS_PROXY, SSL_CERT_FILE and SSL_CERT_DIR." if loss.cause == "setup" else None,
    )
    failure.__cause__ = TimeoutError("deadline exceeded") if loss.cause == "deadline" else None
    return failure


def from_answer(answer: Answer, *, secrets: Sequence[str], now: datetime, names_instance: bool) -> CallFailed:
    """An answer that is no success. `names_instance`: the request was about one instance, which a 404 denies."""
    error = decode_error(answer.body)
    settles = error is not None and 400 <= answer.status < 500 and answer.status not in _NEVER_SETTLES  # noqa: PLR2004
    kind = CallFailed
    if answer.status in _KEY_REFUSALS:
        kind = KeyRejected
    elif answer.status == _NOT_FOUND and names_instance and error is not None:
        kind = InstanceAbsent
    return kind(
        _text(answer, error, secrets),
        answered=True,
        settles=settles,
        status=answer.status,
        error_type=shown(error.type, secrets) if error else None,
        request_id=shown(error.request_id, secrets) if error and error.request_id else None,
        retry_after_s=retry_after_s(answer.retry_after, now),
        hint=f"fal says more at {shown(error.docs_url, secrets)}" if error and error.docs_url else None,
    )


def undecodable(answer: Answer, problem: str, *, secrets: Sequence[str]) -> CallFailed:
    """A success whose body is not what fal documents: what it did is unknown."""
    status_line = _status_line(answer, secrets)
    return CallFailed(
        f"fal API {status_line}: the answer cannot be used: {shown(problem, secrets)}",
        answered=True,
        status=answer.status,
    )


def retry_after_s(header: str | None, now: datetime) -> int | None:
    """A `Retry-After` header (RFC 9110: whole seconds or a date) as seconds from `now`, never negative."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return int(text) if len(text) < 10 else None  # noqa: PLR2004 - no provider means three centuries
    date = http_date(text)
    return None if date is None else max(0, math.ceil((date - now).total_seconds()))


def http_date(header: str | None) -> datetime | None:
    """An HTTP date in UTC, or None where there is none or it is not one."""
    try:
        date = parsedate_to_datetime(header or "")
    except (ValueError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)


def shown(text: str, secrets: Sequence[str]) -> str:
    """Foreign text as it may be shown: redacted, on one line, without control characters, not endless."""
    printable = "".join(char if char.isprintable() else " " for char in redact(text, secrets))
    clean = redact(" ".join(printable.split()), secrets)
    return clean if len(clean) <= _LONGEST_SHOWN else clean[:_LONGEST_SHOWN] + "..."


def _text(answer: Answer, error: ErrorBody | None, secrets: Sequence[str]) -> str:
    """`fal API <type>: <message>`; a blank message falls back to the status line, an unreadable body to it alone."""
    if error is None:
        return f"fal API {_status_line(answer, secrets)}"
    message = shown(error.message, secrets) or _status_line(answer, secrets)
    return f"fal API {shown(error.type, secrets)}: {message}"


def _status_line(answer: Answer, secrets: Sequence[str]) -> str:
    return f"{answer.status} {shown(answer.reason, secrets)}".strip()
