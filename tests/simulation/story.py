"""What the ledger says, read from the stored rows alone: a judge that shares no code with what it judges."""

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ledger.domain.rows import Row


@dataclass
class Post:
    """One POST that came to fal: the attempt that was the newest when it left, and when that was by fal's clock."""

    attempt: int
    sent_at: datetime


@dataclass
class Story:
    """One lease. `results` are those of its attempts; `is_late` says that a POST of it was held up on its way out."""

    lease_id: str
    public_key: str
    twin_of: str | None
    acquirer: str
    ids_before: frozenset[str]
    results: list[str] = field(default_factory=list)
    bound: str | None = None
    is_confirmed: bool = False
    outcome: str | None = None
    posts: list[Post] = field(default_factory=list)
    key: str | None = None
    is_late: bool = False


class Stories:
    """All leases of a ledger, row by row. `wrong` are facts that must not stand there, with their rule."""

    def __init__(self) -> None:
        self.position = 0
        self.leases: dict[str, Story] = {}
        self.announced: Counter[str] = Counter()
        self.holders: dict[str, str] = {}
        self.fenced: list[str] = []
        self.ended: list[Story] = []
        self.wrong: list[tuple[str, str]] = []

    def read(self, row: Row) -> None:
        """One more row."""
        self.position = row.position
        read = getattr(self, f"_{row.type.replace('-', '_')}", None)
        if read is not None:
            read(row.stream, json.loads(row.payload))

    def _create_requested(self, stream: str, said: dict[str, Any]) -> None:
        self.leases[stream] = Story(
            lease_id=stream,
            public_key=said["public_key"],
            twin_of=said.get("twin_of"),
            acquirer=said["acquirer"],
            ids_before=frozenset(said["ids_before"]),
        )

    def _create_sent(self, stream: str, said: dict[str, Any]) -> None:
        self.leases[stream].results.append("open")

    def _create_rejected(self, stream: str, said: dict[str, Any]) -> None:
        self.leases[stream].results[said["attempt"] - 1] = "rejected"

    def _create_in_doubt(self, stream: str, said: dict[str, Any]) -> None:
        result = "not-sent" if not said["sent"] else "answered" if said["answered"] else "unanswered"
        self.leases[stream].results[said["attempt"] - 1] = result

    def _instance_id_bound(self, stream: str, said: dict[str, Any]) -> None:
        story, box = self.leases[stream], said["instance_id"]
        if story.bound not in (None, box):
            self.wrong.append(("unique", f"{stream} is bound to {story.bound} and to {box}"))
        if self.holders.setdefault(box, stream) != stream:
            self.wrong.append(("unique", f"{box} is bound to {self.holders[box]} and to {stream}"))
        story.bound, story.outcome, story.is_confirmed = box, None, False
        if said.get("attempt"):
            story.results[said["attempt"] - 1] = "bound"

    def _acquire_fenced(self, stream: str, said: dict[str, Any]) -> None:
        if said["evidence"] == "lock-free":
            self.fenced.append(stream)

    def _delete_requested(self, stream: str, said: dict[str, Any]) -> None:
        if self.leases[stream].bound != said["instance_id"]:
            self.wrong.append(
                ("announced", f"{stream} announces a DELETE of {said['instance_id']}, not of its own box")
            )
        self.announced[said["instance_id"]] += 1

    def _deletion_confirmed(self, stream: str, said: dict[str, Any]) -> None:
        self.leases[stream].is_confirmed = True

    def _reopened(self, stream: str, said: dict[str, Any]) -> None:
        self.leases[stream].is_confirmed = False
        self.leases[stream].outcome = None

    def _released(self, stream: str, said: dict[str, Any]) -> None:
        story = self.leases[stream]
        story.outcome = said["outcome"]
        self.ended.append(story)
        if story.outcome in ("completed", "rolled-back") and not story.is_confirmed:
            self.wrong.append(("released", f"{stream} is released as {story.outcome} without a confirmed absence"))
