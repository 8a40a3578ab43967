"""An answer with what the yardsticks say of it: the one kind of row that all figures of the sliders are made of."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wordfreq import zipf_frequency

from benchmarks.controls.asking import Answer
from benchmarks.controls.embeddings import Embedder
from benchmarks.controls.figures import Point, variety
from benchmarks.controls.plan import Ask
from deployments.controls.yardsticks import casual_per_100_words, cefr_level, count_words, flesch_kincaid_grade

YARDSTICKS: Mapping[str, str] = {
    "words": "depth",
    "variety": "creativity",
    "cefr": "technicality",
    "fkgl": "technicality",
    "casual": "formality",
}
"""Each yardstick and the slider that it belongs to."""

MEASURES: Mapping[str, tuple[str, int]] = {
    "depth": ("words", 1),
    "creativity": ("variety", 1),
    "technicality": ("cefr", 1),
    "formality": ("casual", -1),
}
"""Each slider's yardstick, and 1 where it rises with the level."""

CURVES: Mapping[str, tuple[str, ...]] = {
    "depth": ("words",),
    "creativity": ("variety", "distinct_2"),
    "technicality": ("cefr", "fkgl"),
    "formality": ("casual",),
}
"""The curves of each slider's figures."""

# n't and the clitics after any word; 's only after words that own nothing, so that "the dog's bone" is none.
_CONTRACTION = re.compile(
    r"\b\w+n['’]t\b|\b\w+['’](?:m|re|ve|ll|d)\b"
    r"|\b(?:it|he|she|that|there|here|what|who|where|when|how|why|let|this|everything|something)['’]s\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer of a sweep. ``yardsticks`` has no entry where a yardstick has nothing to say of the text."""

    knob: str
    level: int
    prompt: int
    kind: str
    question: str
    seed_index: int
    answer: Answer
    yardsticks: Mapping[str, float]

    @property
    def is_graceful(self) -> bool:
        """It ended by itself, at the end of a sentence."""
        return self.answer.finish_reason == "stop" and "truncation" not in self.answer.findings


def measure_text(text: str) -> dict[str, float]:
    """What the yardsticks say of one text; without those that say nothing."""
    values = {
        "words": count_words(text),
        "cefr": cefr_level(text),
        "fkgl": flesch_kincaid_grade(text),
        "casual": casual_per_100_words(text),
    }
    return {name: float(value) for name, value in values.items() if value is not None}


def make_samples(asks: Sequence[Ask], answers: Sequence[Answer | None]) -> list[Sample]:
    """A sample for each question that was answered."""
    return [
        Sample(
            ask.knob,
            ask.level,
            ask.prompt.index,
            ask.prompt.kind,
            ask.prompt.question,
            ask.seed_index,
            answer,
            measure_text(answer.text),
        )
        for ask, answer in zip(asks, answers, strict=True)
        if answer is not None
    ]


def points_by_prompt(samples: Sequence[Sample], yardstick: str) -> dict[int, list[Point]]:
    """(level, value) of every answer that the yardstick can read, by prompt."""
    groups: dict[int, list[Point]] = defaultdict(list)
    for sample in samples:
        if yardstick in sample.yardsticks:
            groups[sample.prompt].append((sample.level, sample.yardsticks[yardstick]))
    return dict(groups)


def cells(samples: Sequence[Sample]) -> dict[tuple[int, int], list[Sample]]:
    """Samples by (prompt, level), each in the order of its seeds."""
    found: dict[tuple[int, int], list[Sample]] = defaultdict(list)
    for sample in sorted(samples, key=lambda sample: sample.seed_index):
        found[sample.prompt, sample.level].append(sample)
    return dict(found)


def variety_by_prompt(samples: Sequence[Sample], embedder: Embedder) -> dict[int, list[Point]]:
    """(level, variety of the answers of all seeds) by prompt; cells of one answer have no variety and are left out."""
    groups: dict[int, list[Point]] = defaultdict(list)
    for (prompt, level), cell in cells(samples).items():
        if len(cell) > 1:
            groups[prompt].append((level, variety(embedder.embed([sample.answer.text for sample in cell]))))
    return dict(groups)


def count_unknown_words(text: str) -> tuple[int, int]:
    """Words that no list of wordfreq has, and all words, of the lower-case ones: names are no sign of nonsense."""
    words = re.findall(r"(?<![\w'’])[a-z]{2,}(?![\w'’])", text)
    return sum(zipf_frequency(word, "en") == 0 for word in words), len(words)


def count_contractions(text: str) -> int:
    """Contractions in a text, counted without the lever's own list."""
    return len(_CONTRACTION.findall(text))
