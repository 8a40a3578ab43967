"""Tells whether an answer is a letter, and how one closes: with names and wishes that have no end mark."""

import re
from collections.abc import Sequence

from deployments.validator.end_marks import is_whole
from deployments.validator.fragments import is_common
from deployments.validator.words import fold

__all__ = ["closes_letter", "is_letter", "is_valediction"]

_SALUTATION = re.compile(r"(?:dear|my dear|hi|hello|hey|to whom)\b[^\n]{0,60}$", re.IGNORECASE | re.MULTILINE)
_LETTER = re.compile(r"\b(?:letter|e-?mail|mail|note|card|postcard|message|invitation)s?\b", re.IGNORECASE)
_POSTSCRIPT = re.compile(r"p\.? ?s\b", re.IGNORECASE)
_STOP_INSIDE = re.compile(r"\w\w[.!?] ")
# "Nadia and the field team": names, and who else signs.
_SIGNATURE = re.compile(r"(?:[A-Z][\w.'’-]*,? ?){1,4}(?:(?:and|&) (?:the )?(?:[\w'’-]+ ?){1,4})?")
_MAX_SIGNATURE = 80
"""Characters; the pattern's time grows with their cube."""
_VALEDICTION = re.compile(
    r"\b(?:regards|wishes|sincerely|faithfully|truly|yours|love|thanks|cheers|best|warmly|respectfully|cordially"
    r"|gratefully|hugs|kisses|greetings|grüßen?|gruß|saludos?|atentamente|cordialement|amitiés|amicalement|bises|saluti|groeten?"
    r"|abraços?|hälsningar|hilsen|pozdrawiam|pozdrowienia|уважением|повагою)\b",
    re.IGNORECASE,
)


_WISHES = frozenset(
    [
        "with",
        "best",
        "kind",
        "warm",
        "warmest",
        "yours",
        "sincerely",
        "love",
        "all",
        "lots",
        "big",
        "many",
        "hugs",
        "kisses",
    ]
)
"""With these words such a line begins."""


def closes_letter(last: str, words: Sequence[str], lines: Sequence[str], prompt: str) -> bool:
    """Whether ``last`` (its folded words are ``words``) is a wish or a name with which the letter above it closes."""
    if len(words) > 10 or (_POSTSCRIPT.match(last) and _STOP_INSIDE.search(last)):
        return False
    for line in reversed(lines[-3:]):
        # "Yours faithfully," or, as in German, without the comma; the names under it are short lines.
        if line[-1] == "," or _VALEDICTION.search(line):
            most = 10 if line[-1] == "," and _VALEDICTION.search(line) else 5
            if len(fold(line)) <= most and not _SALUTATION.match(line):
                return True
        elif is_whole(line) or len(fold(line)) > 8:
            break
    if not is_letter(lines, prompt):
        return False
    if len(last) <= _MAX_SIGNATURE and _SIGNATURE.fullmatch(last) and not is_common(words[0]):
        return True
    if not _VALEDICTION.search(last):
        return False
    begins = words[0] in _WISHES
    return begins or len(words) <= 4


def is_letter(lines: Sequence[str], prompt: str) -> bool:
    """Whether the lines of an answer begin like a letter, or the prompt asks for one."""
    if _LETTER.search(prompt):
        return True
    return any(_SALUTATION.match(line) or (line[-1] == "," and len(line.split()) <= 5) for line in lines[:3])


def is_valediction(last: str, words: Sequence[str], in_letter: bool) -> bool:
    """Whether the line (its folded words are ``words``) is "Best regards," with the name left to the sender."""
    return last[-1] == "," and len(words) <= 5 and (in_letter or _VALEDICTION.search(last) is not None)
