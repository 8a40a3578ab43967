"""What a contraction is written out as. Owns the English of it; where in a text it applies is for
``contraction_stream.py`` to say.

Where English is ambiguous, the rule is the commoner reading, and what stays doubtful stays as it is: a possessive
``'s``, ``IT's``, ``'cause`` as the beginning of a quote.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["CONTRACTIONS", "JOINERS", "LEFT_CONTEXT", "LOOK_AHEAD", "MAX_TOKEN", "TOKEN", "find_open", "write_out"]

LEFT_CONTEXT = 24
"""Characters before a contraction that may be looked at: enough for a question word, a space and marks."""
LOOK_AHEAD = 80
"""Characters after it: at most two words are looked at, of at most ``_MAX_WORD`` characters."""
JOINERS = "'’_-"
"""A letter, one of these and a letter belong to one word: ``don't``, ``snake_case``, ``can't-miss``."""

_MAX_WORD = 32
_BE_HAVE_DO = "is are was were has have had do does did"
_MODALS = "could would should might may must need ought dare"
_IRREGULAR_NOT = {"can't": "can", "won't": "will", "shan't": "shall", "ain't": "is"}
_SUFFIXES = {
    "'m": ("am", "i"),
    "'re": ("are", "you we they who what where when how why there that these those"),
    "'ll": ("will", "i you he she it we they who what that there this these those how where when"),
    "'ve": ("have", "i you we they who what where how there that these those could would should might must may"),
}
_TAKE_IS = "it that this what there here he she who where when how why everything something nothing"
"""Only after these is 's "is" or "has"; after any other word it may be a possessive."""
_TAKE_WOULD = "i you he she it we they who what that there where when how why"
_FIXED = {
    "let's": "let us",
    "y'all": "you all",
    "c'mon": "come on",
    "gonna": "going to",
    "wanna": "want to",
    "gotta": "got to",
    "kinda": "kind of",
    "sorta": "sort of",
    "outta": "out of",
    "gimme": "give me",
    "lemme": "let me",
    "dunno": "do not know",
    "cuz": "because",
    "'cuz": "because",
    "'til": "until",
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PRONOUNS = _words("i you he she it we they")
_QUESTION_WORDS = _words("what where when how why")
_BEFORE_QUESTION = _QUESTION_WORDS | _words("and but or so")
_BEFORE_QUESTION_MARKS = frozenset(".,;:!?…—–-•>#|(\n")
_OPENING_QUOTES = frozenset("\"'“‘«[")
_AINT = {"i": "am", **dict.fromkeys(_words("you we they these those"), "are")}
_AFTER_CAUSE = _PRONOUNS | _words(
    # "y" is y'all: writing the next word out must not change what this one becomes.
    "y there this that these those the a an my your his her its our their everyone everybody someone people"
)
"""Before these ``'cause`` is "because"; elsewhere it may be the quoted word: ``'cause of death'``."""
_PASSED_OVER = _PRONOUNS | _words("never always already just also only ever now recently since long not")
"""Between 's or 'd and the word that decides: "it's never been", "where's he been"."""
_HAS = _words(
    "been had got gotten become come begun happened occurred emerged arrived lasted remained existed seemed appeared "
    "risen fallen disappeared"
)
"""After 's these make it "has". Other participles do not: "it's called", "it's made of" are passives far more often
than "it has made"."""
_HAD = _words(
    "been gone done seen taken given known written made had got gotten found thought said told left lost won heard "
    "felt kept met paid brought bought begun broken chosen fallen forgotten grown shown spoken eaten driven drawn "
    "flown risen stolen thrown worn built sent spent slept sold taught caught understood held stood meant"
)
_BETTER = _words("better best")
_ENDS_IN_ED = _words("need feed heed seed weed speed breed bleed proceed succeed exceed embed shed shred wed indeed")
"""No participles, for all their ending."""

Rule = Literal["fixed", "not", "is", "would", "cause"]


@dataclass(frozen=True, slots=True)
class _Form:
    rule: Rule
    words: tuple[str, ...]
    """The first word, and for "fixed" all of them; for "not" what follows the not."""


def _list_forms() -> Iterator[tuple[str, _Form]]:
    negated = {f"{word}n't": word for word in f"{_BE_HAVE_DO} {_MODALS}".split()} | _IRREGULAR_NOT
    for form, word in negated.items():
        yield form, _Form("not", (word,))
        yield f"{form}'ve", _Form("not", (word, "have"))
    for suffix, (added, words) in _SUFFIXES.items():
        for word in words.split():
            yield word + suffix, _Form("fixed", (word, added))
    for word in _TAKE_IS.split():
        yield f"{word}'s", _Form("is", (word,))
    for word in _TAKE_WOULD.split():
        yield f"{word}'d", _Form("would", (word,))
        yield f"{word}'d've", _Form("fixed", (word, "would", "have"))
    for form, written in _FIXED.items():
        yield form, _Form("fixed", tuple(written.split()))
    yield "'cause", _Form("cause", ("because",))


_FORMS = dict(_list_forms())
CONTRACTIONS = frozenset(_FORMS)
"""All that are known, in lower case and with straight apostrophes."""
_BEGINNINGS = frozenset(form[:size] for form in _FORMS for size in range(1, len(form) + 1))
MAX_TOKEN = max(map(len, _FORMS))
"""Characters of the longest contraction."""

_BARE = "|".join(form for form in _FORMS if "'" not in form)
_CLIPPED = "|".join(form[1:] for form in _FORMS if form[0] == "'")
_EDGE = rf"(?<![^\W_])(?<![^\W_][{JOINERS}])"
TOKEN = re.compile(
    _EDGE
    + rf"(?:[A-Za-z]{{1,10}}(?:['’][A-Za-z]{{1,3}}){{1,2}}|['’‘](?i:{_CLIPPED})|(?i:{_BARE}))"
    + rf"(?![^\W_])(?![{JOINERS}][^\W_])"
)
"""A whole word that may be a contraction. It is not known to end before the next two characters are."""

_OPEN = re.compile(rf"{_EDGE}(?=([A-Za-z'’‘]{{1,{MAX_TOKEN}}})\Z)")
_APOSTROPHE = re.compile(r"['’‘]")
_WORD = re.compile(rf"\w{{1,{_MAX_WORD}}}")
_LAST_WORD = re.compile(r"[A-Za-z]+\Z")


def find_open(text: str, at: int) -> int:
    """Where the word at the end of ``text`` begins, if that is at ``at`` or later and it may still become a
    contraction; else len(text)."""
    for word in _OPEN.finditer(text, max(at, len(text) - MAX_TOKEN)):
        if _normalise(word[1]) in _BEGINNINGS:
            return word.start()
    return len(text)


def write_out(token: str, left: str, right: str, is_whole: bool) -> tuple[str, int] | None:
    """What to write for ``token``, and how many characters of ``right`` that takes with it.

    Args:
        token: A match of ``TOKEN``.
        left: What stands before it, the last ``LEFT_CONTEXT`` characters of the text.
        right: What stands after it, ``LOOK_AHEAD`` characters or all there is by now.
        is_whole: Whether ``right`` is as long as that, or the text ends with it.

    Returns:
        ``token`` itself and 0 where it is no contraction; None where ``right`` is too short to tell.
    """
    form = _FORMS.get(_normalise(token))
    if form is None or _is_doubtful(token, right):
        return token, 0
    match form.rule:
        case "fixed":
            return _in_case_of(token, form.words), 0
        case "not":
            return _write_not(token, form.words, left, right, is_whole)
        case "is":
            added = _is_or_has(right, is_whole)
        case "would":
            added = _would_or_had(form.words[0], right, is_whole)
        case "cause":
            return _write_cause(token, form.words, right, is_whole)
    return None if added is None else (_in_case_of(token, (*form.words, added)), 0)


def _normalise(text: str) -> str:
    # Inside a word an opening quote is no apostrophe.
    straight = "'" + text[1:] if text.startswith("‘") else text
    return straight.replace("’", "'").lower()


def _is_doubtful(token: str, right: str) -> bool:
    head = _APOSTROPHE.split(token)[0]
    # The possessive of an abbreviation: IT's, WHO's. IT'S is a shout.
    if len(head) > 1 and head.isupper() and not token.isupper():
        return True
    # Between quotes: 'til'.
    return not head and _APOSTROPHE.match(right) is not None


def _write_not(token: str, words: tuple[str, ...], left: str, right: str, is_whole: bool) -> tuple[str, int] | None:
    verb, *rest = words
    subject, end = "", 0
    if _may_invert(left):
        following = _next_word(right, 0, is_whole)
        if following is None:
            return None
        if following[0] in _PRONOUNS:
            subject, end = following
    if verb == "is" and _APOSTROPHE.split(token)[0].lower() == "ain":
        before = _LAST_WORD.search(left.rstrip(" *_"))
        verb = _AINT.get(subject or (before[0].lower() if before else ""), "is")
    if subject:
        first, *others = _in_case_of(token, (verb, "not", *rest)).split()
        return " ".join([first, right[1:end], *others]), end
    if verb == "can":
        return _in_case_of(token, ("cannot", *rest)), 0
    return _in_case_of(token, (verb, "not", *rest)), 0


def _may_invert(left: str) -> bool:
    """Whether a question may begin after ``left``: "Isn't it", "Why isn't it", but not "The problem isn't you"."""
    if left.rstrip("*_")[-1:] in _OPENING_QUOTES:
        return True
    bare = left.rstrip(" \t*_")
    if not bare or bare[-1] in _BEFORE_QUESTION_MARKS:
        return True
    word = _LAST_WORD.search(bare)
    return word is not None and word[0].lower() in _BEFORE_QUESTION


def _is_or_has(right: str, is_whole: bool) -> str | None:
    following = _next_words(right, is_whole)
    return None if following is None else "has" if following[-1] in _HAS else "is"


def _would_or_had(subject: str, right: str, is_whole: bool) -> str | None:
    following = _next_words(right, is_whole)
    if following is None:
        return None
    if subject in _QUESTION_WORDS and following[0] in _PRONOUNS:
        return "did"
    last = following[-1]
    is_past = last in _HAD or (last.endswith("ed") and last not in _ENDS_IN_ED)
    return "had" if is_past or following[0] in _BETTER else "would"


def _write_cause(token: str, words: tuple[str, ...], right: str, is_whole: bool) -> tuple[str, int] | None:
    if token[0] != "’":  # the others are opening quotes too
        following = _next_word(right, 0, is_whole)
        if following is None:
            return None
        if following[0].rstrip("'") not in _AFTER_CAUSE:
            return token, 0
    return _in_case_of(token, words), 0


def _next_words(right: str, is_whole: bool) -> tuple[str, ...] | None:
    """The next word; with the one after it, where it is passed over. As ``_next_word``."""
    first = _next_word(right, 0, is_whole)
    if first is None or first[0] not in _PASSED_OVER:
        return None if first is None else (first[0],)
    second = _next_word(right, first[1], is_whole)
    return None if second is None else (first[0], second[0])


def _next_word(right: str, at: int, is_whole: bool) -> tuple[str, int] | None:
    """The word that follows ``at`` after one space, in lower case, and where it ends. "": there is none. With an
    apostrophe at its end: something is joined to it. None: ``right`` does not tell yet."""
    if right[at : at + 1] not in ("", " "):
        return "", at
    word = _WORD.match(right, at + 1)
    end = word.end() if word else at + 1
    after = right[end : end + 2]
    if not is_whole and (not after or (word and after in JOINERS)):
        return None
    if word is None or _WORD.match(after):
        return "", at
    bare = word[0].rstrip("_")
    is_joined = after[:1] in tuple(JOINERS) and after[1:].isalnum()
    return bare.lower() + "'" * is_joined, at + 1 + len(bare)


def _in_case_of(token: str, words: tuple[str, ...]) -> str:
    text = " ".join(words)
    if token.isupper():
        return text.upper()
    is_capital = token.lstrip("'’‘")[0].isupper()
    return text[0].upper() + text[1:] if is_capital else text
