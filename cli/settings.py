"""Effective settings and where each came from: flags, environment, rentroll.toml, config.toml, defaults.

The API key is not a setting: it is read from the environment alone, when a provider is made (`cli/app.py`).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ledger.domain.errors import UsageFailure


class Setting(NamedTuple):
    """One effective value. `source` is flag, environment, repository, user or default; `origin` names the place."""

    value: str
    source: str
    origin: str


DEFAULTS: dict[str, str] = {
    "fal.api_url": "https://api.fal.ai/v1",
    "fal.instance_type": "gpu_1x_h100_sxm5",
    "fal.sector": "",
    "fal.user": "ubuntu",
    "fal.work_root": "/home/ubuntu/rentroll",
    "fal.ssh_port": "22",
    "fal.poll_interval": "3s",
    "ledger.url": "",
    "ttl": "90m",
    "idle_timeout": "30m",
    "runs.log_bytes": "1048576",
}
RATES = "rates."
CURRENCY = "USD"
"""fal's account API names one currency; a rate that a person configures is in it."""


class Settings:
    """Every setting by its dotted name, the strongest source winning."""

    def __init__(self, values: Mapping[str, Setting]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Setting:
        return self._values[name]

    def get(self, name: str) -> Setting | None:
        return self._values.get(name)

    def items(self) -> list[tuple[str, Setting]]:
        """All settings by name, in the order in which they are shown."""
        return sorted(self._values.items())

    def with_flags(self, flags: Mapping[str, str | None]) -> "Settings":
        """These settings with the flags that were given on top."""
        given = {name: Setting(value, "flag", "the command line") for name, value in flags.items() if value is not None}
        return Settings(self._values | {name: _checked(name, setting) for name, setting in given.items()})


def environment_name(name: str) -> str:
    """`fal.api_url` is `RENTROLL_FAL_API_URL` in the environment."""
    return "RENTROLL_" + name.replace(".", "_").upper()


def load(environment: Mapping[str, str], *, repository_file: str | None, user_file: str | None) -> Settings:
    """Reads every source but the flags. Raises `UsageFailure` naming the file and the key that is wrong."""
    values = {name: Setting(value, "default", "built in") for name, value in DEFAULTS.items()}
    for source, path in (("user", user_file), ("repository", repository_file)):
        if path is not None:
            values |= {name: Setting(text, source, path) for name, text in _read_file(path).items()}
    values |= _from_environment(environment)
    return Settings({name: _checked(name, setting) for name, setting in values.items()})


def _from_environment(environment: Mapping[str, str]) -> dict[str, Setting]:
    found = {}
    for name in DEFAULTS:
        variable = environment_name(name)
        if variable in environment:
            found[name] = Setting(environment[variable], "environment", variable)
    prefix = environment_name(RATES)
    for variable, text in environment.items():
        if variable.startswith(prefix):
            found[RATES + variable.removeprefix(prefix).lower()] = Setting(text, "environment", variable)
    return found


def _read_file(path: str) -> dict[str, str]:
    import tomllib
    from pathlib import Path

    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"), parse_float=str)
    except OSError as failure:
        raise UsageFailure(f"cannot read {path}: {failure.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise UsageFailure(f"{path} is not valid TOML: {failure}") from None
    return dict(_flatten(tables, path))


def _flatten(tables: Mapping[str, Any], path: str) -> list[tuple[str, str]]:
    found = []
    for key, value in tables.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        for name, text in inner:
            dotted = f"{key}.{name}" if name else key
            if dotted not in DEFAULTS and not (dotted.startswith(RATES) and len(dotted) > len(RATES)):
                raise UsageFailure(f"{path}: unknown setting {dotted!r}", hint=_hint(dotted))
            if isinstance(text, bool) or not isinstance(text, str | int):
                raise UsageFailure(f"{path}: {dotted} must be text or a number")
            found.append((dotted, str(text)))
    return found


def _hint(dotted: str) -> str:
    if "key" in dotted.lower():
        return "the API key is read from the environment only, never from a file"
    import difflib

    near = difflib.get_close_matches(dotted, DEFAULTS, n=1)
    return f"did you mean {near[0]!r}?" if near else "`rentroll config show` lists the settings"


def _checked(name: str, setting: Setting) -> Setting:
    """The trimmed setting. Whitespace only is an error, not unset (scenario CFG-09)."""
    trimmed = setting.value.strip()
    if not trimmed and (setting.value or setting.source != "default") and name not in ("fal.sector", "ledger.url"):
        raise UsageFailure(f"{name} is blank (from {setting.origin})", hint="give it a value or leave it out")
    if setting.value and not trimmed:
        raise UsageFailure(f"{name} is blank (from {setting.origin})", hint="give it a value or leave it out")
    return Setting(trimmed, setting.source, setting.origin)
