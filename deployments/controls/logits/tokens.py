"""What each token of a vocabulary means to the levers, computed once from the tokens' texts. Pure.

A token is judged by its own text alone: whether it ends a sentence, begins a common or a rare word, sounds casual.
What only shows in its neighbours (``3.`` in a list, ``'s`` after *it*) is left to ``text_state``, by the classes here.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Classes of a token, by what it does to the end of a sentence.
OTHER, MARK, DOT, SPACE, LINE, LABEL, FENCE, COLON, PRONOUN = range(9)
"""MARK ends a sentence whatever stood before it. DOT does unless a LABEL did (``3.``, ``e.g.``, ``Dr.``). SPACE and
LINE (white space with a line break, closing quotes and marks) change nothing about it. FENCE opens or closes code.
After a PRONOUN, ``'s`` is a contraction and not a possessive."""

_CLOSING = "\"'”’»)]}*_` \t\r"
# fmt: off
_LABELS = frozenset({
    "dr", "mr", "mrs", "ms", "st", "prof", "vs", "etc", "fig", "no", "approx", "inc", "ltd", "jr", "sr", "eg",
    "ie", "cf",
})  # abbreviations that one token holds; others end a sentence too early, which the shaper survives
_PRONOUNS = frozenset({
    "it", "that", "there", "here", "what", "who", "where", "when", "how", "why", "he", "she", "let", "this",
    "everything",
})
_STEMS = frozenset({
    "don", "doesn", "didn", "isn", "aren", "wasn", "weren", "wouldn", "couldn", "shouldn", "haven", "hasn", "hadn",
    "ain", "mustn", "needn",
})  # what byte-pair encodings leave before 't; "won" and "can" are words of their own
_CONNECTIVES = frozenset({
    "For", "Another", "However", "In", "Also", "Additionally", "Furthermore", "Moreover", "When", "If", "This", "These",
    "Because", "While", "One", "Some", "Finally",
})
_FOOTERS = frozenset({"#", "@", "http", "https", "www", "://", "[", "![", "Tweet", "Copyright", "©"})
# fmt: on
_CONTRACTED = re.compile(r"['’](?:t|re|ve|ll|d|m)", re.IGNORECASE)
MIN_RARE_LETTERS = 4
"""Shorter words are mostly function words, which no audience does without (control trial of the design)."""
ZIPF_MIDDLE, ZIPF_REACH = 4.5, 2.0
"""Zipf 4.5 is an everyday word such as *garden*; further than 2 from it, all words count as equally rare or common."""


@dataclass(frozen=True, slots=True)
class TokenTables:
    """One entry a token, by id; ``V`` is the size of the vocabulary (of the model's head, which may be padded)."""

    classes_V: npt.NDArray[np.uint8]
    rarity_V: npt.NDArray[np.float32]
    """Zipf units below ``ZIPF_MIDDLE``, clipped; 0 for what begins no word of four letters or more."""
    stops_V: npt.NDArray[np.float32]
    """1 for full stops. Exclamations and questions end sentences too, but say more than that."""
    casual_V: npt.NDArray[np.float32]
    """1 for contractions, casual words and exclamation marks."""
    possessive_V: npt.NDArray[np.float32]
    """1 for ``'s``: casual only after a pronoun."""
    connective_V: npt.NDArray[np.float32]
    """1 for words that open a further sentence on the same matter."""
    footer_V: npt.NDArray[np.float32]
    """1 for what pages end with after their text: hashtags, handles, links."""
    apostrophe_V: npt.NDArray[np.float32]
    """1 for a bare curly apostrophe: inside a word it begins a contraction, and the next token alone looks innocent."""


def build_tables(
    texts: Sequence[str], zipf: Callable[[str], float], casual_words: Collection[str], size: int
) -> TokenTables:
    """Judge every token.

    Args:
        texts: Each token's text with its leading space, by id; empty for control tokens.
        zipf: Zipf frequency of a lower-case word, 0 for an unknown one (van Heuven et al. 2014; wordfreq).
        casual_words: Lower-case words that a casual tone uses.
        size: Columns of the logits; ids above the texts are left alone.
    """
    casual = frozenset(word.casefold() for word in casual_words)
    tables = TokenTables(np.zeros(size, np.uint8), *(np.zeros(size, np.float32) for _ in range(7)))
    for token, text in enumerate(texts[:size]):
        word = text.strip()
        tables.classes_V[token] = kind = classify(text)
        tables.stops_V[token] = kind in (MARK, DOT) and "!" not in word and "?" not in word
        tables.casual_V[token] = (
            ("!" in word and not re.search(r"[\w=\[(<#]", word))
            or _CONTRACTED.fullmatch(word) is not None
            # Without a space it must open a line: "ain" also ends "remain", and "don" begins "donor".
            or (word.casefold() in _STEMS | casual and (text[:1] == " " or word[:1].isupper()))
        )
        tables.possessive_V[token] = word.casefold() in ("'s", "’s")
        tables.connective_V[token] = word in _CONNECTIVES
        tables.footer_V[token] = word in _FOOTERS
        tables.apostrophe_V[token] = text == "’"
        if text.startswith(" ") and word.isalpha() and len(word) >= MIN_RARE_LETTERS:
            tables.rarity_V[token] = np.clip(ZIPF_MIDDLE - zipf(word.casefold()), -ZIPF_REACH, ZIPF_REACH)
    return tables


def classify(text: str) -> int:
    """The class of one token's text."""
    if "```" in text:
        return FENCE
    bare = text.strip().strip(_CLOSING).rstrip("\n")
    bare = bare.rstrip(_CLOSING + "\n")
    if not bare:
        return LINE if "\n" in text else SPACE
    if bare[-1] in "!?…。！？":
        # "!=" and "#!" never come here; "?" inside a link does, and costs nothing
        return MARK if not re.search(r"\w", bare) or bare[-1] in "。！？" else OTHER
    if bare[-1] == ".":
        if bare.strip(".") == "":
            return DOT
        return MARK if bare[-2].isalpha() and len(bare.strip(" .")) > 1 else OTHER
    if bare[-1] == ":":
        return COLON
    word = bare.casefold()
    if word.isdigit() or (len(word) == 1 and word.isalpha() and word not in ("i", "a")) or word in _LABELS:
        return LABEL
    return PRONOUN if word in _PRONOUNS else OTHER
