"""The click command line: commands are loaded when they are invoked, failures are mapped once."""

import errno
import sys

import click

from cli.app import App, GlobalOptions
from cli.commands import COMMANDS, LATER
from cli.failures import report, report_interrupt, without_keys
from cli.lazy import import_lean
from ledger.domain.errors import Interrupted, RentrollError, UsageFailure

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SIGINT = 2
"""As everywhere; the module that names it is not needed to list."""
UNWARNED = (None, "completion", "emulator", "demo")
"""Commands that do not end with what is overdue: they are about no ledger of the caller's."""
VALUED_OPTIONS = ("--ledger", "--config", "--log-format")


class _ReaderGone(Exception):
    """The reader of our output is gone; under this name click does not make an exit code of its own of it."""


class LazyGroup(click.Group):
    """A group whose commands are imported one at a time: `--help` reads the table, not the modules."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            result = super().invoke(ctx)
        except BrokenPipeError:
            raise _ReaderGone from None
        except RentrollError:
            _warn(ctx)
            raise
        _warn(ctx)
        return result

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            if cmd_name in LATER:
                raise UsageFailure(f"`rentroll {cmd_name}` is not built yet", hint="it comes with a later release")
            return None
        from importlib import import_module

        if not entry.only_reads:
            import_lean("msgspec")

        command: click.Command = import_module(f"cli.commands.{entry.module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


@click.group(
    cls=LazyGroup, name="rentroll", no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option("--ledger", metavar="URL", help="The ledger to use: sqlite:///PATH.")
@click.option("--config", metavar="FILE", help="The user's settings file.")
@click.option("-v", "--verbose", count=True, help="Say more on stderr; twice for everything.")
@click.option("--log-format", type=click.Choice(["console", "json"]), default="console", help="How logs are written.")
@click.option("--no-color", is_flag=True, help="No colours, whatever the terminal.")
@click.version_option(package_name="rentroll", message="rentroll %(version)s")
@click.pass_context
def root(
    ctx: click.Context, ledger: str | None, config: str | None, verbose: int, log_format: str, no_color: bool
) -> None:
    """Leases GPU boxes from fal Compute, works on them over SSH, gives them back, and keeps the register."""
    ctx.obj = App(
        GlobalOptions(ledger=ledger, config=config, verbosity=verbose, log_format=log_format, color=not no_color)
    )
    ctx.call_on_close(ctx.obj.close)


def _warn(ctx: click.Context) -> None:
    """Ends a command with what is overdue: before its failure is told, which is to be the last line."""
    if ctx.invoked_subcommand not in UNWARNED and ctx.obj.overdue_told is not None:
        from cli.overdue import warn

        warn(ctx.obj)


def dispatch(words: list[str]) -> int:
    """Runs one command line and gives its exit code."""
    ours = words[: words.index("--")] if "--" in words else words
    as_json = any(word in ("--json", "--jsonl") for word in ours)
    command = _command_word(ours)
    try:
        code = root.main(args=words, prog_name="rentroll", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as asked:
        sys.stderr.write(asked.format_message() + "\n")
        return 2
    except click.ClickException as failure:
        return report(_usage(failure), command=command, as_json=as_json)
    except RentrollError as failure:
        return report(failure, command=command, as_json=as_json)
    except Interrupted as interrupted:
        return report_interrupt(interrupted, as_json="--json" in ours)  # a stream that is interrupted just ends
    except (click.Abort, KeyboardInterrupt):
        return report_interrupt(Interrupted(SIGINT), as_json="--json" in ours)
    except (BrokenPipeError, _ReaderGone):
        _drop_stdout()
        return 141
    except OSError as failure:
        if failure.errno not in NO_ROOM:
            return _report_bug(failure, command, as_json, verbose=_is_verbose(words))
        _drop_stdout()
        return report(_no_room(failure), command=command, as_json=as_json)
    except Exception as bug:  # noqa: BLE001 - the one place where a bug becomes a line and exit code 1
        return _report_bug(bug, command, as_json, verbose=_is_verbose(words))
    return code if isinstance(code, int) else 0


def _command_word(words: list[str]) -> str | None:
    """The command of a line, which click names only once it has understood all of it."""
    rest = iter(words)
    for word in rest:
        if word in VALUED_OPTIONS:
            next(rest, None)
        elif not word.startswith("-"):
            return word
    return None


def _is_verbose(words: list[str]) -> bool:
    """Whether the line asks for more on stderr, however that is spelled."""
    context = root.make_context("rentroll", list(words), resilient_parsing=True)
    return bool(context.params["verbose"])


def _no_room(failure: OSError) -> UsageFailure:
    return UsageFailure(
        f"what this command had to write could not be written: {(failure.strerror or str(failure)).lower()}",
        hint="make room; what was done is in the ledger: `rentroll list`",
    )


def _usage(failure: click.ClickException) -> UsageFailure:
    hint = None
    if isinstance(failure, click.UsageError) and failure.ctx is not None:
        hint = f"`{failure.ctx.command_path} --help` shows how"
    return UsageFailure(failure.format_message(), hint=hint)


def _report_bug(bug: Exception, command: str | None, as_json: bool, *, verbose: bool) -> int:
    from ledger.domain.redact import redact

    if verbose:
        import traceback

        sys.stderr.write(without_keys(redact("".join(traceback.format_exception(bug)))))
    told = " ".join(f"{type(bug).__name__}: {bug}".split())
    failure = RentrollError(redact(told), hint=f"{RentrollError.remedy} (-v shows more)")
    return report(failure, command=command, as_json=as_json)


def _drop_stdout() -> None:
    """The reader of our output is gone: nothing more is written, also not by the interpreter's last flush."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
