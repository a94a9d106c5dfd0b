"""The behaviours that rentroll has to hold, by their ids: one sentence each, in the three files beside this one."""

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
FILES = ("scenarios.toml", "weaknesses.toml", "complaints.toml")


class Behaviour(NamedTuple):
    """One behaviour. `why_not` is why no test of it can exist; `sources` are where somebody told of its lack."""

    id: str
    says: str
    why_not: str | None = None
    sources: tuple[str, ...] = ()


class Area(NamedTuple):
    """The behaviours whose ids begin alike, in the order of their numbers."""

    name: str
    title: str
    behaviours: tuple[Behaviour, ...]


def areas() -> list[Area]:
    """Every area in the order of the files. Raises `TypeError` where an entry has a field that is none."""
    found = []
    for file in FILES:
        for name, entries in tomllib.loads((FOLDER / file).read_text(encoding="utf-8")).items():
            title = entries.pop("title")
            found.append(Area(name, title, tuple(_behaviour(key, entry) for key, entry in entries.items())))
    return found


def behaviours() -> dict[str, Behaviour]:
    """All of them by their ids."""
    return {behaviour.id: behaviour for area in areas() for behaviour in area.behaviours}


def _behaviour(key: str, entry: Any) -> Behaviour:
    """An entry is a sentence, or a table that has the sentence in `says`."""
    if isinstance(entry, str):
        return Behaviour(key, entry)
    return Behaviour(**{"id": key, **entry, "sources": tuple(entry.get("sources", ()))})
