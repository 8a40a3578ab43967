"""Serve's policy at its best: the cheapest target that keeps a service level, on given days."""

from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Any

from benchmarks.autoscaling.day import FULL_DAY, DayFigures, Scenario, run_day
from benchmarks.autoscaling.traffic import Request

Days = Mapping[int, Sequence[Request]]
"""By the seed."""


def run_days(days: Days, configuration: Mapping[str, Any], scenario: Scenario = FULL_DAY) -> list[DayFigures]:
    """The figures of each day."""
    return [run_day(requests, configuration, seed, scenario) for seed, requests in days.items()]


def kept_on(figures: Sequence[DayFigures]) -> float:
    """Share of requests in time, on the average of the days."""
    return mean(day.in_time for day in figures)


class BestTarget:
    """What Serve's policy keeps with each ``target_ongoing_requests``, on the average of the days.

    Args:
        targets: Rising.
        run: The figures of the days with a target.
    """

    def __init__(self, targets: Sequence[float], run: Callable[[float], list[DayFigures]]) -> None:
        self._targets = targets
        self._run = run
        self._found: dict[float, list[DayFigures]] = {}

    def highest(self, kept: float) -> tuple[float, list[DayFigures]]:
        """The highest target that keeps so much, which is the cheapest, and its figures. By bisection, since a higher
        one means fewer replicas.

        Raises:
            RuntimeError: Not even the lowest does.
        """
        low, high = -1, len(self._targets)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if kept_on(self._figures(self._targets[middle])) >= kept else (low, middle)
        if low < 0:
            raise RuntimeError(
                f"Serve's policy keeps {kept:.2%} with no target from {self._targets[0]:g} on; add lower ones"
            )
        return self._targets[low], self._figures(self._targets[low])

    def _figures(self, target: float) -> list[DayFigures]:
        if target not in self._found:
            self._found[target] = self._run(target)
        return self._found[target]
