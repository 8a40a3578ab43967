"""What becomes of the same measurement made round after round: medians, ranges, and ratios within a round.

Machines drift: two sides are only compared within a round, where they were measured one after the other.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
"""One measurement: ``round``, ``cell`` and ``contestant`` name it; the rest are figures."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Of one figure over the rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(self.low)}-{_short(self.high)})"


def spread(values: Sequence[float]) -> Spread:
    """
    Raises:
        statistics.StatisticsError: There are no values.
    """
    return Spread(statistics.median(values), min(values), max(values))


def figure(rows: Sequence[Row], cell: str, contestant: str, name: str) -> Spread | None:
    """One contestant's figure in one cell; None: it was not measured."""
    values = [
        row[name]
        for row in rows
        if row["cell"] == cell and row["contestant"] == contestant and row.get(name) is not None
    ]
    return spread(values) if values else None


def ratio(rows: Sequence[Row], cell: str, one: str, other: str, name: str) -> Spread | None:
    """``one``'s figure over ``other``'s, round by round; None: there is no round with both."""
    return _compared(rows, cell, one, other, name, lambda a, b: a / b)


def difference(rows: Sequence[Row], cell: str, one: str, other: str, name: str) -> Spread | None:
    """``one``'s figure less ``other``'s, round by round; None: there is no round with both."""
    return _compared(rows, cell, one, other, name, lambda a, b: a - b)


def _compared(rows: Sequence[Row], cell: str, one: str, other: str, name: str, compare: Any) -> Spread | None:
    found: dict[tuple[int, str], float] = {
        (row["round"], row["contestant"]): row[name]
        for row in rows
        if row["cell"] == cell and row.get(name) is not None
    }
    both = [number for number, contestant in found if contestant == one and (number, other) in found]
    values = [compare(found[number, one], found[number, other]) for number in both]
    return spread(values) if values else None


@dataclass(frozen=True, slots=True)
class Aim:
    """One thing that must be reached."""

    what: str
    reached: float | None
    """None: not measured, which counts as neither."""
    bound: float
    at_least: bool = True

    @property
    def is_met(self) -> bool | None:
        if self.reached is None:
            return None
        return self.reached >= self.bound if self.at_least else self.reached <= self.bound

    def row(self) -> tuple[str, str, str, str]:
        """For a table."""
        sign = ">=" if self.at_least else "<="
        said = {True: "met", False: "MISSED", None: "not measured"}[self.is_met]
        return self.what, "-" if self.reached is None else _short(self.reached), f"{sign} {_short(self.bound)}", said


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
