"""Cuts an answer into sentences, lines and the like, each with its language.

Code, quotes, words in italics, quoted lines and rows of tables are left out: they may be in any language.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from types import MappingProxyType
from typing import NamedTuple

from deployments.validator.languages.detector import (
    MAX_PIECE,
    has_common,
    has_english,
    is_plain_english,
    measure,
    rank,
)
from deployments.validator.thresholds import Thresholds
from deployments.validator.words import fold

__all__ = ["CHANCE", "QUOTED", "Piece", "cut_pieces", "judge_pieces", "judge_quotes", "leave_out"]

CHANCE = 0.1
"""Languages of at least this score are possible ones of a prompt or piece."""
_MIN_WORDS = 4
"""A few names of places are not a language."""
_MAX_PIECES = 200
"""A long answer is judged by its first pieces."""
QUOTED = re.compile(
    r"\"[^\"\n]{1,500}\"|“[^”\n]{1,500}”|«[^»\n]{1,500}»|„[^“”\n]{1,500}[“”]|‘[^’\n]{1,500}’|'(?<!\w')[^'\n]{1,500}'(?!\w)"
    r"|「[^」\n]{1,500}」|『[^』\n]{1,500}』|《[^》\n]{1,500}》"
)
# Every branch begins with a character of its own: only so does the search skip quickly to the next candidate.
_NOT_LANGUAGE = re.compile(
    QUOTED.pattern + r"|`[^`\n]{1,500}`|https?://\S+"
    r"|\*(?<![\w*]\*)(?![\s*])[^*\n]{1,500}\*(?![\w*])|_(?<![\w_]_)(?![\s_])[^_\n]{1,500}_(?![\w_])"
)
# Indented code, quoted lines and rows of tables.
_OTHER_LINE = re.compile(r"\t| {4}| {0,3}[>|]")
# A stop inside a word or number ends nothing; between Latin and another script no space is needed.
_PIECE_END = re.compile(r"[.!?…؟。！？।\n](?:(?<=[。！？।\n])|(?=[\s.!?…؟*_)\]\u0250-\U0010ffff]|[\"»](?:\s|\Z))|\Z)")
# What follows a quote to its sentence's end ("...", she said.).
_REPORT = re.compile(r"[^.!?…؟。！？।\n\"“«„‘「『]{4,80}[.!?…؟。！？।]")
_REPORT_SCORE = 0.25
"""A few words are in the language of the quote before them from this score on."""
_MIN_REPORT = 2
"""Words of such a report that are no names: "laughed Pierre" is taken for any language."""
_WORD = re.compile(r"[^\W\d_]+")
_MAX_QUOTES = 20
"""Quotes that are looked into."""
_MIN_QUOTE = 12
"""Characters: a shorter one has no language."""
_END_MARKS = frozenset(".!?…؟")
_NOT_LETTER = re.compile(r"[!-@\[-`{-~]")
_CODE_MARK = re.compile(r"[{}=<>;|\\\[\]()_/]")
_QUOTED_ONLY = frozenset(("la", "sa", "grc", "eo", "io", "ie", "vo", "jbo", "pi"))
"""Old and made languages: whoever writes a sentence of them cites it."""
_ENGLISH_SCORE = 0.25
"""English is believed from this score on where it has a word that is common in no other language."""
_FAINT = 0.3
"""Of the likeliest language's score: English scores so much in sentences of others, one word of which tells them."""
_ENGLISH: Mapping[str, float] = MappingProxyType({"en": 1.0})


class Piece(NamedTuple):
    """A sentence, a line, or several short ones together."""

    start: int
    """Where it begins, or the first of several short ones."""
    text: str
    is_sentence: bool
    """It ends with an end mark."""
    language: str
    """As ``detect`` names it; empty where it is not sure."""
    chances: Mapping[str, float]
    """The detector's score of this language and, if it has any, of others."""

    @property
    def size(self) -> int:
        """In characters."""
        return len(self.text)

    def is_foreign(self, main: str) -> bool:
        """Whether it surely is in another language than ``main``."""
        if self.language in ("", main):
            return False
        chance = self.chances.get(main, 0.0)
        is_faint = main == "en" and chance < _FAINT * self.chances[self.language]
        return chance < CHANCE or (is_faint and self.is_sentence and has_common(self.text, self.language))


def leave_out(text: str) -> str:
    """``text`` with spaces in place of what is no language of its own; every place stays the same."""
    return _NOT_LANGUAGE.sub(_blank, text)


