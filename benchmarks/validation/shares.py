"""A counted share with its interval and the spread of many values, as every figure here is told."""

from collections.abc import Sequence
from typing import Any

from benchmarks.controls.figures import quantile, wilson

__all__ = ["counted", "spread"]


def counted(hits: int, of: int) -> dict[str, Any]:
    """Hits, trials, and the share with Wilson's 95% interval."""
    return {"hits": hits, "of": of, **wilson(hits, of)}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and maximum, in the values' own unit; 0 of none."""
    if not values:
        return {"p50": 0.0, "p95": 0.0, "max": 0.0}
    return {"p50": quantile(values, 0.5), "p95": quantile(values, 0.95), "max": float(max(values))}
