"""Tells whether an English answer is word salad: too many of its words are no words ("the colour goes amberish").

A word is what wordfreq has ever counted in English, which has most technical terms, names and loans. Only lower-case
words of four letters and more are looked up, each once; code, quotes, emphasised words, addresses, table lines, words
joined by a mark and words that the caller used are left out, since these are where good answers invent or cite.
Verse is not judged.

Evidence: on the development half no good answer that is judged has more than 4% and no salad fewer than 12.5%; on the
other half none of 292 good answers, 142 hard ones and 49 in other languages is found, and all of 18 salads.
"""

import re
from collections.abc import Container
from functools import cache, lru_cache

from deployments.validator.checks import language
from deployments.validator.checks.repetition import is_verse
from deployments.validator.code_blocks import blank_code
from deployments.validator.grades import grade_between
from deployments.validator.thresholds import DEFAULTS, Thresholds
from deployments.validator.words import fold
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["NAME", "SEVERITY", "check", "grade", "load_words"]

NAME = "nonwords"
SEVERITY: Severity = "soft"
LANGUAGE = "en"
_MIN_NONWORDS = 3
"""Two may be a slip of the pen, whatever the share."""
_GOOD = 0.4
"""Part of the share that is a finding: good answers have no more."""
_MAX_CHARACTERS = 20_000
"""A long answer is judged by its beginning."""

_LEFT_OUT = re.compile(
    r"`[^`\n]{1,500}`|https?://\S+|^(?:\t| {4})[^\n]*$|^[ \t]*\|[^\n]*$"
    r"|\"(?:[^\"\n]|\n(?![ \t]{0,20}\n)){1,500}\"|“[^”\n]{1,500}”|\([^()\n]{1,200}\)"
    # A letter in bold before the rest of its word, then whole words.
    r"|\*{1,3}\w{1,3}\*{1,3}\w{0,40}|(?<!\w)\*{1,3}\w[^*\n]{0,200}\*|(?<!\w)_[^_\n]{1,200}_",
    re.MULTILINE,
)
_WORD = re.compile(r"(?<![\w'’/.@#$\\+-])[a-z]{4,40}(?![\w(/@\\=*_]|[-'’.:+]\w)")


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds an English answer of which too many words are no words.

    Returns:
        One finding, or none; none for JSON, verse, short answers and answers that may be in another language.
    """
    share = _measure(text, context, thresholds, thresholds.nonword_share)
    if share is None or share <= thresholds.nonword_share:
        return ()
    message = f"{share:.0%} of the words are no English words; at most {thresholds.nonword_share:.0%} may"
    return (Finding(NAME, SEVERITY, message),)


def grade(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> float | None:
    """Falls with the share of words that are none, from what good answers have on. None: the text is not judged."""
    good = _GOOD * thresholds.nonword_share
    share = _measure(text, context, thresholds, good)
    return None if share is None else grade_between(share, good, thresholds.nonword_share)


def _measure(text: str, context: CheckContext, thresholds: Thresholds, enough: float) -> float | None:
    """The share of words that are none; 0 where it is not above ``enough``. None: the text is not judged."""
    if context.json_schema is not None or context.answer_format == "json":
        return None
    if context.language is not None and re.split(r"[-_]", context.language.lower())[0] != LANGUAGE:
        return None
    text = text[:_MAX_CHARACTERS]
    count, unknown = _find_unknown(text)
    if count < thresholds.nonword_min_words:
        return None
    if not _is_much(unknown, count, enough):
        return 0.0
    unknown = unknown.difference(fold(context.known_text), fold(context.prompt), fold(context.system))
    if not _is_much(unknown, count, enough):
        return 0.0
    foreign = None if is_verse(text) else language.measure_foreign(text, LANGUAGE, thresholds)
    return None if foreign is None or foreign[0] >= thresholds.foreign_share else len(unknown) / count


# For ``grade``, which follows ``check``.
@lru_cache(maxsize=1)
def _find_unknown(text: str) -> tuple[int, frozenset[str]]:
    """How many different words are looked up, and those that are none."""
    known = load_words()
    words = set(_WORD.findall(_LEFT_OUT.sub(" ", blank_code(text))))
    return len(words), frozenset(word for word in words if word not in known)


@cache
def load_words() -> Container[str]:
    """The words of English, loaded once (about a second); call it at start-up."""
    # The ingress imports the checks too and runs only the hard ones.
    from wordfreq import get_frequency_dict

    return get_frequency_dict(LANGUAGE)


def _is_much(unknown: frozenset[str], count: int, enough: float) -> bool:
    return len(unknown) >= _MIN_NONWORDS and len(unknown) > enough * count
