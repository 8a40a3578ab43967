"""Ridge-regularised logistic regression of weighted rows: their weights and columns, the fit, and its AUC. Pure.

Many labelings of the same rows are fitted at once, as a permutation test asks for. Called by `judge_fit` and `judges`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
"""Shapes: n rows, d features, k = d + 1 columns with the intercept, P labelings at once."""

_NEWTON_STEPS = 50
_CONVERGED = 1e-6
_CLIP = 3.0
"""Standard deviations: one answer with the only code block of all must not decide a weight."""


def limit_weights(raters: Sequence[str | None], share: float) -> Floats:
    """Return the weights (n,) of rows, so that no rater has more than the share of all weight; the mean is 1.

    Of r raters each may have 2/r at least: with few of them a smaller share cannot be.

    Args:
        raters: Of each row, who it comes from; equal ones are one rater, None too.
        share: Above 0, at most 1.
    """
    counts = {rater: raters.count(rater) for rater in set(raters)}
    share = max(share, 2 / len(counts))
    low, high = 0.0, float(max(counts.values()))
    # The largest c with c <= share * sum(min(count, c)); the right side minus the left is concave in c, and 0 at 0.
    for _ in range(60):
        middle = (low + high) / 2
        if middle <= share * sum(min(count, middle) for count in counts.values()):
            low = middle
        else:
            high = middle
    weights = np.array([min(1.0, high / counts[rater]) for rater in raters])
    return np.asarray(weights / weights.mean())


def standardise(rows: Floats, mean: Floats, scale: Floats) -> Floats:
    """Return the rows in standard deviations from the mean, clipped. What all fitted rows have alike becomes 0.

    Args:
        rows: (n, d).
        mean: (d,), of the rows that are fitted.
        scale: (d,), their standard deviations.
    """
    told = scale > 1e-9
    return np.asarray(np.where(told, np.clip((rows - mean) / np.where(told, scale, 1.0), -_CLIP, _CLIP), 0.0))


def fit_logistic(columns: Floats, labels: Floats, weights: Floats, ridge: float) -> Floats:
    """Return the weights (P, k) of ridge logistic regressions with the same columns and other labels.

    The penalised likelihood (le Cessie and van Houwelingen 1992, Applied Statistics 41:191-201) has one maximum, found
    by Newton's method for all labelings at once.

    Args:
        columns: (n, k). The first is the intercept: 1, or 0 in a row that has none.
        labels: (P, n), 1 or 0.
        weights: (n,), of the rows.
        ridge: Precision of the prior of each weight but the intercept's; above 0.
    """
    n, k = columns.shape
    penalty = np.full(k, ridge)
    # An intercept has no prior but what keeps labels of one kind from moving it for ever.
    penalty[0] = 1e-2
    squares = (columns[:, :, None] * columns[:, None, :]).reshape(n, k * k)
    beta = np.zeros((len(labels), k))
    for _ in range(_NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(beta @ columns.T, -30, 30)))
        slope = (weights * (labels - chance)) @ columns - penalty * beta
        curve = ((weights * chance * (1 - chance)) @ squares).reshape(-1, k, k) + np.diag(penalty)
        step = np.linalg.solve(curve, slope[:, :, None])[:, :, 0]
        # Far from the optimum a whole step may overshoot.
        step /= np.maximum(1.0, np.abs(step).max(axis=1, keepdims=True) / 4)
        beta += step
        if np.abs(step).max() < _CONVERGED:
            break
    return beta


def auc_of(scores: Floats, liked: npt.NDArray[np.bool_], weights: Floats) -> float:
    """Return how often a liked one scores above another, weighted, equal scores half; 0.5 if either kind is missing.

    That is the area under the ROC curve (Hanley and McNeil 1982, Radiology 143:29-36).

    Args:
        scores: (n,), as are ``liked`` and ``weights``.
    """
    up, down = np.where(liked, weights, 0.0), np.where(liked, 0.0, weights)
    total = up.sum() * down.sum()
    if total <= 0:
        return 0.5
    _, place = np.unique(scores, return_inverse=True)
    up_at, down_at = np.bincount(place, up), np.bincount(place, down)
    below = np.cumsum(down_at) - down_at
    return float((up_at * (below + down_at / 2)).sum() / total)
