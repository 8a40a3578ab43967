"""Tells whether a line ends in a word or a mark that something must follow, whatever else stands in the text.

Words are judged in English only, but for a few of other languages that mean nothing else anywhere.
"""

import re
from collections.abc import Sequence
from itertools import zip_longest

from deployments.validator.fragments import is_fragment
from deployments.validator.words import fold

__all__ = ["ends_in_dangling_word", "ends_in_fragment", "ends_in_stranded_word", "has_unclosed_pair", "is_english"]


def _split(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words that no utterance ends with, not even an item of a list.
_DANGLING = _split("und oder et ou les des avec los las")
_DANGLING_ENGLISH = _split(
    "a an the and or but nor because although whether unless until than into onto upon among whose my your our their"
    " its every very per"
)
_CONTRACTION = re.compile(
    r"(?:(?:it|that|there|here|he|she|what|who|let)['’]s|(?:i|you|we|they|he|she|it|that|there|who)['’](?:re|ve|ll|m|d))",
    re.IGNORECASE,
)
# Words that end an utterance only after a clause that they belong to ("the colour that you are looking for").
_STRANDED = _split(
    "of from with without between to at for in by as is are was were be been would should could had which if then"
    " they we he she may might must shall cannot had during against via including except despite towards per whose"
    " will makes gives allows includes contains provides requires especially just also"
)
_CLAUSE = _split(
    "that which who whom whose what whatever where when why how to being you we they i he she it than as if"
)
_CLAUSE_REACH = 6
"""Words: "the people that I had to wait so long for" is about as far as it goes."""
_DETERMINERS = _split("a an the my your his her its our their this these")
# Words with which no phrase ends that a comma or a colon has begun.
_OPENERS = _STRANDED | _split("so when where while since after before on about over such another")
# Also adverbs: "Fill the form in", "with the light on" are whole.
_ALSO_ADVERBS = frozenset(["in", "by"])
_MAX_IMPERATIVE = 5
"""Words."""
_SUBJECTS = _split("you they we he she")
_BEFORE_SUBJECTS = _split(
    "that which if when where what because while although and so once until unless whether whenever wherever how why"
)
_MAX_GLOSS = 2
"""Words: "para: for"."""
_MAX_UNIT = 3
"""Letters of a unit behind a number: "kg", "min"."""
_NOUN_BEHIND = {
    "must": _split("a"),
    "might": _split("your his her their all"),
    "will": _split("a the your my his her their own free last living good ill of at"),
    "against": _split("and"),
}
"""Behind these, the words are nouns, or the like: "a must", "for and against"."""
_AUXILIARIES = _split("is are was were do does did can could should would will may must")
_ARTICLES, _PREPOSITIONS = _split("a an"), _split("with of in at by from under for")
_ATTRIBUTES = _split(
    "small large big bigger smaller larger new good great better long longer short shorter high higher low lower old"
    " older young different important simple clear wide narrow thick thin strong heavy hot warm dry wet deep soft hard"
    " easy difficult quick slow early full fresh clean dirty safe separate specific certain similar former main major"
    " minor few single further own very slightly fully highly really fairly particularly extremely newly freshly"
    " lightly brief broad modern typical common real nice free rich sharp steady loose tight huge tiny slower faster"
)
_BEFORE_BOUND = {
    **dict.fromkeys(_ATTRIBUTES, _ARTICLES),
    **dict.fromkeys(_split("several various certain"), _PREPOSITIONS),
    "certain": _ARTICLES | _PREPOSITIONS,
    "no": _PREPOSITIONS | {"has", "have", "had"},
    "any": _PREPOSITIONS | {"as", "than"},
}
"""Words that stand before another one, each with those behind which it ends nothing: "a small", "with no"."""
_PART = re.compile(r"[,;:–—(]\s")

_PAIRS = ("()", "[]", "“”", "「」", "『』", "（）", "【】", "《》")


_FREQUENT = _split(
    "the and to with your you that are from how what this it my should which when"
    " their they these there about would could its into them through than"
)
_FREQUENT_SHARE = 0.04
_MIN_FREQUENT = 2


def is_english(words: Sequence[str]) -> bool:
    """Whether folded words are of an English text: enough of them are frequent there and rare elsewhere."""
    known = sum(word in _FREQUENT for word in words)
    return known >= _MIN_FREQUENT and known >= _FREQUENT_SHARE * len(words)


def ends_in_dangling_word(line: str, in_english: bool) -> bool:
    """Whether the last word of ``line`` is an article, a conjunction or the like."""
    ahead, token = _split_last_token(line)
    if token.isupper():  # "vitamin A" is a name
        return False
    # "el: the" and "**el** the" are glosses.
    if ahead and not (ahead[-1].isalnum() or ahead[-1] in ",;)’'\"”"):
        return False
    word = token.casefold()
    return word in _DANGLING or (in_english and (word in _DANGLING_ENGLISH or _CONTRACTION.fullmatch(word) is not None))


def ends_in_stranded_word(line: str, words: Sequence[str]) -> bool:
    """Whether an English line ends in a preposition, a verb or a pronoun that belongs to nothing before it."""
    ahead, word = _split_last_token(line)
    if not ahead or not word.islower():
        return False
    if ahead[-1] in ",;:–—" and word in _OPENERS:
        return len(words) > _MAX_GLOSS
    if word in _SUBJECTS and len(words) > _MAX_GLOSS and words[-2] in _BEFORE_SUBJECTS:
        return True
    before = words[-2] if len(words) > 1 else ""
    if before in _BEFORE_BOUND.get(word, ()):
        return True
    if not _may_strand(word, before) or _holds_clause(fold(_PART.split(ahead)[-1])):
        return False
    return len(words) > (_MAX_IMPERATIVE if word in _ALSO_ADVERBS else 1)


def _may_strand(word: str, before: str) -> bool:
    """Whether ``word`` behind ``before`` is a preposition, a verb or the like, which ends only clauses."""
    if word == "not":
        return before in _AUXILIARIES
    if word == "can":  # "a watering can"
        return before == "this" or (len(before) > 3 and before.endswith("s"))
    return word in _STRANDED and word not in _SUBJECTS and before not in _NOUN_BEHIND.get(word, ())


def _holds_clause(words: Sequence[str]) -> bool:
    """Whether something that a preposition may belong to stands close before the end of ``words``."""
    near = words[-_CLAUSE_REACH:]
    for word, following in zip_longest(near, near[1:], fillvalue=""):
        is_direction = word == "to" and (following in _DETERMINERS or following.isdigit())
        if word in _CLAUSE and not is_direction:
            return True
    return False


def ends_in_fragment(line: str, around: str) -> bool:
    """Whether the last word of an English line is the beginning of one, and no word of ``around`` or of the line."""
    ahead, token = _split_last_token(line)
    piece = re.split(r"[-–—/(\[\"“*_]", token)[-1]
    is_name = not piece.islower() and re.search(r"\w", ahead) is not None
    if len(piece) < 2 or not piece.isascii() or not piece.isalpha() or is_name:
        return False
    if ahead[-1:].isdigit() and len(piece) <= _MAX_UNIT:
        return False
    piece = piece.lower()
    return is_fragment(piece) and piece not in fold(around) and piece not in fold(ahead)


def has_unclosed_pair(line: str) -> bool:
    """Whether a bracket, a quotation, code or bold text begins in ``line`` and does not end there."""
    for pair in _PAIRS:
        opening, closing = pair[0], pair[1]
        # In German, the English opening quotation mark closes.
        if line.rfind(opening) > line.rfind(closing) and not (opening == "“" and "„" in line):
            return True
    if line.count('"') % 2 and line[-1] != '"' and not re.search(r"\d\"", line):  # 27" is a size
        return True
    return line.count("`") % 2 == 1 or (line.count("**") % 2 == 1 and not re.search(r"\w\*\*\w", line))


def _split_last_token(line: str) -> tuple[str, str]:
    """What stands before the last word with its marks, and that word."""
    token = line.rsplit(None, 1)[-1]
    return line[: len(line) - len(token)].rstrip(), token
