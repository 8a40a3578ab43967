"""Finds passages of the system prompt in which some words were changed, which ``prompt_leak`` does not see.

The answer and the system prompt are walked side by side, from two words in a row that both have: a word in common
counts one, a word that was changed, added or left out costs one, and a walk worth seven is a leak, as seven words in
a row are. Words that the user's own prompt has in a row of three count nothing, and characters of scripts without
spaces count half. A walk without a change is prompt_leak's, so that either check can be switched off by itself.

A walk is decided by the words from its beginning on. A similarity ratio (rapidfuzz, difflib) is not: it needs whole
sentences on both sides, so a stream would be held by the sentence, and its verdict would hang on where that begins.

Evidence, on held-out system prompts: of sentences of 8 to 10 / 11 to 14 / 15 and more words with a fifth of them
changed the two checks find 22% / 93% / 100%, prompt_leak alone 12% / 38% / 68%. None of 12 rightful answers of the same
assistants and of 1460 on other subjects is found; on the development half those were worth six and four at most. Facts
are no exception: an assistant that gives its opening hours almost in the prompt's words is found, as with prompt_leak.
Clauses in another order and paraphrases are not.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from deployments.validator.checks.prompt_leak import RUN_WORDS
from deployments.validator.sized_cache import SizedCache
from deployments.validator.thresholds import DEFAULTS, Thresholds
from deployments.validator.watch import Sight
from deployments.validator.words import begins_one, fold, is_inside_word, is_unspaced, is_word_open, iterate_words
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["LOOK_BACK", "NAME", "SEVERITY", "check", "watch"]

NAME = "near_leak"
SEVERITY: Severity = "hard"
LOOK_BACK = 1024
"""The longest undecided walk, some 30 words with what stands between them: an estimate for planning, as prompt_leak's.

More is held of words that count nothing, or not for this check: those that the user's prompt has too, and, where
prompt_leak is off, a copy without a change.
"""

_WORD = 2
"""Worth of a word; a character of a script without spaces has half of it."""
_LEAK = _WORD * RUN_WORDS
_GAP = 3
"""Most words that may be changed in a row. A stream is held by so many after the last word in common."""
_MAX_DROP = 4 * _WORD
"""A walk ends where its worth has fallen by so much: what follows is another text."""
_MAX_SPENT = 10 * _WORD
"""A walk that is no leak yet ends after so many changes, else a hostile text could keep walks alive without end."""
_MAX_PLACES = 8
"""Places of the system prompt at which one pair of words is looked for; hostile ones have thousands."""
# Ways past a difference, shortest first: words to skip in the answer, in the prompt, and what they cost.
_STEPS = tuple(
    (skipped, missing, size)
    for size in range(1, _GAP + 1)
    for skipped, missing in ((size, size), *((a, b) for less in range(size) for a, b in ((size, less), (less, size))))
)


class _Index(NamedTuple):
    forms: tuple[str, ...]
    """The words of the system prompt."""
    units: tuple[int, ...]
    """What a word costs when it was changed."""
    worths: tuple[int, ...]
    """What it counts when it is in common: its units, or 0 where the user's own prompt has it too."""
    places: Mapping[tuple[str, str], tuple[int, ...]]
    """Where a walk may begin, by the two words there."""
    begun: frozenset[int]
    """All of these places."""
    firsts: tuple[str, ...]
    """The first words of them, sorted, to tell whether a word in progress may begin a walk."""
    seconds: Mapping[str, Sequence[str]]
    """By first word, the second ones, sorted: whether a word in progress may go on with one."""
    triples: frozenset[tuple[str, ...]]
    """Every three words in a row."""


_Own = frozenset[tuple[str, ...]]
_LINKING_WORDS = (
    "a an and are as at be been but by can do for from has have he her his how if in into is it its me my no not of on "
    "or our she so than that the their them then there these they this to was we were what when which who will with "
    "would you your"
)
_LINKING = frozenset(_LINKING_WORDS.split())
"""Two of these in a row stand in any text: no walk begins with them, or streams would be held at every other word."""
_MAX_INDEXED = 50_000
"""Words of all system prompts together that are kept indexed, at about 0.4 kB a word."""
_indexes: SizedCache[_Index] = SizedCache(_MAX_INDEXED, lambda index: len(index.forms))
_MAX_PROMPTS = 4 << 20
"""Characters of all users' prompts together for which is kept what they have in common with their system prompts: of
a thousand streams at once, each of which asks for it at every delta."""


class _Shared(NamedTuple):
    triples: _Own
    prompt_size: int
    """Characters of the user's prompt, which is kept as a part of the key."""


_shared: SizedCache[_Shared] = SizedCache(_MAX_PROMPTS, lambda shared: shared.prompt_size)


