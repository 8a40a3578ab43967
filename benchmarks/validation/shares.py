"""A counted share with its interval, as every figure here is told."""

from typing import Any

from benchmarks.controls.figures import wilson

__all__ = ["counted"]


def counted(hits: int, of: int) -> dict[str, Any]:
    """Hits, trials, and the share with Wilson's 95% interval."""
    return {"hits": hits, "of": of, **wilson(hits, of)}
