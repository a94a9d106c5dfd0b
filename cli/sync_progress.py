"""What people see while a tree is copied: one live line on a terminal, nothing otherwise."""

import contextlib
import time
from types import TracebackType
from typing import Any, Self

from cli.render import silence_stderr
from providers.worktree.names import amount

QUICK_S = 0.3
"""What takes no longer than this is not worth a line, nor the import of what draws it."""


class SyncProgress:
    """Told of files and bytes sent so far, it shows them with the rate. A terminal that goes away stops nothing."""

    def __init__(self, *, is_shown: bool, color: bool) -> None:
        self._is_shown = is_shown
        self._color = color
        self._began_s = time.monotonic()
        self._files = self._bytes = 0
        self._live: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        live, self._live = self._live, None
        if live is not None:
            try:
                live.stop()
            except (OSError, ValueError):
                silence_stderr()

    def __call__(self, files: int, sent_bytes: int) -> None:
        """Takes how far the transfer is."""
        self._files, self._bytes = files, sent_bytes
        if self._is_shown and self._live is None and time.monotonic() - self._began_s > QUICK_S:
            self._show()

    def _show(self) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True, no_color=not self._color or None, markup=False, highlight=False)
        self._live = Live(console=console, get_renderable=self._line, transient=True, refresh_per_second=4)
        with contextlib.suppress(OSError, ValueError):
            self._live.start()

    def _line(self) -> str:
        rate = self._bytes / max(time.monotonic() - self._began_s, QUICK_S)
        return f"  sent {self._files:,} files · {amount(self._bytes)} · {amount(round(rate))}/s"
