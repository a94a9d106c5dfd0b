"""`rentroll providers`: who leases boxes, and what each can do."""

import click

from cli.options import as_json
from cli.render import emit, table
from providers import registry


@click.command(name="providers")
@as_json
def command(as_json: bool) -> None:
    """Show the providers and what they can do."""
    found = registry.capabilities()
    if as_json:
        emit("providers", {"providers": [capability._asdict() for capability in found]})
        return
    rows = [(c.name, ", ".join(c.aliases), c.kind, c.os, ", ".join(c.features)) for c in found]
    table(("PROVIDER", "ALSO", "KIND", "OS", "FEATURES"), rows)
