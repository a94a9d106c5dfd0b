"""Which of the paths that are there are to be copied: `.rentrollignore` first, then the built-in excludes."""

from collections.abc import Callable

from providers.worktree import builtin
from providers.worktree.ignore_file import IgnoreFile

Excludes = Callable[[bytes], "bool | None"]


class Choice:
    """Chooses, and remembers what the built-in excludes have left out. All paths are relative to the tree."""

    def __init__(self, rules: IgnoreFile | None) -> None:
        self.rules = rules
        self.left_out: set[bytes] = set()

    @property
    def brings_back(self) -> bool:
        """Whether something that git ignores, or a built-in excludes, may be copied after all."""
        return self.rules is not None and self.rules.brings_back

    def tracked(self, paths: list[bytes], prefix: bytes) -> list[bytes]:
        """Of what git tracks: only `.rentrollignore` leaves something out."""
        whole = [prefix + path for path in paths] if prefix else paths
        if self.rules is None:
            return whole
        excludes = self.rules.excludes
        return [path for path in whole if not excludes(path)]

    def untracked(self, paths: list[bytes], prefix: bytes, environments: tuple[bytes, ...]) -> list[bytes]:
        """Of what git neither tracks nor ignores; built-in excludes look at the part of a path inside a repository.

        `environments` are that repository's virtual environments by their mark, each ending in `/`.
        """
        excluded_part = builtin.excluded_part
        chosen: list[bytes] = []
        for path in paths:
            ruled = self.rules.excludes(prefix + path) if self.rules is not None else None
            if ruled is None and (excluded_part(path) is not None or path.startswith(environments)):
                self._leave_out(prefix, path, environments)
            elif not ruled:
                chosen.append(prefix + path)
        return chosen

    def brought_back(self, paths: list[bytes], prefix: bytes) -> list[bytes]:
        """Of what is left out unless a line with `!` says otherwise."""
        if self.rules is None:
            return []
        excludes = self.rules.excludes
        return [whole for path in paths if excludes(whole := prefix + path) is False]

    def _leave_out(self, prefix: bytes, path: bytes, environments: tuple[bytes, ...]) -> None:
        part = builtin.excluded_part(path) or next(folder[:-1] for folder in environments if path.startswith(folder))
        self.left_out.add(prefix + part)