class _Walk(NamedTuple):
    worth: int
    """The most it ever was worth."""
    end: int
    """Number of the word after the one at which it was worth most."""
    changes: int
    """What changes had cost up to there."""
    is_open: bool
    """More words may change it."""


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds every passage of a whole text that almost is one of the system prompt.

    Returns:
        Hard findings in order of their start; empty when the system prompt has under RUN_WORDS words.
    """
    return watch(text, context, 0, True).findings


def watch(text: str, context: CheckContext, start: int, is_final: bool) -> Sight:
    """As the contract ``Watch`` says; holds the words of a walk until its worth or its end is known.

    Whatever ``start`` is, the findings are the same: a walk hangs on no word before it, and one that is left out
    below, as part of an earlier one, would have found nothing that the earlier one did not.
    """
    index = _find_index(context.system, context.prompt)
    if not index.places:
        return Sight((), len(text))
    forms = fold(text[start:])
    part = forms.pop() if forms and not is_final and is_word_open(text) else None
    if forms and start > 0 and is_inside_word(text, start):
        forms[0] = ""  # the rest of another word
    begins = [at for at, pair in enumerate(pairwise(forms)) if pair in index.places]
    # The last whole word and the one in progress may begin a walk with what comes.
    held = []
    if forms and not is_final and begins_one(part or "", index.seconds.get(forms[-1], ())):
        held.append(len(forms) - 1)
    if part is not None and begins_one(part, index.firsts):
        held.append(len(forms))
    if not begins and not held:
        return Sight((), len(text))
    leaks: list[tuple[int, int]] = []  # first word, and the one after the last
    fresh = 0
    open_at = None
    for at in begins:
        if at < fresh:
            continue
        walks = [
            _walk(forms, at, index, place, is_final)
            for place in index.places[forms[at], forms[at + 1]]
            # One step on in the same walk.
            if not (at > fresh and place - 1 in index.begun and forms[at - 1] == index.forms[place - 1])
        ]
        leak = next((walk for walk in walks if walk.worth >= _LEAK and walk.changes), None)
        if leak:
            leaks.append((at, leak.end))
        if any(walk.is_open for walk in walks):
            open_at = at
            break
        fresh = leak.end if leak else fresh
    else:
        open_at = next((number for number in held if number >= fresh), None)
    if not leaks and open_at is None:
        return Sight((), len(text))
    words = list(iterate_words(text, start))
    message = "prompt leak: the system prompt with some words changed"
    findings = (Finding(NAME, SEVERITY, message, (words[at].start, words[end - 1].end)) for at, end in leaks)
    return Sight(tuple(findings), len(text) if open_at is None else words[open_at].start)


def _walk(forms: list[str], at: int, index: _Index, place: int, is_final: bool) -> _Walk:
    """Walks from word number ``at`` of the answer and word number ``place`` of the system prompt on."""
    worth = best = spent = changes = 0
    end = at
    while at < len(forms) and place < len(index.forms):
        if forms[at] == index.forms[place]:
            worth += index.worths[place]
            at, place = at + 1, place + 1
            if worth > best:
                best, end, changes = worth, at, spent
            continue
        if not is_final and at + _GAP >= len(forms):
            return _Walk(best, end, changes, True)
        step = _find_step(forms[at : at + _GAP + 1], index.forms[place : place + _GAP + 1])
        if step is None:
            return _Walk(best, end, changes, False)
        skipped, missing, size = step
        cost = size * index.units[place]
        worth, spent = worth - cost, spent + cost
        if worth <= max(0, best - _MAX_DROP) or (best < _LEAK and spent > _MAX_SPENT):
            return _Walk(best, end, changes, False)
        at, place = at + skipped, place + missing
    return _Walk(best, end, changes, not is_final and place < len(index.forms))


def _find_step(ahead: list[str], wanted: tuple[str, ...]) -> tuple[int, int, int] | None:
    for step in _STEPS:
        skipped, missing, _ = step
        if skipped < len(ahead) and missing < len(wanted) and ahead[skipped] == wanted[missing]:
            return step
    return None


def _find_index(system: str, prompt: str) -> _Index:
    """The index of a system prompt; another one where the user's prompt has words of it in a row."""
    own = _find_own(system, prompt)
    return _indexes.get((system, own), lambda: _build_index(system, own))


def _find_own(system: str, prompt: str) -> _Own:
    """The runs of three words that both prompts have."""

    def find() -> _Shared:
        triples = _indexes.get((system, frozenset()), lambda: _build_index(system, frozenset())).triples
        return _Shared(triples.intersection(_cut_triples(fold(prompt))), len(prompt))

    return _shared.get((system, prompt), find).triples


def _build_index(system: str, own: _Own) -> _Index:
    forms = tuple(fold(system))
    units = tuple(_WORD // 2 if is_unspaced(form) else _WORD for form in forms)
    triples = _cut_triples(forms)
    worths = list(units)
    for place, triple in enumerate(triples):
        if triple in own:
            worths[place : place + 3] = (0, 0, 0)
    places: dict[tuple[str, str], tuple[int, ...]] = {}
    if sum(worths) >= _LEAK:
        for place in range(len(forms) - 1):
            known = places.get(pair := (forms[place], forms[place + 1]), ())
            is_telling = not _LINKING.issuperset(pair) and (worths[place] or worths[place + 1])
            if len(known) < _MAX_PLACES and is_telling:
                places[pair] = (*known, place)
    begun = frozenset(place for known in places.values() for place in known)
    seconds: dict[str, list[str]] = defaultdict(list)
    for first, second in sorted(places):
        seconds[first].append(second)
    return _Index(forms, units, tuple(worths), places, begun, tuple(seconds), seconds, frozenset(triples))


def _cut_triples(forms: tuple[str, ...] | list[str]) -> list[tuple[str, ...]]:
    return [tuple(forms[at : at + 3]) for at in range(len(forms) - 2)]
