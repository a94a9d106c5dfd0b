"""The reference of every command and option as Markdown: `python -m cli.reference docs/commands.md`.

A test compares the file with what this makes, so that it is never stale.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from cli.commands import COMMANDS, LATER
from cli.dispatch import root
from ledger.domain.errors import ERRORS, Interrupted, RentrollError

TITLE = """# Commands

Made from the program by `make docs`; do not edit.
"""


def reference() -> str:
    """The whole document."""
    context = click.Context(root, info_name="rentroll")
    sections = [TITLE, *_section(root, context)]
    for name in COMMANDS:
        command = root.get_command(context, name)
        if command is not None:
            sections += _section(command, click.Context(command, info_name=name, parent=context))
    sections += ["## Exit codes\n", *_exit_codes(), "## Not built yet\n"]
    sections.append("Refused with exit code 2 until a later release: " + ", ".join(f"`{name}`" for name in LATER) + ".")
    return "\n".join(sections) + "\n"


def _section(command: click.Command, context: click.Context) -> Iterator[str]:
    """A command's heading, usage and options, then those of its own commands."""
    yield f"## `{context.command_path}`\n"
    yield f"{' '.join((command.help or '').split())}\n"
    yield f"    {context.command_path} {' '.join(command.collect_usage_pieces(context))}\n"
    shown = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    if shown:
        yield "| option | meaning |\n|---|---|"
        yield from (_row(option, context) for option in shown)
        yield ""
    if isinstance(command, click.Group) and command is not root:
        for name, inner in command.commands.items():
            yield from _section(inner, click.Context(inner, info_name=name, parent=context))


def _row(option: click.Option, context: click.Context) -> str:
    left, right = option.get_help_record(context) or ("", "")
    return f"| `{_escaped(left)}` | {_escaped(right)} |"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _exit_codes() -> Iterator[str]:
    yield "| code | name | what it is | what helps |\n|---|---|---|---|"
    yield "| 0 | ok | | |"
    for error in ERRORS:
        yield _exit_row((error.exit_code,), error)
    yield _exit_row(Interrupted.exit_codes, Interrupted)
    yield ""


def _exit_row(codes: tuple[int, ...], error: type[RentrollError | Interrupted]) -> str:
    doc = "A bug of ours." if error is RentrollError else error.__doc__ or ""
    what = " ".join(doc.split("\n\n", maxsplit=1)[0].split())
    return f"| {', '.join(map(str, codes))} | {error.code} | {_escaped(what)} | {_escaped(error.remedy)} |"


def main(path: Path) -> None:
    """Writes the document to `path`."""
    path.write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