def judge_pieces(prose: str, thresholds: Thresholds) -> list[Piece]:
    """The first pieces that are words, each with its language."""
    pieces = []
    for start, piece, is_sentence in cut_pieces(prose, thresholds.language_min_characters):
        if is_plain_english(piece):
            pieces.append(Piece(start, piece, is_sentence, "en", _ENGLISH))
        elif _is_language(piece):
            chances = rank(piece)
            top = max(chances, key=chances.__getitem__, default="")
            enough = _ENGLISH_SCORE if top == "en" and has_english(piece) else thresholds.foreign_score
            is_sure = top not in _QUOTED_ONLY and chances.get(top, 0.0) > enough
            pieces.append(Piece(start, piece, is_sentence, top if is_sure else "", chances))
        if len(pieces) == _MAX_PIECES:
            break
    return pieces


def judge_quotes(text: str, main: str, thresholds: Thresholds) -> Iterator[Piece]:
    """Sentences of another language than ``main`` that quote, or stand in a quote, and yet are no citations.

    The words that report the quote are in its language, too, or other sentences of the quote are in ``main``.
    """
    for quote in islice(QUOTED.finditer(text), _MAX_QUOTES):
        inner = quote[0][1:-1]
        if len(inner) < _MIN_QUOTE:
            continue
        if len(inner) > 2 * thresholds.language_min_characters and not _END_MARKS.isdisjoint(inner[:-1]):
            pieces = judge_pieces(inner, thresholds)
            if any(piece.language == main for piece in pieces):
                others = (piece for piece in pieces if piece.is_sentence and piece.is_foreign(main))
                yield from (piece._replace(start=quote.start() + 1 + piece.start) for piece in others)
                continue
        report = _REPORT.match(text, quote.end())
        if report is not None and not (main == "en" and is_plain_english(inner)):
            chances = rank(inner)
            top = max(chances, key=chances.__getitem__, default="")
            is_sure = top not in _QUOTED_ONLY and chances.get(top, 0.0) > thresholds.foreign_score
            piece = Piece(quote.start(), quote[0] + report[0], True, top if is_sure else "", chances)
            if piece.is_foreign(main) and _reports_in(report[0], top, main):
                yield piece


def _reports_in(report: str, language: str, main: str) -> bool:
    """Whether words after a quote are in its language; those of which only one is no name may be in any."""
    if sum(not word.istitle() for word in _WORD.findall(report)) < _MIN_REPORT:
        return False
    if is_plain_english(report):
        return language == "en"
    chances = rank(report)
    top = max(chances, key=chances.__getitem__, default="")
    return top == language and chances[top] >= _REPORT_SCORE and chances.get(main, 0.0) < CHANCE


def cut_pieces(prose: str, min_characters: int) -> Iterator[tuple[int, str, bool]]:
    """Start and text of each piece, and whether it is a sentence; short ones are put together until they are long."""
    short = ""
    at = short_start = 0
    is_other = _OTHER_LINE.match(prose) is not None
    for mark in chain(_PIECE_END.finditer(prose), (None,)):
        end = mark.end() if mark else len(prose)
        ends_line = mark is not None and mark[0] == "\n"
        piece = "" if is_other else prose[at:end].strip()
        if measure(piece) >= min_characters:
            yield prose.find(piece, at), piece, mark is not None and not ends_line
        elif piece:
            short_start = short_start if short else at
            short = f"{short} {piece}".lstrip()
            if measure(short) >= min_characters:
                yield short_start, short, False
                short = ""
        at = end
        if ends_line:
            is_other = _OTHER_LINE.match(prose, at) is not None


def _blank(match: re.Match[str]) -> str:
    """Spaces in place of a match, and the end mark with which a quote ends its sentence, too."""
    # A line that begins with spaces would be taken for indented code.
    blank = "\v" + " " * (len(match[0]) - 1)
    return blank[:-1] + "." if match[0][-2:-1] in _END_MARKS else blank


def _is_language(piece: str) -> bool:
    """Whether a piece is words and not code, a formula or a table line."""
    shown = piece[:MAX_PIECE]
    others, marks = len(_NOT_LETTER.findall(shown)), len(_CODE_MARK.findall(shown))
    return others <= 0.25 * len(shown) and marks <= 0.05 * len(shown) and len(fold(shown)) >= _MIN_WORDS
