"""Options that several commands share."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ledger.domain.errors import RentrollError

F = TypeVar("F", bound=Callable[..., Any])


def as_json(function: F) -> F:
    """--json: the result as one JSON object."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def endpoint(function: F) -> F:
    """--api-url: where fal answers."""
    return click.option("--api-url", metavar="URL", help="Where fal's API is.")(function)


def lease_limits(function: F) -> F:
    """What `warmup` and `run` lease."""
    for option in reversed(
        (
            click.option("--provider", default="fal", show_default=True, help="Who leases the box."),
            click.option("--type", "instance_type", metavar="TYPE", help="The instance type."),
            click.option("--sector", help="InfiniBand sector; only with the 8x type."),
            click.option("--user", help="Login on the box."),
            click.option("--work-root", metavar="DIR", help="Where commands run on the box."),
            click.option("--slug", help="A name for the lease."),
            click.option("--ttl", metavar="TIME", help="How long the lease lasts at most."),
            click.option("--idle-timeout", metavar="TIME", help="How long it may stand idle."),
            click.option("--keep", is_flag=True, help="Do not delete it when it expires or fails; needs --reason."),
            click.option("--keep-until", metavar="TIME", help="How long to keep it: a time or a duration."),
            click.option("--reason", metavar="TEXT", help="Why it is kept."),
            click.option("--max-cost", metavar="USD", hidden=True),
            click.option(
                "--timeout", metavar="TIME", default="15m", show_default=True, help="Limit of the acquisition."
            ),
            click.option("--wait", metavar="TIME", help="How long to wait when fal asks to come back later."),
        )
    ):
        function = option(function)
    return function


class LeaseName(click.ParamType[str]):
    """A LEASE argument: a lease id, a slug or an instance id. Completes slugs from the ledger."""

    name = "lease"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        from cli.app import App, GlobalOptions

        given = ctx.find_root().params
        ledger, config = given.get("ledger"), given.get("config")
        app = App(GlobalOptions(ledger=ledger, config=config, verbosity=0, log_format="console", color=False))
        try:
            if not os.path.exists(app.ledger_path):  # noqa: PTH110 - as in cli/app.py
                return []  # and a line that is being typed is no place to talk of it
            with app.reader() as reader:
                claims = reader.claims()
        except RentrollError:
            return []  # a line that is being typed is no place for an error
        return [CompletionItem(claim.slug, help=claim.phase) for claim in claims if claim.slug.startswith(incomplete)]
