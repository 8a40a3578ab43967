"""Tells whether an answer says nothing: no visible text, or the prompt given back."""

import unicodedata

from deployments.validator.thresholds import DEFAULTS, Thresholds
from deployments.validator.words import fold
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["NAME", "SEVERITY", "check"]

NAME = "empty"
SEVERITY: Severity = "soft"
_MIN_ECHO_WORDS = 5
"""'Hello!' may well be answered by 'Hello!'."""


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds an answer without content.

    Returns:
        One finding, or none. Letters, digits and symbols (an emoji, a currency sign) are content; spaces,
        punctuation, zero-width and control characters are not.
    """
    if not any(unicodedata.category(character)[0] in "LNS" for character in text):
        return (Finding(NAME, SEVERITY, "the answer holds no visible text"),)
    if len(text) <= 2 * len(context.prompt) + 64:
        words = fold(text)
        if len(words) >= _MIN_ECHO_WORDS and words == fold(context.prompt):
            return (Finding(NAME, SEVERITY, "the answer only gives the prompt back"),)
    return ()
