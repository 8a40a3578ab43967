"""Lets an answer go round in circles."""

import random
import re
from collections.abc import Callable, Mapping

from benchmarks.validation.cases import Case, Severity, context_of
from benchmarks.validation.corpus import Record
from benchmarks.validation.texts import Span, count_words, find_sentences

__all__ = ["LOOP_KINDS", "repeat"]

_WORD = re.compile(r"[^\W\d_]{2,}")
_MIN_PARAGRAPH = 20
"""Words."""


def repeat(record: Record, rng: random.Random, kind: str) -> Case | None:
    """The record with one of ``LOOP_KINDS`` in it; None where there is nothing to repeat."""
    severity, spoil = _KINDS[kind]
    spoilt = spoil(record.text, rng)
    if spoilt is None:
        return None
    text, span = spoilt
    return Case(record.id, "repetition", kind, severity, text, context_of(record), span, "repetition")


_Spoilt = tuple[str, Span] | None
"""The text, and where the repeats stand."""


def _loop_token(text: str, rng: random.Random) -> _Spoilt:
    words = _WORD.findall(text)
    if not words:
        return None
    glue = rng.choice([" ", " ", ", ", "\n"])
    return _append(text, glue.join([rng.choice(words)] * rng.randint(16, 60)))


def _loop_glued(text: str, rng: random.Random) -> _Spoilt:
    words = [word for word in _WORD.findall(text) if len(word) <= 6]
    return _append(text, rng.choice(words) * rng.randint(24, 60)) if words else None


def _loop_phrase(text: str, rng: random.Random) -> _Spoilt:
    words = text.split()
    size = rng.randint(3, 6)
    if len(words) < size:
        return None
    start = rng.randint(0, len(words) - size)
    looped = words[start : start + size] * rng.randint(5, 15)
    # As a limit would cut it: the last copy is seldom whole.
    return _append(text, " ".join(looped[: len(looped) - rng.randint(0, size - 1)]))


def _append(text: str, loop: str) -> _Spoilt:
    spoilt = f"{text.rstrip()} {loop}"
    return spoilt, (len(spoilt) - len(loop), len(spoilt))


def _repeat_sentence(text: str, rng: random.Random) -> _Spoilt:
    sentences = find_sentences(text, min_words=6)
    if not sentences:
        return None
    start, end = rng.choice(sentences)
    return _put_behind(text, end, f" {text[start:end]}" * rng.randint(2, 4))


def _repeat_paragraph(text: str, rng: random.Random) -> _Spoilt:
    paragraphs = [part for part in text.split("\n\n") if count_words(part) >= _MIN_PARAGRAPH and "```" not in part]
    if not paragraphs:
        return None
    chosen = rng.choice(paragraphs)
    at = rng.choice([text.index(chosen) + len(chosen), len(text)])
    return _put_behind(text, at, f"\n\n{chosen}")


def _repeat_nearly(text: str, rng: random.Random) -> _Spoilt:
    sentences = find_sentences(text, min_words=10)
    if not sentences:
        return None
    start, end = rng.choice(sentences)
    others = _WORD.findall(text)
    copies = [_change_words(text[start:end], others, rng) for _ in range(rng.randint(3, 5))]
    return _put_behind(text, end, " " + " ".join(copies))


def _change_words(sentence: str, others: list[str], rng: random.Random) -> str:
    words = sentence.split()
    # Not the last one, which carries the full stop.
    for at in rng.sample(range(len(words) - 1), rng.randint(1, 2)):
        words[at] = rng.choice(others)
    return " ".join(words)


def _put_behind(text: str, at: int, repeats: str) -> _Spoilt:
    return text[:at] + repeats + text[at:], (at, at + len(repeats))


_KINDS: Mapping[str, tuple[Severity, Callable[[str, random.Random], _Spoilt]]] = {
    "one word": ("severe", _loop_token),
    "one word without spaces": ("severe", _loop_glued),
    "phrase": ("severe", _loop_phrase),
    "sentence three to five times": ("medium", _repeat_sentence),
    "paragraph twice": ("medium", _repeat_paragraph),
    "near copies of a sentence": ("mild", _repeat_nearly),
}
LOOP_KINDS = tuple(_KINDS)
