"""Numbers and sizes as people read them."""

STEP = 1024


def counted(number: int, noun: str) -> str:
    """A number of things: `1 file`, `12,034 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def amount(size_bytes: int) -> str:
    """A number of bytes in the unit that suits it: `512 B`, `42.9 MiB`."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < STEP:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= STEP
    return f"{size:.1f} GiB"
