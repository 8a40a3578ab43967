"""Notes an answer that reads far harder or easier than the technicality dial promised.

Measured by the yardstick that the dial is calibrated in, the mean CEFR level of the words: of other measures, such as
the Flesch-Kincaid grade, no range was promised. One answer says little of what holds on average, so this only tells,
and lowers the score.

Evidence: of 56 real answers in the development half to which a range was promised, 5 are found, and all 5 have another
fault; the 33 without a fault lie at most 0.3 beyond theirs.
"""

from functools import lru_cache

from deployments.controls.yardsticks import cefr_level, count_words
from deployments.validator.code_blocks import blank_code
from deployments.validator.grades import grade_between
from deployments.validator.languages.detector import detect
from deployments.validator.thresholds import DEFAULTS, Thresholds
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["NAME", "SEVERITY", "check", "grade", "load_levels"]

NAME = "readability"
SEVERITY: Severity = "note"
LANGUAGE = "en"
"""Of the list of words with their levels."""
_MAX_CHARACTERS = 20_000
"""A long answer is judged by its beginning."""


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Notes an answer whose level lies too far outside the promised range.

    Returns:
        One note, or none; none without a promise, for JSON, short answers and answers in other languages than English.
    """
    level = _measure(text, context, thresholds)
    if level is None or context.reading_level is None:
        return ()
    if _find_distance(level, context.reading_level) <= thresholds.reading_level_distance:
        return ()
    low, high = context.reading_level
    message = f"the words have a mean CEFR level of {level:.1f} where the controls promised {low:.1f} to {high:.1f}"
    return (Finding(NAME, SEVERITY, message),)


def grade(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> float | None:
    """1 inside the promised range, falling with the distance from it. None: nothing was promised, or not measured."""
    level = _measure(text, context, thresholds)
    if level is None or context.reading_level is None:
        return None
    return grade_between(_find_distance(level, context.reading_level), 0.0, thresholds.reading_level_distance)


def load_levels() -> None:
    """Loads the list of words, some 0.2 s; call it at start-up."""
    cefr_level("one two three four five")


def _measure(text: str, context: CheckContext, thresholds: Thresholds) -> float | None:
    if context.reading_level is None or context.json_schema is not None or context.answer_format == "json":
        return None
    return _read_level(text[:_MAX_CHARACTERS], thresholds.reading_level_min_words)


# For ``grade``, which follows ``check``.
@lru_cache(maxsize=1)
def _read_level(text: str, min_words: int) -> float | None:
    prose = blank_code(text)
    if count_words(prose) < min_words or detect(prose)[0] != LANGUAGE:
        return None
    return cefr_level(prose)


def _find_distance(level: float, promised: tuple[float, float]) -> float:
    return max(promised[0] - level, level - promised[1], 0.0)
