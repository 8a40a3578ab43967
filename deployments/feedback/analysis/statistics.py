"""The statistics of the report: intervals, agreement, calibration, drift. Pure functions of plain numbers.

Knows nothing of feedback, SQL or charts. The report's sections call it.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054
"""Two-sided 95% quantile of the standard normal distribution."""
PSI_EPSILON = 1e-4
"""Stands in for an empty bin's share, whose logarithm does not exist."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and the interval around it; 95% unless said otherwise."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """Two judges of the same items, each of whom says yes or no."""

    both_yes: int
    first_yes: int
    """The first says yes, the second no."""
    second_yes: int
    both_no: int

    @property
    def n(self) -> int:
        """Items that both judged."""
        return self.both_yes + self.first_yes + self.second_yes + self.both_no


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Items whose scores fall into one bin."""

    n: int
    mean_score: float
    positives: int


@dataclass(frozen=True, slots=True)
class Drift:
    """A population stability index, and what it would be of samples this large without any change."""

    psi: float
    by_chance: float
    """95% quantile of the index when both samples come from one distribution."""


def wilson(successes: int, n: int, z: float = Z95) -> Estimate | None:
    """Return a share with its Wilson score interval; None without trials.

    Wilson (1927), JASA 22:209-212; recommended for small n by Brown, Cai and DasGupta (2001), Statistical
    Science 16:101-133. Method 3 of Newcombe (1998), Statistics in Medicine 17:857-872.
    """
    if n <= 0:
        return None
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n the bound is exact, and rounding must not put it beyond.
    low = 0.0 if successes == 0 else max(centre - half, 0.0)
    high = 1.0 if successes == n else min(centre + half, 1.0)
    return Estimate(share, low, high)


def mean_interval(n: int, total: float, squares: float, z: float = Z95) -> Estimate | None:
    """Return a mean with its normal interval, mean +- z * s / sqrt(n); None without values.

    The central limit theorem carries it from about n = 20 on; the report marks smaller cells. Of one value the
    spread is unknown: the interval is that value alone.

    Args:
        n: Number of values.
        total: Their sum.
        squares: The sum of their squares.
    """
    if n <= 0:
        return None
    mean = total / n
    variance = max(squares - n * mean * mean, 0.0) / (n - 1) if n > 1 else 0.0
    half = z * math.sqrt(variance / n)
    return Estimate(mean, mean - half, mean + half)


def bootstrap_mean(counts: Mapping[float, int], rng: np.random.Generator, resamples: int = 2000) -> Estimate | None:
    """Return a mean with its percentile bootstrap interval; None without values.

    Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13. A resample of n values is one draw
    of a multinomial over the distinct ones, so that the cost does not grow with n.

    Args:
        counts: How often each value occurs; ratings have few distinct ones.
        rng: Equal states give equal intervals.
    """
    values = np.array([value for value, count in counts.items() if count > 0], dtype=float)
    weights = np.array([count for count in counts.values() if count > 0], dtype=float)
    if not len(values):
        return None
    n = int(weights.sum())
    means = rng.multinomial(n, weights / n, size=resamples) @ values / n
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(float(weights @ values / n), float(low), float(high))


def kappa(table: Confusion, z: float = Z95) -> Estimate | None:
    """Return Cohen's kappa with its large-sample interval; None where it does not exist.

    Cohen (1960), Educational and Psychological Measurement 20:37-46; the standard error is that of Fleiss, Cohen
    and Everitt (1969), Psychological Bulletin 72:323-327. It does not exist without items, or when both judges
    give all items one and the same answer: agreement by chance is then certain.
    """
    n = table.n
    if n == 0:
        return None
    cells = np.array([[table.both_yes, table.first_yes], [table.second_yes, table.both_no]], dtype=float) / n
    first, second = cells.sum(axis=1), cells.sum(axis=0)
    observed, expected = float(np.trace(cells)), float(first @ second)
    if expected >= 1.0:
        return None
    value = (observed - expected) / (1 - expected)
    diagonal = sum(cells[i, i] * (1 - (first[i] + second[i]) * (1 - value)) ** 2 for i in (0, 1))
    off = (1 - value) ** 2 * sum(cells[i, 1 - i] * (second[i] + first[1 - i]) ** 2 for i in (0, 1))
    variance = (diagonal + off - (value - expected * (1 - value)) ** 2) / (n * (1 - expected) ** 2)
    half = z * math.sqrt(max(float(variance), 0.0))
    return Estimate(value, max(value - half, -1.0), min(value + half, 1.0))


def expected_calibration_error(bins: Sequence[CalibrationBin]) -> float | None:
    """Return the mean distance of score and share of positives, weighted by the bins' sizes; None without items.

    Naeini, Cooper and Hauskrecht (2015), AAAI, pages 2901-2907; Guo et al. (2017), ICML, section 2.
    """
    n = sum(each.n for each in bins)
    if n == 0:
        return None
    return sum(abs(each.positives - each.n * each.mean_score) for each in bins) / n


def population_stability(before: Sequence[int], after: Sequence[int]) -> Drift | None:
    """Return the population stability index of two histograms over the same bins; None if either is empty.

    PSI = sum over bins of (a - b) ln(a / b) with the bins' shares a and b (Siddiqi 2006, Credit Risk Scorecards,
    chapter 8), an empty bin counting as `PSI_EPSILON`. By custom 0.1 is a change to look at, 0.25 a large one.
    Without a change it still is about chi-square of bins - 1 degrees of freedom times 1/n + 1/m (Yurdakul and
    Naranjo 2020, Journal of Risk Model Validation 14:89-100): that is ``by_chance``.
    """
    if len(before) != len(after):
        raise ValueError(f"the histograms have {len(before)} and {len(after)} bins; they must have the same")
    used = [(b, a) for b, a in zip(before, after, strict=True) if b or a]
    n, m = sum(b for b, _ in used), sum(a for _, a in used)
    if n == 0 or m == 0:
        return None
    shares = [(max(b / n, PSI_EPSILON), max(a / m, PSI_EPSILON)) for b, a in used]
    psi = sum((a - b) * math.log(a / b) for b, a in shares)
    return Drift(psi, chi_square_95(len(used) - 1) * (1 / n + 1 / m))


def chi_square_95(degrees: int) -> float:
    """Return the 95% quantile of chi-square, by Wilson and Hilferty (1931, PNAS 17:684-688); 0 for no degrees.

    Off by less than 3% for one degree and less than 1% from three on.
    """
    if degrees <= 0:
        return 0.0
    part = 2 / (9 * degrees)
    return degrees * (1 - part + 1.6448536269514722 * math.sqrt(part)) ** 3


def quantile_edges(counts: Mapping[float, int], bins: int = 10) -> tuple[float, ...]:
    """Return inner edges that cut values into at most ``bins`` about equal parts; ties make fewer.

    A value belongs to the first bin whose edge it does not exceed.

    Args:
        counts: How often each value occurs.
        bins: At most so many parts.
    """
    n, below, edges = sum(counts.values()), 0, []
    for value in sorted(counts):
        before, below = below, below + counts[value]
        # An edge wherever a k-th of the values ends at, or within, this value's share.
        if before * bins // n < below * bins // n and below < n:
            edges.append(value)
    return tuple(edges)


def histogram(counts: Mapping[float, int], edges: Sequence[float]) -> tuple[int, ...]:
    """Return how many values fall into each of the ``len(edges) + 1`` bins of `quantile_edges`."""
    bins = [0] * (len(edges) + 1)
    for value, count in counts.items():
        bins[bisect_left(edges, value)] += count
    return tuple(bins)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the nearest-rank percentile of values in ascending order; None without values."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else None
