"""Walks a folder that git is not asked about: with `--path` all of it, with `--with-git` the `.git` folders."""

import os
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from providers.worktree.builtin import VENV_MARK, excludes
from providers.worktree.choice import Choice

GIT_FOLDER = b".git"
LOCK = b".lock"
MONITOR = b"fsmonitor--daemon"


class Place(Enum):
    """What a folder counts as: chosen from, left out by a built-in exclude, or git's own."""

    OPEN = "open"
    LEFT_OUT = "left out"
    GIT = "git"


class Found(NamedTuple):
    """Files and links, and folders with nothing in them; relative to the tree."""

    files: list[bytes]
    empty: list[bytes]


def walk(
    root: bytes,
    start: bytes,
    place: Place,
    choice: Choice,
    *,
    with_git: bool,
    closed: Callable[[bytes, str], None],
) -> Found:
    """What is to be copied of the folder `start`, which is empty for all of `root`.

    `closed` is told of each folder that is chosen and cannot be read, and why.
    """
    files: list[bytes] = []
    empty: list[bytes] = []
    waiting = [(start, place)]
    while waiting:
        folder, place = waiting.pop()
        base = folder + b"/" if folder else b""
        try:
            with os.scandir(root + b"/" + folder) as listed:
                inside = list(listed)
        except (FileNotFoundError, NotADirectoryError):  # gone since
            continue
        except OSError as error:
            if _is_chosen(base, place, choice):  # else it is looked into only for what a line with `!` may bring back
                closed(folder, error.strerror or str(error))
            continue
        if not inside and folder and _is_chosen(base, place, choice):
            empty.append(folder)
        if place is Place.OPEN and folder and any(entry.name == VENV_MARK for entry in inside):
            choice.left_out.add(folder)
            place = Place.LEFT_OUT
        for entry in inside:
            path = base + entry.name
            inner = _place_of(entry.name, place, with_git=with_git)
            if inner is Place.LEFT_OUT is not place:
                choice.left_out.add(path)
            if entry.is_dir(follow_symlinks=False):
                if choice.brings_back or _is_chosen(path + b"/", inner, choice):
                    waiting.append((path, inner))
            elif not (inner is Place.GIT and is_passing(entry.name)) and _is_chosen(path, inner, choice):
                files.append(path)
    return Found(files, empty)


def _place_of(name: bytes, around: Place, *, with_git: bool) -> Place:
    if around is not Place.OPEN or not excludes(name):
        return around
    return Place.GIT if with_git and name == GIT_FOLDER else Place.LEFT_OUT


def _is_chosen(path: bytes, place: Place, choice: Choice) -> bool:
    ruled = choice.rules.excludes(path) if choice.rules is not None else None
    return place is not Place.LEFT_OUT if ruled is None else not ruled


def is_passing(name: bytes) -> bool:
    """What belongs to a git process of this machine: on the box it would only be in the way."""
    return name.endswith(LOCK) or name.startswith(MONITOR)
