"""Which language a prompt is in, and which others stand in it.

A short prompt seldom tells for sure: the detector and the commonest words both say what they take it for.
"""

import re
from itertools import islice

from deployments.validator.code_blocks import blank_code
from deployments.validator.languages.common_words import COMMON_WORDS
from deployments.validator.languages.detector import (
    MAX_PIECE,
    detect,
    is_plain_english,
    measure,
    rank,
    tell_ideographs,
)
from deployments.validator.languages.pieces import CHANCE, QUOTED, cut_pieces, leave_out
from deployments.validator.thresholds import Thresholds

__all__ = ["find_possible", "find_quoted", "shorten"]

_MAX_PROMPT = 2_000
"""Characters of a prompt that are read at its beginning and at its end: what it asks for stands there."""
_WORD_MARKS = ".,;:!?¿¡…\"'()“”«»"
_LATIN = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")
_NOT_LATIN = re.compile("[^\\W\\d_A-Za-z\u00aa-\u024f\u1e00-\u1eff]+")
# The detector guesses among those of one script when it sees a word or two.
_ONE_SCRIPT = ("ru uk bg be mk hr", "ar fa hi", "hi mr ne", "zh ja")
_PROMPT_SCORE = 0.3
"""The detector's language of a short prompt is believed from this score on, when the commonest words say the same."""
_TIED_SCORE = 0.6
"""The same, when the commonest words are shared by several languages."""
_MIN_COMMON = 3
"""So many of the commonest words of one language, and hardly any of another, tell it without the detector."""
_MIN_LETTERS = 2
"""Of a prompt, else it has no language."""
_MAX_QUOTED = 8
"""Sentences, and quotes, of a prompt that are looked at for other languages."""
_MIN_QUOTED = 15
"""Characters of such a sentence."""
_QUOTE_SCORE = 0.4
"""They are taken to be in a language from this score on."""


def find_possible(prompt: str, thresholds: Thresholds) -> tuple[str, ...]:
    """Languages in which a prompt may be, the likeliest first; none: it tells nothing."""
    shown = leave_out(blank_code(prompt[:_MAX_PROMPT])).strip()[:MAX_PIECE]
    if is_plain_english(shown):
        return ("en",)
    latin = len(_LATIN.findall(shown))
    others = sum(map(len, _NOT_LATIN.findall(shown)))
    if latin + others < _MIN_LETTERS:
        return ()
    ranked = sorted(rank(shown).items(), key=lambda pair: -pair[1])
    top, score = ranked[0] if ranked else ("", 0.0)
    if score >= thresholds.prompt_language_score and measure(shown) >= thresholds.prompt_language_min_characters:
        return (top,)
    possible = [language for language, chance in ranked if chance >= CHANCE]
    is_short = measure(shown) < thresholds.language_min_characters
    if others > latin:
        if top in ("zh", "ja") and (told := tell_ideographs(shown)):
            return (told,)
        scripts = [names.split() for names in _ONE_SCRIPT if is_short]
        mates = [name for names in scripts if set(possible) & set(names) for name in names]
        return tuple(dict.fromkeys([*possible, *mates]))
    words = {word.strip(_WORD_MARKS) for word in shown.lower().split()}
    counts = {language: len(words & common) for language, common in COMMON_WORDS.items()}
    most = max(counts.values())
    likely = [language for language, count in counts.items() if count == most > 0]
    if likely == [top] and score >= _PROMPT_SCORE:
        return (top,)
    # A question that begins with a common word ("Jak ...") is more than a foreign name in an English one.
    begins = top in likely and shown.lower().split()[0].strip(_WORD_MARKS) in COMMON_WORDS[top]
    is_tied = begins and score >= _TIED_SCORE and "en" not in possible
    if is_tied or (most >= _MIN_COMMON and sorted(counts.values())[-2] <= 1):
        return tuple(likely)
    # Words of no clear language may be a name in an English question, and a name or two belong to no language.
    others_of_script = COMMON_WORDS if is_short and not likely else ()
    return tuple(dict.fromkeys([*likely, *possible, "en", *others_of_script]))


def find_quoted(prompt: str) -> set[str]:
    """Languages of a prompt's sentences, what stands in its quotes, before its colon, and in another script."""
    prompt = shorten(prompt)
    sentences = (piece for _, piece, _ in cut_pieces(leave_out(blank_code(prompt)), _MIN_QUOTED))
    quotes = (match[0] for match in QUOTED.finditer(prompt))
    parts = [
        *islice(sentences, _MAX_QUOTED),
        *islice(quotes, _MAX_QUOTED),
        prompt.partition(":")[0],
        " ".join(_NOT_LATIN.findall(prompt)),
    ]
    detected = [("en", 1.0) if is_plain_english(part) else detect(part) for part in parts if part]
    return {language for language, score in detected if score >= _QUOTE_SCORE}


def shorten(prompt: str) -> str:
    return prompt if len(prompt) <= 2 * _MAX_PROMPT else f"{prompt[:_MAX_PROMPT]}\n{prompt[-_MAX_PROMPT:]}"
