"""Where sentences stand in an answer, and how to put something into it without breaking what is there."""

import random
import re

from deployments.validator.code_blocks import blank_code, find_open_fence

__all__ = ["Span", "count_words", "find_sentences", "insert_block", "insert_sentence"]

Span = tuple[int, int]
"""[start, end) in characters."""

_LINE = re.compile(r"[^\n]+")
# What stands before a line's first sentence: of a list, a heading or a quote.
_MARK = re.compile(r"\s*(?:[-*+•]\s+|\d{1,3}[.)]\s+|#{1,6}\s+|>\s*)?")
# Up to the first end mark; one that a lower-case word follows ("e.g. this") ends nothing.
_SENTENCE = re.compile(r"\S.*?(?:[.!?…؟]+[\"')”*_]*(?=\s+[^a-z\s]|\s*$)|[。！？।]+)")


def count_words(text: str) -> int:
    return len(text.split())


def find_sentences(text: str, min_words: int = 1, min_characters: int = 1) -> list[Span]:
    """The whole sentences of the prose; none of code and tables."""
    prose = blank_code(text)
    found = []
    for line in _LINE.finditer(prose):
        mark = _MARK.match(prose, line.start(), line.end())
        begin = mark.end() if mark else line.start()
        if prose[begin : begin + 1] == "|":
            continue
        found += [match.span() for match in _SENTENCE.finditer(prose, begin, line.end())]
    return [
        (start, end)
        for start, end in found
        if end - start >= min_characters and count_words(text[start:end]) >= min_words
    ]


def insert_sentence(text: str, sentence: str, rng: random.Random) -> tuple[str, int]:
    """``text`` with the sentence behind one of its own, and where it begins."""
    ends = [end for _, end in find_sentences(text)]
    if not ends:
        return insert_block(text, sentence, rng)
    at = rng.choice(ends)
    return f"{text[:at]} {sentence}{text[at:]}", at + 1


def insert_block(text: str, block: str, rng: random.Random) -> tuple[str, int]:
    """``text`` with a paragraph between two of its own or behind the last, and where it begins."""
    gaps = [match.start() for match in re.finditer(r"\n\n", text)]
    outside = [at for at in gaps if find_open_fence(text[:at]) is None]
    at = rng.choice([*outside, len(text)])
    return f"{text[:at]}\n\n{block}{text[at:]}", at + 2
