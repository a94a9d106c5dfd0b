"""`rentroll completion SHELL`: the script that completes commands, options and slugs."""

import click

from cli.render import say

SHELLS = ("bash", "zsh", "fish")


@click.command(name="completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the completion script of a shell, to be sourced by it."""
    from click.shell_completion import get_completion_class

    from cli.dispatch import root

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    say(kind(root, {}, "rentroll", "_RENTROLL_COMPLETE").source())
