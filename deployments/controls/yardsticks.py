"""What a dial is measured by: numbers read off an answer's text alone, never the lever that moved it.

The levers bend words by their Zipf frequency (wordfreq) and a list of the catalogue's; the yardsticks here read CEFR
levels, syllables and a list of their own, so that a lever cannot reach its number without changing the text. Pure:
the same text, the same number. Code, fenced or inline, is nobody's style and is left out, except from ``words``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from deployments.controls.measure import measure

__all__ = [
    "MEASURED_BY",
    "YARDSTICKS",
    "Yardstick",
    "casual_per_100_words",
    "cefr_level",
    "count_words",
    "flesch_kincaid_grade",
    "warm_up",
]

MIN_WORDS = 5
"""Below this a rate or a mean says more of chance than of style."""
MAX_STYLE_CHARS = 20_000
"""Of one text, read for its style. Longer texts change no mean, but a stranger may send a megabyte as an old turn."""
MAX_WORD_CHARS = 40
"""Of one word, looked up; a longer one is no word of a dictionary."""
KNOWN_WORDS = 1 << 15
"""Words whose level, syllables and tone are kept: more than people use, some 15 MB when full."""

_FENCED = re.compile(
    r"^[ ]{0,3}(`{3,}|~{3,})[^\n]*(?:\n.*?(?:^[ ]{0,3}\1[`~]*[ \t]*$|\Z)|\Z)", re.MULTILINE | re.DOTALL
)
_INLINE = re.compile(r"(?<!`)(`+)(?!`)[^\n]{1,500}?(?<!`)\1(?!`)")
_WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)*")

# Only these take 's for "is" or "has"; after any other word it is a possessive.
_TAKES_IS = "it|that|this|what|there|here|he|she|who|where|how|let|when|why|everything|something|nothing"
_CONTRACTION = re.compile(rf"[a-z]+n['’]t|[a-z]+['’](?:m|re|ve|ll|d)|(?:{_TAKES_IS})['’]s|y['’]all")
_CLIPPED = re.compile(r"(?<![\w'’])['’](?:em|cause|til)\b", re.IGNORECASE)
_EXCLAMATION = re.compile(r"!+(?![=\[])")

# Words of conversation that stay out of letters and articles: interjections, greetings, reduced forms and the fillers
# of speech (the classes of Biber et al. 1999, Longman Grammar of Spoken and Written English, chapter 14). Words with
# a neutral everyday sense are left out, but for those that are casual far more often: cool, kids, lots, stuff, super.
_CASUAL_LIST = (
    "ah aha ahem aw aww awesome bro btw buddy bye cheers congrats cool cuz dang darn dude dunno eh folks fyi gee "
    "gimme gonna goodness gosh gotcha gotta guys ha haha heck hello hey hi hiya hmm hooray huh hurray imo kidding "
    "kids kinda lemme lol lots mom nah nope oh okay ok omg ooh oops ouch outta pal phew psst shucks sorta stuff "
    "super tho totally ugh uh um wanna whatcha whoa whoops woah wow yay yeah yep yikes yo yup"
)
CASUAL_WORDS = frozenset(_CASUAL_LIST.split())


def count_words(text: str) -> int:
    """Words as the receipt's ``measured`` counts them, code included: what a length is promised in."""
    return measure(text)["words"]


def cefr_level(text: str) -> float | None:
    """Mean CEFR level of the text's words, 1 (A1) to 6 (C2), by cefrpy's word list.

    Every word that the list has counts, each time it stands there, over its parts of speech. Function words count
    too: left out, the mean told texts of four levels apart less well (Spearman 0.94 against 0.95 over 20 texts).
    Contractions are in no list. A possessive counts as its word.

    Returns:
        None when fewer than 5 words are known.
    """
    levels = [
        level
        for word in _WORD.findall(_prose(text).lower())
        if (level := _word_level(word.removesuffix("'s").removesuffix("’s"))) is not None
    ]
    return sum(levels) / len(levels) if len(levels) >= MIN_WORDS else None


