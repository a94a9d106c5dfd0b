"""The entry point: answers `--version` itself, hands everything else to click, and maps every failure once."""

import sys
from collections.abc import Sequence

VERSION = "0.1.0"
COMMAND_WORDS_END = "--"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and gives its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        sys.stdout.write(f"rentroll {VERSION}\n")
        return 0
    from cli.lazy import import_click

    import_click()
    from cli.dispatch import dispatch

    return dispatch(words)
