"""The entry point: answers `--version` itself, hands everything else to click, and maps every failure once."""

import gc
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = "0.1.0"
GARBAGE_THRESHOLD = 100_000
"""Objects between two looks for garbage cycles: a command ends before the first, a long one still has them."""


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Runs one command line, by default the process's own, and gives its exit code."""
    if arguments is not None:
        return _run(list(arguments))
    gc.set_threshold(GARBAGE_THRESHOLD)
    try:
        return _run(sys.argv[1:])
    finally:
        # The interpreter looks for cycles in all that is left before it ends: a tenth of a short command.
        gc.freeze()


def _run(words: list[str]) -> int:
    if words == ["--version"]:
        sys.stdout.write(f"rentroll {VERSION}\n")
        return 0
    from cli.lazy import import_lean

    import_lean("click")
    from cli.dispatch import dispatch

    return dispatch(words)
