"""Finds lines that broke off although an end mark stands behind them.

A grammar that bounds the length of a line makes the model write an end mark where the bound is reached ("uses scissors
or.", "which could t."), or begin the next item without one. English only: which words end nothing differs by language.
Prepositions and auxiliaries end good sentences and count only where more speaks for a break. Texts about words, and
words of the caller, may end in anything.
"""

import re

from deployments.validator.loose_ends import ends_in_stranded_word, is_english
from deployments.validator.words import fold

__all__ = ["find_forced_end"]


def _split(words: str) -> frozenset[str]:
    return frozenset(words.split())


_MARKS = ".!?"
_WRAPPING = " \t\r*_"
# Words that no sentence ends with, neither a statement nor a question.
_NEVER_LAST = _split("an the although whether unless every your our their its")
_LINKS = _split("and or but nor because than")
"""Nor do these end a statement; "Do you want tea, or?" is a question."""
_WHOLE_PAIRS = _split(
    "anything-but nothing-but everything-but everyone-but none-but all-but last-but just-because only-because"
    " simply-because well-because"
)
_BEFORE_A = _split("us you me him them with for have has had need needs get gets such quite without like giving into")
"""Words behind which "a" is an article: it may also be the name of an option, a note or a variable."""
_MODALS = _split("can could will would shall should may might must cannot")
"""No word of one letter follows them."""
_CONTRACTION = re.compile(r"(?:it|that|there|here|he|she|what|who)['’]s|(?:i|you|we|they)['’](?:re|ve|ll|m)", re.I)
_SUBJECTS = _split("they we he she")
_BEFORE_SUBJECTS = _split("that which if when where while because although whether unless")
_BEFORE_SPACED_MARK = _split("for that where which with of from when if while as by")
_SPACED_MARK = re.compile(r"\b(\w+)[ \t]+([.!?])(?=[.!?]*(?:\s|$))")
_ENUMERATED = re.compile(r"[A-Za-z]+,")
_HYPHENATED = re.compile(r"[a-z]{2,}-")
_PREFIXES = _split(
    "anti auto bi co counter de dis ex extra fore high hyper hypo il im in inter intra ir left long low macro mega "
    "micro mid mini mis mono multi neo non out over para poly post pre pro proto pseudo quasi re right self semi short "
    "sub super trans tri ultra un under well"
)
_ABOUT_WORDS = re.compile(
    r"\b(?:articles?|words?|letters?|conjunctions?|prepositions?|pronouns?|determiners?|contractions?|(?:pre|suf)fix(?:es)?"
    r"|vowels?|consonants?|spell\w*|gramma\w+|means|meaning|translat\w+|stands? for|called|written|typed?"
    r"|operators?|keywords?|logic\w*|bitwise|boolean|gates?|azure|argent|gules|sable)\b",
    re.IGNORECASE,
)
"""A line with such a word may speak of its last one. In heraldry, "or" is gold."""
_SYMBOLS = re.compile(r"[&|<>=^%]{2}")
"""Among operators, "!" is one, too."""
_ASKS_ABOUT_WORDS = re.compile(
    r"\b(?:articles?|conjunctions?|prepositions?|pronouns?|determiners?|contractions?|prefix|suffix|grammar|translate"
    r"|unfinished|incomplete|fill in|cut off|breaks? off)\b",
    re.IGNORECASE,
)
_WORDS_REACH = 100
"""Characters before the last word in which a line tells that it speaks of words."""
_QUOTED = 30
"""Characters before a break that the caller wrote, too: then they are quoted."""
_ITEM = re.compile(r"[ \t]*(?:[-*+•‣◦]|\d{1,3}[.)])[ \t]")
_OPEN_QUOTE = re.compile(r"(?<=[\w:,+=)] )(?:\"|“)(?=[\w.!?]|$)")
_MAX_QUOTED = 3
"""Words behind a quotation mark that opens and does not close: with more of them, the mark was forgotten."""
_MIN_WORDS = 5
"""Shorter lines are names, rows and the like."""
_MIN_ITEM_WORDS = 12
"""Of an item without an end mark: shorter ones may be beginnings for the reader to go on with."""
_MIN_ITEM_CHARACTERS = 50
_MAX_LINE, _MAX_TEXT, _MAX_TELLING = 2_000, 20_000, 1_000
"""Characters: of a line and of a text that are looked at, from the end, and of a text to tell its language by."""


