"""Seeded English sentences for the simulated engine: they say little, but say it in many ways, so that checks for
language, form and repetition judge them as they would judge a real answer."""

import random
from collections.abc import Sequence
from typing import Final

MARKER: Final = "This is a simulated answer."
"""The first sentence of every text: no one shall take it for a model's."""


def _split(text: str, separator: str | None = None) -> tuple[str, ...]:
    return tuple(" ".join(part.split()) for part in text.split(separator))


_NOUNS = _split(
    """
    plan idea method habit team river market garden teacher engine story design city measure signal budget
    village recipe schedule library bridge sensor harbour workshop orchestra museum forest survey contract
    journey lesson railway kitchen theatre archive hospital network festival experiment committee landscape
    calendar newspaper laboratory warehouse neighbour customer gardener traveller engineer
    """
)
_ADJECTIVES = _split(
    """
    simple careful early modern patient handy quiet broad steady curious flexible practical gentle reliable
    local candid narrow clever ordinary shared small lasting hidden bright uneven open thorough modest familiar
    distant formal lively common fragile generous hurried detailed balanced unusual cheerful
    """
)
_VERBS = _split(
    """
    improves supports changes explains replaces protects shapes follows reveals limits connects prepares
    measures guides repeats questions balances extends simplifies delays strengthens describes restores
    influences completes organises challenges reflects anticipates complements
    """
)
_ADVERBS = _split(
    """
    often slowly clearly rarely usually quickly quietly directly gradually openly mostly carefully partly
    naturally regularly reliably seldom gently steadily eventually
    """
)
_TIMES = _split(
    """
    in the morning; after a long winter; during the first week; at the end of the day; over several years;
    before the meeting; once the work begins; within a single season; between two visits; from the very start;
    by next spring; in most cases; after some practice; on a busy afternoon; when time is short;
    while others rest
    """,
    ";",
)
_TEMPLATES = (
    "The {a} {n} {r} {v} the {n2}, and the {n3} gains from it {t}.",
    "{T}, a {a} {n} {v} what the {n2} has left open.",
    "Many people find that a {n} {v} the {a} {n2} more than they expect.",
    "Because the {n} is {a}, it {r} {v} each {n2} in turn.",
    "A {a} {n} and a {a2} {n2} {r} belong together, as every {n3} knows.",
    "What matters is the {n}: it {v} the {n2} and keeps the {n3} {a}.",
    "Some prefer a {a} {n}, yet the {a2} {n2} {v} the {n3} just as well.",
    "{T}, the {n} looks {a}, though its {n2} {r} {v} the whole {n3}.",
    "If the {n} {v} the {n2}, a {a} {n3} is usually close by.",
    "The {n} seems {a} at first; {t} it {r} {v} the {n2}.",
    "Few {a} things last as long as a {n} that {v} its {n2}.",
    "Start with the {a} {n}, then see how the {n2} {v} the {n3}.",
    "Where one {n} {v} another, the {a} {n2} {r} comes first.",
    "There is a {a} reason for this: the {n} {v} every {n2} {t}.",
    "Compare the {a} {n} with a {a2} {n2}, and the {n3} becomes easier to see.",
    "Neither the {n} nor the {n2} {r} {v} a {a} {n3} without help.",
)


class Prose:
    """An endless, reproducible supply of sentences. Mutates only ``rng``, which it aliases."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._is_marked = False
        self._last_template = ""

    def sentence(self) -> str:
        """The next sentence: ``MARKER`` first, then 8 to 20 words from a template that was not just used."""
        if not self._is_marked:
            self._is_marked = True
            return MARKER
        template = self._rng.choice([template for template in _TEMPLATES if template != self._last_template])
        self._last_template = template
        nouns = self._rng.sample(_NOUNS, 3)
        adjectives = self._rng.sample(_ADJECTIVES, 2)
        time = self._rng.choice(_TIMES)
        return _with_articles(
            template.format(
                n=nouns[0],
                n2=nouns[1],
                n3=nouns[2],
                a=adjectives[0],
                a2=adjectives[1],
                v=self._rng.choice(_VERBS),
                r=self._rng.choice(_ADVERBS),
                t=time,
                T=time[0].upper() + time[1:],
            )
        )

    @staticmethod
    def all_words() -> Sequence[str]:
        """Every noun of the vocabulary; the caller must not change it."""
        return _NOUNS

    def words(self, count: int) -> str:
        """``count`` lower-case words in no order that means anything, with single spaces between."""
        return " ".join(self._rng.choice((_NOUNS, _ADJECTIVES)[at % 2 == 0]) for at in range(count))


def _with_articles(sentence: str) -> str:
    words = sentence.split(" ")
    return " ".join(
        f"{word}n" if word in ("a", "A") and following[0] in "aeiou" else word
        for word, following in zip(words, [*words[1:], "-"], strict=True)
    )
