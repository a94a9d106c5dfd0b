"""What people read: tables that fit 80 columns, ages, money. JSON goes out through `emit`."""

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

WIDTH = 80
GAP = "  "


def emit(schema: str, fields: dict[str, Any]) -> None:
    """Writes the one JSON object of a command on stdout."""
    import json

    sys.stdout.write(json.dumps({"schema": f"rentroll.{schema}/1", **fields}) + "\n")


def say(text: str = "") -> None:
    """Writes one line of a result on stdout."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Writes one line of talk on stderr. It never fails: a box is given back whether or not somebody listens."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"rentroll: {text}\n")
    except (OSError, ValueError):
        silence_stderr()


def silence_stderr() -> None:
    """Lets our talk go nowhere from now on: what stderr still holds would make the interpreter end with 120."""
    sys.stderr = open(os.devnull, "w", errors="backslashreplace")  # noqa: PTH123, SIM115 - it stays for the rest of the process


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Writes rows under their headings, each column as wide as it needs; the widest gives way at 80 columns."""
    widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - WIDTH
    if excess > 0:
        widths[widths.index(max(widths))] -= excess
    for row in (headings, *rows):
        say(GAP.join(cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def cut(text: str, width: int) -> str:
    """The text, its end replaced by an ellipsis where it is wider than that."""
    return text if len(text) <= width else text[: width - 1] + "…"


def clock(time: str) -> str:
    """A stored time as people read it: whole seconds."""
    return f"{time[:19]}Z"


def span(seconds: float) -> str:
    """A duration for a column: `42s`, `17m`, `3h05m`, `2d04h`."""
    whole = int(seconds)
    if whole < 60:  # noqa: PLR2004 - seconds in a minute
        return f"{whole}s"
    minutes, hours, days = whole // 60 % 60, whole // 3600 % 24, whole // 86_400
    if days:
        return f"{days}d{hours:02}h"
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m"


def until(moment: datetime, now: datetime) -> str:
    """How long is left until a moment, or how long it is past."""
    left = (moment - now).total_seconds()
    return span(left) if left >= 0 else f"-{span(-left)}"


def money(amount: str | None, currency: str | None) -> str:
    """An amount with its sign; what is not known is a question mark, never zero."""
    if amount is None:
        return "?"
    return f"${amount}" if currency == "USD" or currency is None else f"{amount} {currency}"


def short_type(instance_type: str) -> str:
    """`gpu_1x_h100_sxm5` as people say it: `1x h100`."""
    count, _, rest = instance_type.removeprefix("gpu_").partition("_")
    return f"{count} {rest.partition('_')[0]}".strip()
