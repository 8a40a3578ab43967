"""Which questions the model is asked for raw outputs, and with which settings. Pure.

Most requests are as the service would send them; the others come from a caller who samples in a way that brings
defects out: hot, without the penalty that keeps a small model from looping, at times with a tight limit.
"""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.validation.corpus import Corpus, Record
from deployments.controls.catalogue import Catalogue

__all__ = ["MAX_DEPTH", "RawAsk", "choose_questions", "draw_asks"]

MAX_DEPTH = 60
"""214 words: whoever labels an answer reads all of it."""
FORMATS: Mapping[str, float] = {"markdown": 0.55, "plain": 0.15, "bullets": 0.1, "steps": 0.1, "json": 0.1}
"""Shares of the formats; the catalogue may lack some of them."""
LANGUAGE_SHARE = 0.15
"""Of the requests that ask for another language than their question's."""
BY_HAND_SHARE = 0.4
"""Of the requests with a caller's own sampling."""
TEMPERATURES = (1.0, 1.5)
LIMIT_SHARE = 0.3
"""Of those, that set max_tokens, too."""
LIMITS = (20, 60)
"""Tokens: from one sentence to a paragraph."""
NO_MIN_P_SHARE = 0.3
"""Of those, that switch min_p off: with it even a hot 135M model writes words that exist."""


@dataclass(frozen=True, slots=True)
class RawAsk:
    """One request to the model."""

    id: str
    """``raw-001`` and so on, in the order of asking."""
    record: Record
    """Whose question it is; its answer is not used."""
    controls: Mapping[str, Any]
    """As a request's ``controls``."""
    sampling: Mapping[str, Any]
    """What the caller sets himself: fields of a chat request; always a ``seed``."""


def choose_questions(records: Sequence[Record], count: int, seed: int) -> list[Record]:
    """``count`` of the records in a mixed order. A new record changes at most one of them.

    Raises:
        ValueError: There are not so many.
    """
    if count > len(records):
        raise ValueError(f"{count} questions are wanted, and the corpus has {len(records)}")
    return sorted(records, key=lambda record: hashlib.sha256(f"{seed} {record.id}".encode()).digest())[:count]


def draw_asks(corpus: Corpus, catalogue: Catalogue, count: int, seed: int) -> list[RawAsk]:
    """The requests of one run; the same for the same corpus, catalogue, count and seed.

    Raises:
        ValueError: The corpus has fewer questions.
    """
    return [
        _draw(f"raw-{number:03}", record, catalogue, random.Random(f"raw {seed} {record.id}"))
        for number, record in enumerate(choose_questions(corpus.right, count, seed), start=1)
    ]


def _draw(name: str, record: Record, catalogue: Catalogue, rng: random.Random) -> RawAsk:
    length_slider = catalogue.length_slider
    lp = {slider: rng.randint(0, MAX_DEPTH if slider == length_slider else 100) for slider in catalogue.lp}
    known = [form for form in FORMATS if form in catalogue.ls["format"].values]
    ls = {"format": rng.choices(known, [FORMATS[form] for form in known])[0]}
    if rng.random() < LANGUAGE_SHARE:
        others = [value for value in catalogue.ls["language"].values if value not in ("auto", record.language)]
        ls["language"] = rng.choice(others)
    sampling = _draw_sampling(rng) if rng.random() < BY_HAND_SHARE else {}
    return RawAsk(name, record, {"lp": lp, "ls": ls}, {"seed": rng.randrange(2**31), **sampling})


def _draw_sampling(rng: random.Random) -> dict[str, Any]:
    sampling: dict[str, Any] = {"temperature": round(rng.uniform(*TEMPERATURES), 2), "repetition_penalty": 1.0}
    if rng.random() < NO_MIN_P_SHARE:
        sampling["min_p"] = 0.0
    if rng.random() < LIMIT_SHARE:
        sampling["max_tokens"] = rng.randint(*LIMITS)
    return sampling
