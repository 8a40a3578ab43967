"""The statistics of the dials, pure: correlations with intervals, fits, shares, shifts.

Numbers in, numbers out; no text, no service, no file. Every random step takes its seed.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression  # type: ignore[import-untyped]  # SciPy ships no types
from scipy.stats import rankdata  # type: ignore[import-untyped]

Point = tuple[float, float]
"""(level, value)."""
Z_95 = 1.959964
"""Of the normal distribution: 95% lie within."""


class Interval(TypedDict):
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


def spearman(points: Sequence[Point]) -> float:
    """Rank correlation, ties at their mean rank; 0 where one side does not vary: a dial that moves nothing."""
    if len(points) < 2:
        return 0.0
    ranks = rankdata(np.asarray(points, dtype=float), axis=0)
    centred = ranks - ranks.mean(axis=0)
    spread = np.sqrt((centred**2).sum(axis=0).prod())
    return float((centred[:, 0] * centred[:, 1]).sum() / spread) if spread > 0 else 0.0


def highest_spearman(levels: int) -> float:
    """The most that ``spearman`` can reach when many answers share each of a few levels: 0.980 for 5 levels.

    The answers of a level tie on its side and hardly ever on the other, so even a perfect order stays below 1.
    """
    return math.sqrt(1 - 1 / levels**2) if levels else 0.0


def bootstrap(
    groups: Sequence[Sequence[Point]], statistic: Callable[[Sequence[Point]], float], seed: int, resamples: int = 1000
) -> Interval:
    """A statistic over all points, with its interval over groups (prompts), which are what is drawn again.

    Answers to one prompt are alike, so drawing single answers would make the interval too narrow.
    """
    rng = np.random.default_rng(seed)
    everything = [point for group in groups for point in group]
    drawn = []
    for _ in range(resamples if groups else 0):
        chosen = rng.integers(0, len(groups), len(groups))
        drawn.append(statistic([point for index in chosen for point in groups[index]]))
    low, high = np.quantile(drawn, (0.025, 0.975)) if drawn else (0.0, 0.0)
    return {"value": statistic(everything), "low": float(low), "high": float(high)}


def by_level(points: Sequence[Point]) -> dict[float, list[float]]:
    """Values by level, levels in increasing order."""
    levels: dict[float, list[float]] = {}
    for level, value in sorted(points, key=lambda point: point[0]):
        levels.setdefault(level, []).append(value)
    return levels


def level_means(points: Sequence[Point]) -> dict[float, float]:
    """Mean value by level, levels in increasing order."""
    return {level: float(np.mean(values)) for level, values in by_level(points).items()}


def is_increasing(values: Sequence[float]) -> bool:
    """Whether each value is above the one before it."""
    return all(right > left for left, right in itertools.pairwise(values))


def isotonic(means: Sequence[float], weights: Sequence[float], increasing: bool = True) -> list[float]:
    """The closest monotone curve through level means, by weighted least squares."""
    fit = isotonic_regression(np.asarray(means), weights=np.asarray(weights), increasing=increasing)
    return [float(value) for value in fit.x]


def quantile(values: Sequence[float], share: float) -> float:
    """With linear interpolation between neighbours."""
    return float(np.quantile(values, share))


def spread(values: Sequence[float]) -> float:
    """Standard deviation of a sample; 0 for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def pooled_spread(groups: Sequence[Sequence[float]]) -> float:
    """Standard deviation within groups, pooled over them."""
    freedom = sum(len(group) - 1 for group in groups)
    total = sum(spread(group) ** 2 * (len(group) - 1) for group in groups)
    return math.sqrt(total / freedom) if freedom > 0 else 0.0


def shift(points: Sequence[Point], low: float, high: float, unit: float) -> float:
    """Mean at level ``high`` minus mean at level ``low``, in units of ``unit``; 0 where the unit is 0."""
    means = level_means(points)
    return (means[high] - means[low]) / unit if unit > 0 else 0.0


def cohens_d(points: Sequence[Point], low: float, high: float) -> float:
    """The same difference in units of the spread within the two levels, pooled."""
    levels = by_level(points)
    return shift(points, low, high, pooled_spread((levels[low], levels[high])))


def wilson(hits: int, count: int) -> Interval:
    """A share with Wilson's 95% interval (https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval)."""
    if count == 0:
        return {"value": 0.0, "low": 0.0, "high": 1.0}
    share, squared = hits / count, Z_95**2
    centre = (share + squared / (2 * count)) / (1 + squared / count)
    half = Z_95 / (1 + squared / count) * math.sqrt(share * (1 - share) / count + squared / (4 * count**2))
    # At 0 and at 1 the interval ends there; rounding would put it a hair beyond.
    return {
        "value": share,
        "low": 0.0 if hits == 0 else centre - half,
        "high": 1.0 if hits == count else centre + half,
    }


def length_error(words: float, target: float) -> float:
    """How far a length is from its target, as a share of the target."""
    return abs(words - target) / target


def distinct_2(texts: Sequence[str]) -> float:
    """Different word pairs as a share of all word pairs, over all texts together (https://arxiv.org/abs/1510.03055)."""
    pairs = [pair for text in texts for pair in itertools.pairwise(text.lower().split())]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def variety(vectors: npt.NDArray[np.float32]) -> float:
    """1 minus the mean cosine of every two of the rows, which have length 1; 0 for fewer than two."""
    count = len(vectors)
    if count < 2:
        return 0.0
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    mean = (cosines.sum() - np.trace(cosines)) / (count * (count - 1))
    # Equal texts have cosine 1 but for the last digits of float32, whose order would pass for a ranking.
    return max(0.0, round(float(1 - mean), 6))


def rounded(value: object, places: int = 4) -> object:
    """The same JSON value with its numbers rounded, so that a record is readable and stable."""
    if isinstance(value, float):
        return round(value, places)
    if isinstance(value, Mapping):
        return {str(key): rounded(each, places) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(each, places) for each in value]
    return value
