"""What `cp` and `run --download` share: what carries a copy, and what people see of it."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cli.render import note, silence_stderr

if TYPE_CHECKING:
    from cli.app import App
    from ledger.domain.copying import Copier

_UNITS = ("kB", "MB", "GB", "TB")
_STEP = 1000


def copier(app: "App") -> "Copier":
    """Copies over the lease's connection that stays open between commands."""
    from pathlib import Path

    from providers.ssh.copying import AgentCopier

    return AgentCopier(app.box.talk, private=Path(app.state_dir))


def size(count: int) -> str:
    """A number of bytes for people: `4.2 MB`."""
    if count < _STEP:
        return f"{count} B"
    value, units = count / _STEP, iter(_UNITS)
    unit = next(units)
    while value >= _STEP and unit != _UNITS[-1]:
        value, unit = value / _STEP, next(units)
    return f"{value:.1f} {unit}"


class CopyProgress:
    """A bar on a terminal; elsewhere, and where `quiet`, only what was lost is told."""

    def __init__(self, app: "App", *, quiet: bool) -> None:
        self._bar: Any = None
        self._task: Any = None
        if app.is_terminal and not quiet:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

            console = Console(stderr=True, no_color=not app.options.color or None, markup=False, highlight=False)
            columns = (
                "{task.description}",
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=console, transient=True, refresh_per_second=4)
        self._told_s = 0.0
        self._untold = 0

    def __enter__(self) -> Self:
        self._unheard("start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._unheard("stop")

    def listed(self, files: int, total: int) -> None:
        """So much is to be copied."""
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(f"{files} files" if files != 1 else "1 file", total=total)

    def moved(self, count: int) -> None:
        """So much more is there."""
        if self._bar is not None and self._task is not None:
            self._untold += count
            now_s = time.monotonic()
            if now_s - self._told_s > 0.1:  # noqa: PLR2004 - drawn four times a second, and each call costs
                self._bar.advance(self._task, self._untold)
                self._told_s, self._untold = now_s, 0

    kept = moved

    def lost(self, why: str) -> None:
        """The connection was lost, and the copy goes on over another one."""
        note(f"{why.rstrip('.')}; going on")

    def _unheard(self, what: str) -> None:
        """A terminal that has gone away stops no copy."""
        if self._bar is not None:
            try:
                getattr(self._bar, what)()
            except (OSError, ValueError):
                self._bar = None
                silence_stderr()
