"""Tells whether an answer is as long as the controls promised; the one promise that every answer can be measured by.

Other dials promise what holds on average, and one answer says little of that. Words are counted as on the receipt.
"""

import math
from functools import lru_cache

from deployments.controls.yardsticks import count_words
from deployments.validator.thresholds import DEFAULTS, Thresholds
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["NAME", "SEVERITY", "check", "grade"]

NAME = "control_fit"
SEVERITY: Severity = "soft"


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds an answer that ended by itself far from its promised length.

    Returns:
        One finding, or none; none without a promise, for JSON, and where the caller set a limit.
    """
    target = _find_target(context)
    words = _count_words(text) if target else 0
    if target is None or not words or context.finish_reason != "stop":
        return ()
    if target / thresholds.control_fit_ratio <= words <= target * thresholds.control_fit_ratio:
        return ()
    return (Finding(NAME, SEVERITY, f"{words} words where the controls promised about {target}"),)


def grade(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> float | None:
    """1 - abs(ln(words / promised words)), not below 0: half or twice as long is 0.31. None: nothing was promised."""
    target = _find_target(context)
    if target is None:
        return None
    words = _count_words(text)
    return max(0.0, 1.0 - abs(math.log(words / target))) if words else 0.0


# Half of the time that the check and ``grade`` take together.
_count_words = lru_cache(maxsize=1)(count_words)


def _find_target(context: CheckContext) -> int | None:
    if context.caller_limited or context.json_schema is not None or context.answer_format == "json":
        return None
    return context.target_words if context.target_words and context.target_words > 0 else None
