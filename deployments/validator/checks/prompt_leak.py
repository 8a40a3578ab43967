"""Finds runs of words that stand verbatim in the system prompt.

Works on 6-word shingles, folded for case, spaces and punctuation: a run is a leak from seven words on, that
is from two shingles in a row. Shingles that the user's own prompt holds do not count. Characters of scripts
without spaces count half a word, so such a run needs fourteen of them.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from deployments.validator.sized_cache import SizedCache
from deployments.validator.thresholds import DEFAULTS, Thresholds
from deployments.validator.watch import Sight
from deployments.validator.words import begins_one, fold, is_inside_word, is_unspaced, iterate_words
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["LOOK_BACK", "NAME", "RUN_WORDS", "SEVERITY", "check", "watch"]

NAME = "prompt_leak"
SEVERITY: Severity = "hard"
SHINGLE_WORDS = 6
RUN_WORDS = 7
"""Recall 1.0 with no false alarm on the first evaluation; runs of six are common phrases."""
_RUN_WEIGHT = 2 * RUN_WORDS
LOOK_BACK = 512
"""Seven words with what stands between them: an estimate for planning (see Check.look_back)."""


class _Index(NamedTuple):
    grams: frozenset[tuple[str, ...]]
    """Every run of one to SHINGLE_WORDS words inside a shingle of the system prompt."""
    words: tuple[str, ...]
    """The single words of it, sorted, to tell whether a word in progress may still become one of them."""
    vocabulary: frozenset[str]
    """The same, to look up."""
    followers: Mapping[str, Sequence[str]]
    """By word, those that stand behind it somewhere, sorted: whether a run may go on with a word in progress."""


_KNOWN_RUN = bytes([True]) * RUN_WORDS
_MAX_INDEXED = 50_000
"""Words of all system prompts together that are kept indexed, at about 0.6 kB a word."""
_indexes: SizedCache[_Index] = SizedCache(_MAX_INDEXED, lambda index: len(index.grams) // SHINGLE_WORDS)


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds every leaked run in a whole text.

    Returns:
        Hard findings in order of their start, one a run; empty when the system prompt has under RUN_WORDS words.
    """
    return watch(text, context, 0, True).findings


def watch(text: str, context: CheckContext, start: int, is_final: bool) -> Sight:
    """As the contract ``Watch`` says; holds the words that may be the beginning of a leaked run."""
    index = _indexes.get(context.system, lambda: _build_index(context.system))
    if not index.grams or (is_final and not _may_leak(text[start:], index)):
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
            goes_on = run > 0 and begins_one(word.form, index.followers.get(forms[-1], ()))
            open_words = run + 1 if goes_on else int(begins_one(word.form, index.words))
            break
        # A word that began before `start` is another word than the part seen here.
        is_cut = 0 < start == word.start and is_inside_word(text, start)
        ends.append(word.end)
        forms.append("" if is_cut else word.form)
        weights.append(weights[-1] + (1 if unspaced else 2))
        before, run = run, _extend_run(forms, run, index, context)
        open_words = run
        if run <= before:
            _note_run(findings, starts, ends, weights, len(forms) - 1, before)
    _note_run(findings, starts, ends, weights, len(forms), run)
    is_open = open_words > 0 and not is_final
    return Sight(tuple(findings), starts[-open_words] if is_open else len(text))


def _may_leak(text: str, index: _Index) -> bool:
    """Whether so many words in a row stand somewhere in the system prompt, which is seldom so and quickly told."""
    return _KNOWN_RUN in bytes(map(index.vocabulary.__contains__, fold(text)))


def _extend_run(forms: list[str], before: int, index: _Index, context: CheckContext) -> int:
    """Length of the longest run of the prompt's words that ends with the last of ``forms``, given the last one.

    A part of a known run is known too, so the run can only grow by one word or fall to a shorter suffix. It falls,
    too, at a shingle that the user wrote.
    """
    if (forms[-1],) not in index.grams:
        return 0
    for size in range(min(before + 1, SHINGLE_WORDS), 1, -1):
        gram = tuple(forms[-size:])
        if gram not in index.grams:
            continue
        if size < SHINGLE_WORDS:
            return size
        if gram not in _cut_own(context.prompt):
            return before + 1
    return 1


def _note_run(
    findings: list[Finding], starts: list[int], ends: list[int], weights: list[int], end: int, run: int
) -> None:
    """Adds the run of ``run`` words that ends before word number ``end``, if it is long enough to be a leak."""
    if weights[end] - weights[end - run] >= _RUN_WEIGHT:
        span = (starts[end - run], ends[end - 1])
        findings.append(Finding(NAME, SEVERITY, f"prompt leak: {run} words in a row of the system prompt", span))


def _build_index(system: str) -> _Index:
    grams = frozenset(
        shingle[begin:end]
        for shingle in _cut_shingles(fold(system))
        for begin in range(SHINGLE_WORDS)
        for end in range(begin + 1, SHINGLE_WORDS + 1)
    )
    words = sorted(gram[0] for gram in grams if len(gram) == 1)
    followers: dict[str, list[str]] = defaultdict(list)
    for first, second in sorted(gram for gram in grams if len(gram) == 2):
        followers[first].append(second)
    return _Index(grams, tuple(words), frozenset(words), followers)


@lru_cache(maxsize=8)
def _cut_own(prompt: str) -> set[tuple[str, ...]]:
    """The user's own shingles; asked for only where a text has one of the system prompt."""
    return _cut_shingles(fold(prompt))


def _cut_shingles(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)}
