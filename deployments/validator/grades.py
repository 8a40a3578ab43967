"""How well a text does by one measure, in 0..1: what lets the better of two texts that both pass have the higher score.

A grade is 1 for what good answers have and SOFT at the limit from which on there is a finding, on a straight line that
goes on to 0. So it makes no step where the finding begins.
"""

__all__ = ["SOFT", "grade_between"]

SOFT = 0.4
"""What is left of a sub-score beside a soft finding."""


def grade_between(value: float, good: float, limit: float) -> float:
    """The grade of a measured value.

    Args:
        value: In any unit.
        good: What good answers have, or better: 1.
        limit: Where the finding begins: SOFT. Not equal to ``good``; on which side of it says which way is worse.
    """
    worse = (value - good) / (limit - good)
    return min(1.0, max(0.0, 1.0 - (1.0 - SOFT) * worse))
