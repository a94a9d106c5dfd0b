"""`.rentrollignore`, at the top of the tree: in git's own syntax, above git's rules and the built-in excludes.

What a line names is left out, tracked or not; a line with `!` brings back what git ignores, what a built-in excludes
or what an earlier line has left out. The last line that fits decides, also below a folder that an earlier one names.
"""

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from ledger.domain.errors import UsageFailure

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec
    from pathspec.backend import BackendNamesHint

NAME = b".rentrollignore"
BACKEND: "BackendNamesHint" = "simple"
"""The library's own matching: other engines, where one is installed, take no names that are not UTF-8."""


class Verdict(NamedTuple):
    """The line that decides on a path, and how."""

    excluded: bool
    line: int
    pattern: str


class IgnoreFile:
    """The rules of one file. Raises `UsageFailure` for a line that is no pattern."""

    def __init__(self, text: bytes) -> None:
        lines = [os.fsdecode(line) for line in text.removeprefix(b"\xef\xbb\xbf").splitlines()]
        self._lines = [
            (number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")
        ]
        self.brings_back = any(line.startswith("!") for _, line in self._lines)
        self._spec = _compiled(self._lines)

    def excludes(self, path: bytes) -> bool | None:
        """Whether a path is left out (True) or brought back (False); None where no line fits. A folder ends in `/`."""
        return self._spec.check_file(os.fsdecode(path)).include

    def verdict(self, path: bytes) -> Verdict | None:
        """The same, with the line that says so."""
        found = self._spec.check_file(os.fsdecode(path))
        if found.include is None or found.index is None:
            return None
        return Verdict(found.include, *self._lines[found.index])


def load(root: bytes) -> IgnoreFile | None:
    """The rules of a tree; None where it has none. Raises `UsageFailure` where they cannot be read."""
    try:
        with open(root + b"/" + NAME, "rb") as file:  # noqa: PTH123 - paths are bytes here
            text = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageFailure(f".rentrollignore cannot be read: {error.strerror}") from error
    return IgnoreFile(text)


def _compiled(lines: list[tuple[int, str]]) -> "GitIgnoreSpec":
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines([line for _, line in lines], backend=BACKEND)
    except (ValueError, re.error):
        for number, line in lines:
            try:
                GitIgnoreSpec.from_lines([line], backend=BACKEND)
            except (ValueError, re.error) as error:
                raise UsageFailure(
                    f".rentrollignore line {number} is no pattern: {line!r}", hint="it is written like a .gitignore"
                ) from error
        raise
