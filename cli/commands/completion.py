"""`rentroll completion SHELL`: the script that completes commands, options and slugs."""

import click

from cli.render import say

SHELLS = ("bash", "zsh", "fish")


@click.command(name="completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell, to be sourced by it."""
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    script = kind(ctx.find_root().command, {}, "rentroll", "_RENTROLL_COMPLETE")
    # Not its own `source`: for bash that starts a bash to ask for its version, each time a shell starts.
    say(ShellComplete.source(script))
