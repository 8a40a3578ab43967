"""Tells whether a line ends with an end mark, or with what stands for one."""

import re
import unicodedata

__all__ = ["ends_sentence", "has_full_stop", "is_whole", "strip_blank"]

# Bidi marks, joiners and variation selectors show nothing.
_BLANK = (
    " \t\r\n\f\v\u00a0\u3000\ufeff\ufe0f\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2066\u2067\u2068\u2069"
)
_END_MARKS = ".!?…。！？؟．।॥։"
_FULL_STOPS = tuple(".。．।॥։")
_CLOSING_MARKS = "\"')]}”’»›」』）】*_`~" + _BLANK
_QUOTATION_ENDS = "\"'”’»"
_ABBREVIATION = re.compile(r"\b(?:\w\.){2,4}$|\betc\.$")
_GREEK = re.compile("[\u0370-\u03ff\u1f00-\u1fff]")


def strip_blank(text: str) -> str:
    """``text`` without what shows nothing at its end."""
    return text.rstrip(_BLANK)


def is_whole(line: str) -> bool:
    """Whether a line ends with an end mark or with what stands for one."""
    bare = line.rstrip(_CLOSING_MARKS)
    if not bare or bare[-1] in _END_MARKS or unicodedata.category(bare[-1]) in ("So", "Sk"):
        return True
    closing = line[len(bare) :]
    if bare[-1] in "-–—":
        return any(mark in closing for mark in _QUOTATION_ENDS)  # speech that somebody interrupts
    if bare[-1] == ";":
        return _GREEK.match(bare[-2:]) is not None
    return closing.count("_") > 2  # a blank to fill in


def ends_sentence(line: str) -> bool:
    """Whether a line is whole, and not by the point of "5 p.m."."""
    return is_whole(line) and not _ABBREVIATION.search(line)


def has_full_stop(line: str) -> bool:
    """Whether a line ends with a full stop that is no part of an abbreviation."""
    return line.rstrip(_CLOSING_MARKS).endswith(_FULL_STOPS) and not _ABBREVIATION.search(line)
