"""Says how long Python's ``re``, which backtracks, may need for a stranger's pattern. Pure.

With no group repeated, it tries at most every way to share a text out among the pattern's repetitions of variable
length: as many as there are combinations, times the ways through its alternatives and optional parts, times the
characters that each way is compared for. That is far above what most patterns take, and never below.
"""

import math
import re
from functools import lru_cache
from typing import NamedTuple

__all__ = ["estimate_steps"]

_ESCAPE = re.compile(r"\\.", re.DOTALL)
_CLASS = re.compile(r"\[\^?\]?[^\]]*\]")
# A repeated group, a back-reference or a lookaround may need exponential time.
_COSTLY = re.compile(r"\)[*+{]|\(\?(?!:)")
_BACK_REFERENCE = re.compile(r"\\[1-9]")
_WIDE = re.compile(r"[*+]|\{\d*,\d*\}")
_EXACT = re.compile(r"\{(\d{1,9})\}")
_MAX_WIDE = 8
_MAX_LOG_WAYS = 24


class _Shape(NamedTuple):
    """What makes a pattern slow."""

    wide: int
    """Repetitions of variable length; where a match may start anywhere, one more."""
    ways: float
    """Through alternatives and optional parts."""
    length: int
    """Characters of repetitions of fixed length."""


def estimate_steps(pattern: str, length: int) -> float:
    """At most so many characters are compared to find ``pattern`` in a text of ``length`` characters.

    Returns:
        ``inf`` where that may be exponential or is not known.
    """
    shape = _find_shape(pattern)
    return math.comb(length + shape.wide, shape.wide) * shape.ways * shape.length if shape else math.inf


@lru_cache(maxsize=256)
def _find_shape(pattern: str) -> _Shape | None:
    """None: it may take exponential time."""
    plain = _CLASS.sub("x", _ESCAPE.sub("x", pattern))
    if _BACK_REFERENCE.search(pattern) or _COSTLY.search(plain):
        return None
    plain = plain.replace("(?:", "(")
    is_anchored = plain.startswith("^") and "|" not in plain
    wide = len(_WIDE.findall(plain)) + (not is_anchored)
    groups = 1 + plain.count("(")
    # The most ways that so many bars in so many groups can make: spread out evenly.
    log_ways = plain.count("?") + groups * math.log2(1 + plain.count("|") / groups)
    if wide > _MAX_WIDE or log_ways > _MAX_LOG_WAYS:
        return None
    return _Shape(wide, 2.0**log_ways, 1 + sum(map(int, _EXACT.findall(plain))))
