"""`rentroll types`: the instance types and what they cost here."""

from typing import Any

import click

from cli.app import App
from cli.options import as_json
from cli.render import emit, money, table
from cli.settings import CURRENCY, RATES
from providers import registry


@click.command(name="types")
@as_json
@click.pass_obj
def command(app: App, as_json: bool) -> None:
    """Show the instance types and their rates. fal publishes no rates: set them as rates.TYPE."""
    settings = app.valid_settings
    types: list[dict[str, Any]] = []
    for name in registry.FAL.instance_types:
        setting = settings.get(f"{RATES}{name}")
        rate = None
        if setting is not None:
            from ledger.domain.units import parse_money

            rate = str(parse_money(setting.value))
        types.append(
            {
                "name": name,
                "gpus": registry.gpus(name),
                "rate_per_hour": rate,
                "currency": CURRENCY if rate else None,
                "source": f"settings: {setting.source}" if setting else None,
            }
        )
    if as_json:
        emit("types", {"types": types})
        return
    rows = [
        (t["name"], str(t["gpus"]), money(t["rate_per_hour"], t["currency"]), t["source"] or "not set") for t in types
    ]
    table(("TYPE", "GPUS", "RATE/H", "SOURCE"), rows)
