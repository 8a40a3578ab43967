"""Tells whether an answer goes round in circles: repeated 8-grams, loops of one word, loops of characters.

The share of repeated 8-grams is Rheostat's own measure (recall .98-.99 at .006 false alarms on the first
evaluation); a compression ratio is not, since code and tables compress better than loops. Code and tables are
taken out first, songs and poems may repeat a refrain.
"""

import re
from itertools import groupby

from deployments.validator.code_blocks import blank, blank_code
from deployments.validator.thresholds import DEFAULTS, Thresholds
from deployments.validator.words import fold, iterate_words
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["NAME", "SEVERITY", "check", "find_repeated_tail"]

NAME = "repetition"
SEVERITY: Severity = "soft"
_GRAM = 8
_MAX_UNIT_WORDS = 120
"""Longest unit that a repeated tail is looked for with: a paragraph."""
_MIN_TAIL_WORDS = 12
"""'No, no, no!' is a figure of speech; a tail counts from so many words on."""
_VERSE_LINE = 60

_TABLE_LINE = re.compile(r"^[ \t]*\|[^\n]*$|^[^\n|]*\|[^\n|]*\|[^\n]*$|^(?:\t| {4})[^\n]*$", re.MULTILINE)
_LONG_RUN = re.compile(r"\S{64,}")


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds loops and repeated passages.

    Returns:
        One finding, or none; with a span where the loop stands in one place. A note where the caller set the
        limit or ignores the end of text: then a loop is what was asked for.
    """
    severity: Severity = "note" if context.caller_limited else SEVERITY
    if context.finish_reason == "repetition":
        tail = find_repeated_tail(text)
        return (Finding(NAME, severity, "the engine stopped a loop", tail),)
    prose = blank(blank_code(text), _TABLE_LINE)
    forms = fold(prose)
    loop = _find_character_loop(prose, thresholds.loop_characters)
    loop = loop or _locate(prose, _find_word_loop(forms, thresholds.loop_words))
    loop = loop or _locate(prose, _find_tail(forms))
    if loop:
        return (Finding(NAME, severity, "the text repeats the same words in a loop", loop),)
    share = _measure_duplicates(forms)
    limit = thresholds.verse_duplicate_share if _is_verse(prose) else thresholds.duplicate_share
    if len(forms) >= thresholds.duplicate_min_words and share > limit:
        return (Finding(NAME, severity, f"{share:.0%} of the 8-word passages stood before; at most {limit:.0%} may"),)
    return ()


def find_repeated_tail(text: str) -> tuple[int, int] | None:
    """The part of the text's end that repeats what stands right before it: [first repeat, end) in characters.

    At least three copies in a row, of the shortest unit that repeats; the last copy may be cut. None: no loop.
    """
    return _locate(text, _find_tail(fold(text)))


def _find_tail(forms: list[str]) -> tuple[int, int] | None:
    """The repeated tail as [first, end) in words."""
    # The last word of a cut text may be half a word.
    first = _find_tail_start(forms)
    first = _find_tail_start(forms[:-1]) if first is None else first
    return None if first is None else (first, len(forms))


def _find_tail_start(forms: list[str]) -> int | None:
    for unit in range(1, min(_MAX_UNIT_WORDS, len(forms) // 3) + 1):
        matched = 0
        while matched + unit < len(forms) and forms[-1 - matched] == forms[-1 - matched - unit]:
            matched += 1
        if matched >= 2 * unit and matched + unit >= _MIN_TAIL_WORDS:
            if all(map(str.isdigit, forms[-unit:])):
                return None  # rows of zeros
            return len(forms) - matched
    return None


def _locate(text: str, words: tuple[int, int] | None) -> tuple[int, int] | None:
    """[first, end) in characters of a range of words; a range up to the last word ends with the text."""
    if words is None:
        return None
    places = list(iterate_words(text))
    return places[words[0]].start, len(text) if words[1] == len(places) else places[words[1] - 1].end


def _find_character_loop(text: str, limit: int) -> tuple[int, int] | None:
    for run in _LONG_RUN.finditer(text):
        value = run.group()
        for unit in range(1, 17):
            # Equal to itself moved by one unit, over `limit` characters: found by comparing block-wise.
            at = _find_period(value, unit, limit)
            if at is not None and any(map(str.isalpha, value[at : at + unit])):
                return run.start() + at, run.end()
    return None


def _find_period(value: str, unit: int, limit: int) -> int | None:
    """Where a stretch of ``limit`` characters with the period ``unit`` begins, on a grid of limit / 4."""
    step = max(1, limit // 4)
    for at in range(0, len(value) - limit + 1, step):
        if value[at : at + limit - unit] == value[at + unit : at + limit]:
            return at
    return None


def _find_word_loop(forms: list[str], limit: int) -> tuple[int, int] | None:
    at = 0
    for form, group in groupby(forms):
        count = sum(1 for _ in group)
        if count >= limit and not form.isdigit():
            return at, at + count
        at += count
    return None


def _measure_duplicates(words: list[str]) -> float:
    # A number that is repeated (a row of zeros) is data.
    forms = [word for at, word in enumerate(words) if not (word.isdigit() and at and words[at - 1] == word)]
    total = len(forms) - _GRAM + 1
    if total <= 0:
        return 0.0
    return 1.0 - len(set(zip(*(forms[offset:] for offset in range(_GRAM)), strict=False))) / total


def _is_verse(text: str) -> bool:
    lines = sorted(len(line.strip()) for line in text.splitlines() if line.strip())
    return len(lines) >= 6 and lines[len(lines) * 3 // 4] <= _VERSE_LINE
