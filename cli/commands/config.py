"""`rentroll config show`: the effective settings and where each came from. Never the key."""

import click

from cli.app import App
from cli.options import as_json
from cli.render import emit, say


@click.group(name="config", no_args_is_help=True)
def command() -> None:
    """Show the effective settings and where each came from."""


@command.command(name="show")
@as_json
@click.pass_obj
def show(app: App, as_json: bool) -> None:
    """Show the effective settings and where each came from."""
    settings = app.valid_settings
    auth = "env" if app.api_key() else "missing"
    shown = [
        {"name": name, "value": _public(name, setting.value), "source": setting.source, "origin": setting.origin}
        for name, setting in settings.items()
    ]
    if as_json:
        emit("config", {"settings": shown, "state_dir": app.state_dir, "auth": auth})
        return
    for name, source, value in (
        ("SETTING", "SOURCE", "VALUE"),
        *((setting["name"], setting["source"], setting["value"] or "-") for setting in shown),
        ("state", "-", app.state_dir),
        ("auth", "-", auth),
    ):
        say(f"{name:<24}{source:<13}{value}")


def _public(name: str, value: str) -> str:
    """A URL without userinfo, query and fragment (scenario CFG-15)."""
    if name not in ("fal.api_url", "ledger.url") or "://" not in value:
        return value
    scheme, _, rest = value.partition("://")
    authority, slash, path = rest.partition("#")[0].partition("?")[0].partition("/")
    userinfo, at, host = authority.rpartition("@")
    return f"{scheme}://{'[redacted]@' if at and userinfo else ''}{host}{slash}{path}"