def find_forced_end(text: str, prompt: str) -> tuple[int, int] | None:
    """Where the first line of ``text`` stands that broke off before its end mark, or before the next item.

    Args:
        text: An answer, without its code blocks; its last ``_MAX_TEXT`` characters are looked at.
        prompt: What was asked.

    Returns:
        [start, end) of the line in characters, or None; None also where the text is not in English.
    """
    at = max(0, len(text) - _MAX_TEXT)
    near = text[at:]
    spaces_marks = (" !" in near or " ." in near) and _spaces_marks(near)
    lines = []
    for line in near.split("\n"):
        bare = line[-_MAX_LINE:].rstrip(_WRAPPING)
        if bare:
            lines.append((at, bare))
        at += len(line) + 1
    suspects = [
        (start, line)
        for (start, line), (_, following) in zip(lines, [*lines[1:], (at, "")], strict=False)
        if _breaks_off(line, following, spaces_marks) and _is_prose(line)
    ]
    if not suspects or _ASKS_ABOUT_WORDS.search(prompt[-_MAX_TEXT:]) or not is_english(fold(near[-_MAX_TELLING:])):
        return None
    for start, line in suspects:
        if line[-_QUOTED:] not in prompt:
            end = text.find("\n", start)
            return start, len(text) if end < 0 else end
    return None


def _breaks_off(line: str, following: str, spaces_marks: bool) -> bool:
    if line[-1] not in _MARKS:
        return len(line) >= _MIN_ITEM_CHARACTERS and _is_broken_item(line, following)
    body = line.rstrip(_MARKS)
    marks = line[len(body) :]
    if marks.endswith(".."):
        return False  # who trails off means to
    ahead = body.rstrip()
    tokens = ahead[-_WORDS_REACH:].rsplit(None, 2)
    if len(tokens) < 2:
        return False
    last, before = tokens[-1], tokens[-2].lower().strip(",")
    if _ends_in_bound_word(last, before, "?" in marks):
        return True
    # A space before the mark, though the text has none elsewhere: something is missing there.
    if len(ahead) < len(body) and not spaces_marks and (last in _BEFORE_SPACED_MARK or _ENUMERATED.fullmatch(last)):
        return True
    return _opens_quotation(line, following)


def _spaces_marks(text: str) -> bool:
    """Whether whoever wrote ``text`` puts spaces before end marks."""
    return any(word not in _BEFORE_SPACED_MARK or mark == "?" for word, mark in _SPACED_MARK.findall(text))


def _ends_in_bound_word(last: str, before: str, is_question: bool) -> bool:
    """Whether something must follow the word ``last`` behind the word ``before``."""
    if last in _NEVER_LAST or (last in _LINKS and not is_question):
        # "a, an, the" and "and, or" are lists of such words.
        is_listed = before in _NEVER_LAST or before in _LINKS or before == "a"
        return not is_listed and f"{before}-{last}" not in _WHOLE_PAIRS
    if last == "a":
        return before in _BEFORE_A
    if len(last) == 1:
        return before in _MODALS and last.islower() and last != "i"
    if last in _SUBJECTS:
        return before in _BEFORE_SUBJECTS and not is_question
    if last[-1] == "-":
        is_paired = before.endswith("-") or before in _LINKS  # "on- or off-"
        return _HYPHENATED.fullmatch(last) is not None and last[:-1] not in _PREFIXES and not is_paired
    return ("'" in last or "’" in last) and _CONTRACTION.fullmatch(last) is not None


def _opens_quotation(line: str, following: str) -> bool:
    """Whether a quotation opens in the last words of an item or a text, and closes neither there nor below."""
    if following and not (_ITEM.match(line) and _ITEM.match(following)):
        return False
    start = _find_open_quotation(line)
    return start is not None and len(line[start:].split()) <= _MAX_QUOTED


def _find_open_quotation(line: str) -> int | None:
    start = max(line.rfind('"'), line.rfind("“"))
    if start < 0:
        return None
    is_open = line.count('"') % 2 == 1 if line[start] == '"' else line.rfind("”") < start
    return start if is_open and _OPEN_QUOTE.match(line, start) else None


def _is_broken_item(line: str, following: str) -> bool:
    """Whether a long item without an end mark, which another item follows, ends in the middle of a sentence."""
    item, other = _ITEM.match(line), _ITEM.match(following)
    if item is None or other is None or _indent(line) != _indent(following) or line[-1] in ":;)]":
        return False
    if following[other.end() :].lstrip()[:1].islower():
        return False  # a comment of code, whose lines begin with asterisks
    if _find_open_quotation(line) is not None:
        return True
    words = fold(line)
    return len(words) >= _MIN_ITEM_WORDS and ends_in_stranded_word(line, words)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_prose(line: str) -> bool:
    """Whether a line is long enough to be a sentence, and not about its last word."""
    near = line[-_WORDS_REACH:]
    return len(line.split(None, _MIN_WORDS)) >= _MIN_WORDS and not (_ABOUT_WORDS.search(near) or _SYMBOLS.search(near))
