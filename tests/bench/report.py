"""What a benchmark found, beside its goal."""

from dataclasses import dataclass

from tests.bench.timing import Ratios


@dataclass(frozen=True)
class Goal:
    """A bound on the median of the ratios."""

    bound: float
    is_upper: bool

    def __str__(self) -> str:
        return f"{'<=' if self.is_upper else '>='} {self.bound:.2f}x"

    def is_met_by(self, figure: float) -> bool:
        return figure <= self.bound if self.is_upper else figure >= self.bound


def at_most(bound: float) -> Goal:
    """A cost: the less the better."""
    return Goal(bound, is_upper=True)


def at_least(bound: float) -> Goal:
    """A rate: the more the better."""
    return Goal(bound, is_upper=False)


@dataclass(frozen=True)
class Result:
    """One line of the table. `measured` is None where `why_not` says why it was not measured."""

    name: str
    goal: Goal
    measured: Ratios | None
    why_not: str = ""

    @property
    def is_met(self) -> bool:
        return self.measured is None or self.goal.is_met_by(self.measured.median)

    def __str__(self) -> str:
        if self.measured is None:
            return f"{self.name:<44} {self.goal!s:>9}   not measured: {self.why_not}"
        verdict = "met" if self.is_met else "MISSED"
        return f"{self.name:<44} {self.goal!s:>9}   {self.measured}   {verdict}"


@dataclass(frozen=True)
class Figure:
    """A line without a goal: good to know, and to compare with another day's on the same machine."""

    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name:<44} {'':>9}   {self.value:>6}"


def verdict(results: list[Result]) -> str:
    """The last line: which goals are met, which are not, and which nobody knows of."""
    missed = [result.name for result in results if not result.is_met]
    unknown = [result.name for result in results if result.measured is None]
    met = len(results) - len(missed) - len(unknown)
    line = f"{met} of {len(results)} goals met"
    if missed:
        line += f"; missed: {'; '.join(missed)}"
    if unknown:
        line += f"; not measured: {'; '.join(unknown)}"
    return line
