"""The entry point: answers `--version` itself, hands everything else to click, and maps every failure once."""

import gc
import os
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
    _open_closed_streams()
    gc.set_threshold(GARBAGE_THRESHOLD)
    try:
        return _run(sys.argv[1:])
    finally:
        # The interpreter looks for cycles in all that is left before it ends: a tenth of a short command.
        gc.freeze()


def _open_closed_streams() -> None:
    """Puts the null device under a standard stream that the caller has closed: the next file would take its number."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False))  # noqa: SIM115


def _run(words: list[str]) -> int:
    if words == ["--version"]:
        try:
            sys.stdout.write(f"rentroll {VERSION}\n")
            sys.stdout.flush()
        except OSError:
            pass  # said again below, where every failure is mapped
        else:
            return 0
    from cli.lazy import import_lean

    import_lean("click")
    from cli.dispatch import dispatch

    return dispatch(words)
