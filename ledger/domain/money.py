"""What time costs. Decimal only; the one place where a price meets a duration."""

from decimal import ROUND_HALF_EVEN, Decimal

_CENT = Decimal("0.01")


def cost_of(rate_per_hour: Decimal, milliseconds: int) -> Decimal:
    """What so long costs at an hourly rate, to the cent, half-even; divided last so that nothing is rounded twice."""
    return (rate_per_hour * milliseconds / 3_600_000).quantize(_CENT, ROUND_HALF_EVEN)
