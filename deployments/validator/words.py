"""Cuts text into folded words, the unit of the repetition, echo and leak checks.

Case, spaces and punctuation do not count. Scripts that write no spaces between words (Chinese, Japanese,
Thai, ...) give one word a character: a whole sentence as one word could be neither counted nor compared.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = [
    "Word",
    "begins_one",
    "count_unspaced",
    "fold",
    "is_inside_word",
    "is_unspaced",
    "is_word_open",
    "iterate_words",
]

# Thai to Lao, Myanmar, Khmer, kana, CJK ideographs and their extensions.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W_{_UNSPACED}]+")
_UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]")


class Word(NamedTuple):
    """One word: its case-folded form and where it stands, [start, end) in characters of the text."""

    form: str
    start: int
    end: int


def iterate_words(text: str, start: int = 0) -> Iterator[Word]:
    """Yields the words of ``text`` from character ``start`` on; a word cut by ``start`` is yielded cut."""
    for match in _WORD.finditer(text, start):
        yield Word(match.group().casefold(), match.start(), match.end())


def fold(text: str) -> list[str]:
    """The case-folded words of ``text``, without their places."""
    return [form.casefold() for form in _WORD.findall(text)]


def is_unspaced(form: str) -> bool:
    """Whether a word is one character of a script that writes no spaces."""
    return len(form) == 1 and form > "\u0dff" and _UNSPACED_CHARACTER.match(form) is not None


def count_unspaced(text: str) -> int:
    """How many characters of ``text`` belong to scripts that write no spaces."""
    return 0 if text.isascii() else len(_UNSPACED_CHARACTER.findall(text))


def is_inside_word(text: str, at: int) -> bool:
    """Whether character ``at`` goes on with the word of the one before it; ``at`` is neither 0 nor len(text)."""
    before, after = text[at - 1], text[at]
    return before.isalnum() and after.isalnum() and not is_unspaced(before) and not is_unspaced(after)


def is_word_open(text: str) -> bool:
    """Whether more text may go on with the last word of ``text``; a character without spaces is a word by itself."""
    return text[-1:].isalnum() and not is_unspaced(text[-1])


def begins_one(part: str, forms: Sequence[str]) -> bool:
    """Whether one of the sorted ``forms`` begins with ``part``."""
    at = bisect_left(forms, part)
    return at < len(forms) and forms[at].startswith(part)
