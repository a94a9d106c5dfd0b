"""What goes in and out of the emulated fal: a request, an answer, and the journal of both. Pure data."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

Call = Literal["list", "create", "get", "delete", "billing", "other"]
"""The kind of call a request is: the five that fal documents, or anything else."""

Connection = Literal["answer", "cut-before", "cut-after", "truncate", "defer"]
"""What the server does with the connection.

`answer` sends the answer; `cut-before` and `cut-after` reset the connection without a byte of it, the request
being unhandled or handled; `truncate` closes it after `sent_bytes` of the body; `defer` means that nothing was
handled yet: the server calls `FalState.resume` with `ticket` after `delay_s`, whether or not the client waits.
"""


class Request(Struct, frozen=True, kw_only=True):
    """One HTTP request. `target` is the path with its query as sent; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def __repr__(self) -> str:
        """Leaves the headers out: one of them holds the API key."""
        return f"Request(method={self.method!r}, target={self.target!r})"


class Response(Struct, frozen=True, kw_only=True):
    """One answer and how it travels. `status` is None only where nothing was handled."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    connection: Connection = "answer"
    delay_s: float = 0.0
    sent_bytes: int = 0
    ticket: int | None = None
    date: datetime | None = None

    def with_header(self, name: str, value: str) -> "Response":
        """The same answer with one more header."""
        return replace(self, headers={**self.headers, name: value})


class JournalEntry(Struct, frozen=True, kw_only=True):
    """One request that arrived, with the API key masked wherever it stood.

    `account` is the owner of the key that was accepted, else None. `status` is the answer's status, also where
    the answer was cut off; None while a deferred request waits, and for one that was never handled.
    """

    number: int
    at: datetime
    method: str
    path: str
    query: str
    call: Call
    idempotency_key: str | None
    body: str
    account: str | None = None
    status: int | None = None
    connection: Connection = "answer"
