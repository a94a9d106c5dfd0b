"""The journal of the emulated fal: every request that arrived and what became of it, never with an API key."""

from datetime import datetime
from typing import Any

from msgspec.structs import replace

from providers.emulator import requests
from providers.emulator.messages import Call, JournalEntry, Request


class Journal:
    """Numbers the requests from 1 and notes what is learnt of each."""

    def __init__(self) -> None:
        self._entries: list[JournalEntry] = []

    def enter(self, request: Request, call: Call, now: datetime) -> int:
        """Adds a request that has just arrived and gives its number. Its key is masked wherever it stands."""
        path, _, query = request.target.partition("?")
        key = requests.key(request)

        def masked(text: str) -> str:
            return text.replace(key, "***") if key else text

        idempotency_key = requests.idempotency_key(request)
        entry = JournalEntry(
            number=len(self._entries) + 1,
            at=now,
            method=request.method,
            path=masked(path),
            query=masked(query),
            call=call,
            idempotency_key=None if idempotency_key is None else masked(idempotency_key),
            body=masked(request.body.decode("utf-8", "replace")),
        )
        self._entries.append(entry)
        return entry.number

    def note(self, number: int, **changes: Any) -> None:
        """Sets fields of an entry."""
        self._entries[number - 1] = replace(self._entries[number - 1], **changes)

    def entries(self) -> tuple[JournalEntry, ...]:
        """Every request that arrived, in order."""
        return tuple(self._entries)
