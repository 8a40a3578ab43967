"""How far each slider moves what is another one's: the matrix of sliders and yardsticks, from the sweeps. Pure.

A cell is the mean of yardstick B at slider A's level 100 minus that at its level 0. Its unit decides what it says:

- ``shift_sd``: the standard deviation of B over all answers of B's own slider's sweep, that is B's whole range. The
  criterion: turning A all the way moves B by less than a fifth of what B's own dial spreads.
- ``cohens_d``: the standard deviation of B within A's two levels, pooled: what a reader could tell apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.controls.figures import Point, cohens_d, shift, spread
from benchmarks.controls.samples import YARDSTICKS


def crosstalk(
    points: Mapping[str, Mapping[str, Sequence[Point]]], moves_with: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """Every cell of the matrix.

    Args:
        points: (level, value) by slider and yardstick.
        moves_with: By slider, the sliders whose yardstick it is declared to move, with the reason.
    """
    units = {
        yardstick: spread([value for _, value in points[owner][yardstick]])
        for yardstick, owner in YARDSTICKS.items()
        if owner in points
    }
    cells = []
    for slider, measured in points.items():
        for yardstick, unit in units.items():
            owner = YARDSTICKS[yardstick]
            levels = [level for level, _ in measured[yardstick]]
            if not levels:
                continue
            low, high = min(levels), max(levels)
            cells.append(
                {
                    "slider": slider,
                    "yardstick": yardstick,
                    "shift_sd": shift(measured[yardstick], low, high, unit),
                    "cohens_d": cohens_d(measured[yardstick], low, high),
                    "own": owner == slider,
                    "declared": owner in moves_with.get(slider, {}),
                }
            )
    return {
        "units": units,
        "moves_with": {slider: dict(others) for slider, others in moves_with.items()},
        "cells": cells,
    }
