"""What people see while a flow works: one live line on a terminal, plain lines otherwise. Always on stderr."""

import contextlib
import time
from collections.abc import Iterator
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cli.render import note, silence_stderr
from ledger.domain.money import cost_of

if TYPE_CHECKING:
    from cli.app import App
    from ledger.flows.services import Stage

BILLED_FROM = "bound"
"""Money is counted from the moment at which a box is known to exist."""
NAMING = ("requested", "ready", "released")
LASTING = ("requested", "bound", "ready", "rolling back", "deleting", "released")


class Progress:
    """Shows stages with the seconds since the start and the money so far; a terminal that goes away stops nothing."""

    def __init__(self, app: "App", *, rate_per_hour: Decimal | None = None) -> None:
        self._app = app
        self._rate = rate_per_hour
        self._began_s = time.monotonic()
        self._billed_from_s: float | None = None
        self._last: tuple[str, str] | None = None
        self._live: Any = None

    def __enter__(self) -> Self:
        if self._app.is_terminal:
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True, no_color=not self._app.options.color or None, markup=False, highlight=False)
            self._live = Live(console=console, get_renderable=self._line, transient=True, refresh_per_second=4)
            with self._unheard():
                self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_live()

    def tell(self, stage: "Stage") -> None:
        """Takes one step of a flow."""
        released = stage.name == "released"
        self._app.interrupts.stop_command = None if released else self._app.stop_command(stage.slug)
        if stage.name == BILLED_FROM:
            self._billed_from_s = time.monotonic()
        if (stage.name, stage.detail) == self._last:
            return
        self._last = (stage.name, stage.detail)
        if self._live is None:
            note(_words(stage))
        elif stage.name in LASTING:
            with self._unheard():
                self._live.console.print(f"rentroll: {_words(stage)}", soft_wrap=True)

    @contextlib.contextmanager
    def _unheard(self) -> Iterator[None]:
        """What is told must not stop the work: a box would stay."""
        try:
            yield
        except (OSError, ValueError):
            self._end_live()
            silence_stderr()

    def _end_live(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            try:
                live.stop()
            except (OSError, ValueError):
                silence_stderr()

    def _line(self) -> str:
        name, detail = self._last or ("starting", "")
        seconds = time.monotonic() - self._began_s
        words = f"{name} {detail}".strip()
        return f"  {words} · {seconds:.0f}s{self._money()}"

    def _money(self) -> str:
        if self._rate is None or self._billed_from_s is None:
            return ""
        return f" · ${cost_of(self._rate, round((time.monotonic() - self._billed_from_s) * 1000))}"


def _words(stage: "Stage") -> str:
    """One line; the first and the last of a lease carry its id, which stays when its slug is free again."""
    told = f"{stage.slug}: {stage.name}{f' ({stage.detail})' if stage.detail else ''}"
    return f"{told} {stage.lease_id}" if stage.name in NAMING else told
