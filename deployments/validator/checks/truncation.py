"""Tells whether an answer was cut: by the token limit, inside a code block, or in the middle of a sentence.

The text alone is weak evidence, so it is read carefully: lists, tables, headings, code, verse, signatures and
short answers may end without an end mark. A cut that the caller asked for is a note.
"""

import re
import unicodedata

from deployments.validator.code_blocks import find_open_fence
from deployments.validator.thresholds import DEFAULTS, Thresholds
from deployments.validator.words import fold
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["NAME", "SEVERITY", "check"]

NAME = "truncation"
SEVERITY: Severity = "soft"

_END_MARKS = ".!?…。！？؟．।॥։።;"
_CLOSING_MARKS = "\"')]}”’»›」』）】*_`~ \t"
_DANGLING_MARKS = ",:([{“«-–—="
# Words that no utterance ends with, not even an item of a list ("things to look for" is one).
_DANGLING_WORDS = frozenset(
    [
        "the",
        "an",
        "and",
        "or",
        "but",
        "nor",
        "because",
        "und",
        "oder",
        "et",
        "ou",
        "les",
        "des",
        "avec",
        "los",
        "las",
    ]
)
_NOT_PROSE = re.compile(r"\s*(?:[-*+•‣◦]\s|\d{1,3}[.)]\s|\||#{1,6}\s|>|\$\$|</|https?://|\s{4})|.*\|\s*$")
# Thai, Lao, Myanmar, Khmer and Tibetan end sentences with a space or a mark of their own.
_NO_END_MARKS = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff]")
_VERSE_LINE = 60
"""Characters. A poem's lines are shorter, a paragraph's line is as long as the paragraph."""


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds where an answer breaks off.

    Returns:
        One finding, or none. A note where the caller set the limit.
    """
    severity: Severity = "note" if context.caller_limited else SEVERITY
    if context.finish_reason == "length":
        whose = "the caller's" if context.caller_limited else "the"
        return (Finding(NAME, severity, f"cut at {whose} token limit"),)
    if not text.strip() or context.json_schema is not None or context.answer_format == "json":
        return ()  # json_schema says more about cut JSON
    fence = find_open_fence(text)
    if fence is not None:
        return (Finding(NAME, severity, "a code block is not closed", (fence, len(text))),)
    reason = _find_reason(text, thresholds)
    if reason is None:
        return ()
    end = len(text.rstrip())
    begin = text.rfind("\n", 0, end) + 1
    return (Finding(NAME, severity, reason, (begin, end)),)


def _find_reason(text: str, thresholds: Thresholds) -> str | None:
    lines = [line for line in text.splitlines() if line.strip()]
    last = lines[-1]
    if re.match(r"\s*(?:`{3,}|~{3,}|\||</)", last):
        return None
    bare = last.rstrip().rstrip(_CLOSING_MARKS)
    if not bare or bare[-1] in _END_MARKS or unicodedata.category(bare[-1]) in ("So", "Sk"):
        return None
    ends_open = last.rstrip()[-1] in _DANGLING_MARKS and not re.fullmatch(r"[\s=*_+~-]+", last)
    words = fold(last)
    is_prose = _NOT_PROSE.match(last) is None
    if is_prose and ends_open and (len(words) >= 3 or last.rstrip()[-1] == ":") and not _is_valediction(last, words):
        return "the text ends in a mark that something must follow"
    if len(words) >= 4 and words[-1] in _DANGLING_WORDS and not bare[-1].isupper() and not _is_verse(lines):
        return "the text ends in a word that something must follow"
    is_long = len(words) >= thresholds.truncation_min_words
    if is_prose and is_long and not _NO_END_MARKS.search(bare[-1]) and not _is_verse(lines):
        return "the last sentence has no end"
    return None


def _is_valediction(last: str, words: list[str]) -> bool:
    """'Best regards,' with the name left to the sender."""
    return last.rstrip().endswith(",") and len(words) <= 3


def _is_verse(lines: list[str]) -> bool:
    block = lines[-4:]
    unmarked = sum(line.rstrip()[-1] not in ".!?" for line in block)
    return len(block) >= 3 and max(map(len, block)) <= _VERSE_LINE and unmarked * 2 >= len(block)
