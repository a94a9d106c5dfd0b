"""What a setting may hold: the rule of each name, applied wherever it came from."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from cli.run_logs import require_bytes
from cli.settings import RATES
from ledger.domain.errors import UsageFailure
from ledger.domain.units import parse_duration_ms, parse_money
from providers import registry
from providers.fal.endpoint import endpoint_scope

if TYPE_CHECKING:
    from cli.settings import Settings

PORT_MAX = 65_535
_LOGIN = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,31}")


def require_valid(settings: "Settings") -> None:
    """Raises `UsageFailure` naming the first setting that is wrong, and where it came from."""
    for name, setting in settings.items():
        try:
            _require_good(name, setting.value)
        except UsageFailure as failure:
            raise UsageFailure(f"{name}: {failure.message} (from {setting.origin})", hint=failure.hint) from None


def _require_good(name: str, value: str) -> None:
    if name.startswith(RATES):
        registry.require_type(name.removeprefix(RATES))
        parse_money(value)
    elif (rule := _RULES.get(name)) is not None:
        rule(value)


def _require_login(user: str) -> None:
    """A login name that can be no option and no shell word (scenario CFG-12)."""
    if not _LOGIN.fullmatch(user):
        raise UsageFailure(
            f"not a login name: {user!r}",
            hint="a letter or underscore, then letters, digits, dots, underscores and dashes; at most 32",
        )


def _require_port(text: str) -> None:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= PORT_MAX):
        raise UsageFailure(f"not a port: {text!r}", hint=f"write a number from 1 to {PORT_MAX}")


def _require_work_root(folder: str) -> None:
    """An absolute folder on the box, or one in the login's home (scenario CFG-11)."""
    if not folder.startswith(("/", "~/")) or folder.rstrip("/") in ("", "~"):
        raise UsageFailure(f"not a folder for commands: {folder!r}", hint="it must be absolute or start with ~/")


_RULES: dict[str, Callable[[str], object]] = {
    "fal.api_url": endpoint_scope,
    "fal.instance_type": registry.require_type,
    "fal.user": _require_login,
    "fal.work_root": _require_work_root,
    "fal.ssh_port": _require_port,
    "fal.poll_interval": parse_duration_ms,
    "ttl": parse_duration_ms,
    "idle_timeout": parse_duration_ms,
    "runs.log_bytes": require_bytes,
}
"""The sector is judged with the type that it goes with (`cli/leasing.py`)."""
