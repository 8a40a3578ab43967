"""Finds runs of words that stand verbatim in the system prompt.

Works on 6-word shingles, folded for case, spaces and punctuation: a run is a leak from seven words on, that
is from two shingles in a row. Shingles that the user's own prompt holds do not count. Characters of scripts
without spaces count half a word, so such a run needs fourteen of them.
"""

from bisect import bisect_left
from functools import lru_cache
from typing import NamedTuple

from deployments.validator.thresholds import DEFAULTS, Thresholds
from deployments.validator.watch import Sight
from deployments.validator.words import fold, is_unspaced, iterate_words
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["LOOK_BACK", "NAME", "RUN_WORDS", "SEVERITY", "check", "watch"]

NAME = "prompt_leak"
SEVERITY: Severity = "hard"
SHINGLE_WORDS = 6
RUN_WORDS = 7
"""Recall 1.0 with no false alarm on the first evaluation; runs of six are common phrases."""
_RUN_WEIGHT = 2 * RUN_WORDS
LOOK_BACK = 512
"""Seven words with what stands between them: an estimate for planning, the guard holds the words themselves."""


class _Index(NamedTuple):
    grams: frozenset[tuple[str, ...]]
    """Every run of one to SHINGLE_WORDS words inside a shingle of the system prompt."""
    words: tuple[str, ...]
    """The single words of it, sorted, to tell whether a word in progress may still become one of them."""


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds every leaked run in a whole text.

    Returns:
        Hard findings in order of their start, one a run; empty when the system prompt has under RUN_WORDS words.
    """
    return watch(text, context, 0, True).findings


def watch(text: str, context: CheckContext, start: int, is_final: bool) -> Sight:
    """As the contract ``Watch`` says; holds the words that may be the beginning of a leaked run."""
    index = _build_index(context.system, context.prompt)
    if not index.grams:
        return Sight((), len(text))
    findings: list[Finding] = []
    starts: list[int] = []  # of every word so far
    ends: list[int] = []
    forms: list[str] = []
    weights = [0]  # running sum
    run = 0  # words of the run that ends with the last word
    open_words = 0  # words at the end of the text that may become part of a longer run
    for word in iterate_words(text, start):
        starts.append(word.start)
        unspaced = is_unspaced(word.form)
        if word.end == len(text) and not is_final and not unspaced:
            # Still in progress: held while it may become a word of the prompt, judged when it is whole.
            open_words = run + 1 if _begins_a_word(word.form, index) else 0
            break
        # A word that began before `start` is another word than the part seen here.
        is_cut = 0 < start == word.start and _is_inside_word(text, start)
        ends.append(word.end)
        forms.append("" if is_cut else word.form)
        weights.append(weights[-1] + (1 if unspaced else 2))
        before, run = run, _extend_run(forms, run, index)
        open_words = run
        if run <= before:
            _note_run(findings, starts, ends, weights, len(forms) - 1, before)
    _note_run(findings, starts, ends, weights, len(forms), run)
    is_open = open_words > 0 and not is_final
    return Sight(tuple(findings), starts[-open_words] if is_open else len(text))


def _is_inside_word(text: str, at: int) -> bool:
    before, after = text[at - 1], text[at]
    return before.isalnum() and after.isalnum() and not is_unspaced(before) and not is_unspaced(after)


def _extend_run(forms: list[str], before: int, index: _Index) -> int:
    """Length of the longest run of the prompt's words that ends with the last of ``forms``, given the last one.

    A part of a known run is known too, so the run can only grow by one word or fall to a shorter suffix.
    """
    if (forms[-1],) not in index.grams:
        return 0
    for size in range(min(before + 1, SHINGLE_WORDS), 1, -1):
        if tuple(forms[-size:]) in index.grams:
            return before + 1 if size == SHINGLE_WORDS else size
    return 1


def _note_run(
    findings: list[Finding], starts: list[int], ends: list[int], weights: list[int], end: int, run: int
) -> None:
    """Adds the run of ``run`` words that ends before word number ``end``, if it is long enough to be a leak."""
    if weights[end] - weights[end - run] >= _RUN_WEIGHT:
        span = (starts[end - run], ends[end - 1])
        findings.append(Finding(NAME, SEVERITY, f"prompt leak: {run} words in a row of the system prompt", span))


def _begins_a_word(part: str, index: _Index) -> bool:
    at = bisect_left(index.words, part)
    return at < len(index.words) and index.words[at].startswith(part)


@lru_cache(maxsize=64)
def _build_index(system: str, prompt: str) -> _Index:
    own = _cut_shingles(fold(prompt))
    shingles = _cut_shingles(fold(system)) - own
    grams = frozenset(
        shingle[begin:end]
        for shingle in shingles
        for begin in range(SHINGLE_WORDS)
        for end in range(begin + 1, SHINGLE_WORDS + 1)
    )
    return _Index(grams, tuple(sorted(gram[0] for gram in grams if len(gram) == 1)))


def _cut_shingles(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)}