def flesch_kincaid_grade(text: str) -> float | None:
    """School grade of the United States: 0.39 · words a sentence + 11.8 · syllables a word - 15.59.

    After Kincaid et al. 1975 (https://apps.dtic.mil/sti/citations/ADA006655). A line ends a sentence, so each item of
    a list is one. A syllable is what pyphen's American hyphenation separates, at least one a word; it misses those
    of one letter ("idea"), alike on every text. Short plain texts come below 0.

    Returns:
        None when the text has fewer than 5 words of Latin letters.
    """
    prose = _prose(text)
    words = _WORD.findall(prose.lower())
    if len(words) < MIN_WORDS:
        return None
    sentences = max(1, measure(prose)["sentences"])
    return 0.39 * len(words) / sentences + 11.8 * sum(map(_syllables, words)) / len(words) - 15.59


def casual_per_100_words(text: str) -> float | None:
    """Contractions, casual words (``CASUAL_WORDS``) and exclamations per 100 words.

    ``'s`` counts after pronouns and question words only, where it cannot be a possessive. ``!!!`` is one exclamation.

    Returns:
        None when the text has fewer than 5 words.
    """
    prose = _prose(text)
    words = count_words(prose)
    if words < MIN_WORDS:
        return None
    marks = sum(map(_is_casual, _WORD.findall(prose.lower())))
    marks += len(_CLIPPED.findall(prose)) + len(_EXCLAMATION.findall(prose))
    return 100 * marks / words


@dataclass(frozen=True, slots=True)
class Yardstick:
    """How one property of a text is measured."""

    name: str
    unit: str
    function: Callable[[str], float | None]
    languages: frozenset[str] | None
    """ISO 639-1 codes that it can read; None: any."""


YARDSTICKS: Mapping[str, Yardstick] = {
    each.name: each
    for each in (
        Yardstick("words", "words", count_words, None),
        Yardstick("cefr", "CEFR level, 1 (A1) to 6 (C2)", cefr_level, frozenset({"en"})),
        Yardstick("fkgl", "Flesch-Kincaid grade", flesch_kincaid_grade, frozenset({"en"})),
        Yardstick(
            "casual", "contractions, casual words and exclamations per 100 words", casual_per_100_words,
            frozenset({"en"}),
        ),
    )
}  # fmt: skip

MEASURED_BY: Mapping[str, str] = {"depth": "words", "technicality": "cefr", "formality": "casual"}
"""Which yardstick tells where a slider is, on one answer. Creativity's, variety, takes several answers to one prompt,
so one answer's receipt has none."""


def warm_up() -> None:
    """Load the word lists, about a quarter of a second, so that the first answer does not pay for it."""
    cefr_level("one two three four five")
    flesch_kincaid_grade("one two three four five")


def _prose(text: str) -> str:
    """The beginning of a text, without code."""
    text = text[:MAX_STYLE_CHARS]
    if "`" not in text and "~~~" not in text:
        return text
    return _INLINE.sub(" ", _FENCED.sub("\n", text))


@cache
def _levels() -> Any:
    from cefrpy import CEFRAnalyzer  # type: ignore[import-untyped]

    return CEFRAnalyzer()


@cache
def _hyphenation() -> Any:
    from pyphen import Pyphen  # type: ignore[import-untyped]

    return Pyphen(lang="en_US")


@lru_cache(KNOWN_WORDS)
def _word_level(word: str) -> float | None:
    try:
        level = _levels().get_average_word_level_float(word) if len(word) <= MAX_WORD_CHARS else None
    except IndexError:
        # cefrpy 1.0.3 reads past its table for words as long as its longest that would sort after its last one.
        return None
    return None if level is None else float(level)


@lru_cache(KNOWN_WORDS)
def _is_casual(word: str) -> bool:
    return word in CASUAL_WORDS or _CONTRACTION.fullmatch(word) is not None


@lru_cache(KNOWN_WORDS)
def _syllables(word: str) -> int:
    hyphenation = _hyphenation()
    count = 1 + len(hyphenation.positions(word[:MAX_WORD_CHARS]))
    hyphenation.hd.cache.clear()  # pyphen's own cache has no bound
    return count
