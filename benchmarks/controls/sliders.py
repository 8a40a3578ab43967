"""The figures of each slider's sweep: samples in, a JSON-ready mapping out. Targets are in ``targets.py``."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.controls.embeddings import Embedder
from benchmarks.controls.figures import (
    Point,
    bootstrap,
    by_level,
    distinct_2,
    is_increasing,
    length_error,
    level_means,
    quantile,
    spearman,
    spread,
    wilson,
)
from benchmarks.controls.plan import FIXED, NO_CONTRACTIONS_FROM
from benchmarks.controls.samples import (
    Sample,
    cells,
    count_contractions,
    count_unknown_words,
    points_by_prompt,
    variety_by_prompt,
)

Figures = dict[str, Any]
QUANTILES = (0, 5, 10, 25, 50, 75, 90, 95, 100)
"""Percent; enough to draw a distribution from the record alone."""


def curve(groups: Mapping[int, Sequence[Point]], kinds: Mapping[int, str], seed: int, sign: int = 1) -> Figures:
    """How one yardstick follows the level.

    Args:
        groups: (level, value) by prompt.
        kinds: Each prompt's kind.
        sign: -1 where the yardstick must fall as the level rises: the correlations are turned, the means are not.
    """

    def rho(points: Sequence[Point]) -> float:
        return sign * spearman(points)

    points = [point for group in groups.values() for point in group]
    means = level_means(points)
    by_kind: dict[str, list[Point]] = defaultdict(list)
    for prompt, group in groups.items():
        by_kind[kinds[prompt]].extend(group)
    return {
        "values": len(points),
        "rho": bootstrap(list(groups.values()), rho, seed),
        "rho_of_means": rho(list(means.items())),
        "in_order": is_increasing([sign * mean for mean in means.values()]),
        "levels": {
            level: {
                "mean": means[level],
                "sd": spread(values),
                "values": len(values),
                "quantiles": {share: quantile(values, share / 100) for share in QUANTILES},
            }
            for level, values in by_level(points).items()
        },
        "by_kind": {
            kind: {"rho": rho(kind_points), "means": level_means(kind_points)}
            for kind, kind_points in sorted(by_kind.items())
        },
    }


def kinds_of(samples: Sequence[Sample]) -> dict[int, str]:
    """Each prompt's kind."""
    return {sample.prompt: sample.kind for sample in samples}


def common(samples: Sequence[Sample], embedder: Embedder, reference: int, usual: Sequence[Sample] = ()) -> Figures:
    """What is told of every sweep: how answers ended, what the validator found, and whether they keep to the question.

    Args:
        reference: The level that relevance is compared with: the slider's default.
        usual: Answers at that level, where the sweep has none.
    """
    cosines = embedder.relevance((sample.question, sample.answer.text) for sample in samples)
    relevance = level_means([(sample.level, cosine) for sample, cosine in zip(samples, cosines, strict=True)])
    findings: dict[int, Counter[str]] = defaultdict(Counter)
    endings: dict[int, Counter[str]] = defaultdict(Counter)
    words: dict[int, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        findings[sample.level].update(sample.answer.findings)
        endings[sample.level][sample.answer.finish_reason] += 1
        unknown, known = count_unknown_words(sample.answer.text)
        words[sample.level].update({"unknown": unknown, "all": known})
    base = relevance.get(reference)
    if usual:
        found = embedder.relevance((sample.question, sample.answer.text) for sample in usual)
        base = sum(found) / len(found)
    return {
        "answers": len(samples),
        "graceful": share_by_level(samples, lambda sample: sample.is_graceful),
        "second_tries": sum(sample.answer.attempts > 1 for sample in samples),
        "findings": {level: dict(sorted(found.items())) for level, found in sorted(findings.items())},
        "endings": {level: dict(sorted(found.items())) for level, found in sorted(endings.items())},
        "unknown_words": {level: count["unknown"] / max(count["all"], 1) for level, count in sorted(words.items())},
        "relevance": {
            "reference": reference,
            "usual": base,
            "means": relevance,
            "loss": {} if base is None else {level: base - mean for level, mean in relevance.items()},
        },
    }


def share_by_level(samples: Sequence[Sample], is_hit: Callable[[Sample], bool]) -> Figures:
    """Of how many samples something is true, in all and at each level."""
    hits = by_level([(sample.level, float(is_hit(sample))) for sample in samples])
    return {
        "all": {"hits": int(sum(map(sum, hits.values()))), "of": len(samples)}
        | wilson(int(sum(map(sum, hits.values()))), len(samples)),
        "levels": {level: {"hits": int(sum(values)), "of": len(values)} for level, values in hits.items()},
    }


def depth_figures(samples: Sequence[Sample], embedder: Embedder, seed: int) -> Figures:
    """Words by level, and how far they are from the target that the receipt names."""
    words = curve(points_by_prompt(samples, "words"), kinds_of(samples), seed)
    means = [level["mean"] for level in words["levels"].values()]
    errors = [
        (sample.level, length_error(sample.yardsticks["words"], sample.answer.target_words))
        for sample in samples
        if sample.answer.target_words
    ]
    total_words = sum(sample.yardsticks["words"] for sample in samples)
    return {
        **common(samples, embedder, 50),
        "words": words,
        "range": max(means) / min(means) if means and min(means) > 0 else 0.0,
        "targets": {sample.level: sample.answer.target_words for sample in sorted(samples, key=lambda s: s.level)},
        "length_error": {
            "median": quantile([error for _, error in errors], 0.5) if errors else None,
            "levels": {level: quantile(values, 0.5) for level, values in by_level(errors).items()},
        },
        "tokens_per_word": sum(s.answer.completion_tokens for s in samples) / total_words if total_words else None,
    }


def creativity_figures(
    samples: Sequence[Sample], embedder: Embedder, seed: int, usual: Sequence[Sample] = ()
) -> Figures:
    """Variety of the answers of all seeds to one prompt, by two yardsticks; relevance against the default level.

    Args:
        usual: Answers at the default level, for their relevance only.
    """
    pairs: dict[int, list[Point]] = defaultdict(list)
    for (prompt, level), cell in cells(samples).items():
        if len(cell) > 1:
            pairs[prompt].append((level, distinct_2([sample.answer.text for sample in cell])))
    at_0 = {prompt: cell for (prompt, level), cell in cells(samples).items() if level == 0}
    kinds = kinds_of(samples)
    return {
        **common(samples, embedder, FIXED["creativity"], usual),
        "variety": curve(variety_by_prompt(samples, embedder), kinds, seed),
        "distinct_2": curve(pairs, kinds, seed),
        "identical_at_0": {
            "prompts": len(at_0),
            "identical": sum(len({sample.answer.text for sample in cell}) == 1 for cell in at_0.values()),
            "differing": sorted(p for p, cell in at_0.items() if len({sample.answer.text for sample in cell}) > 1),
        },
    }


def technicality_figures(samples: Sequence[Sample], embedder: Embedder, seed: int) -> Figures:
    """CEFR level and Flesch-Kincaid grade by level."""
    kinds = kinds_of(samples)
    return {
        **common(samples, embedder, 50),
        "cefr": curve(points_by_prompt(samples, "cefr"), kinds, seed),
        "fkgl": curve(points_by_prompt(samples, "fkgl"), kinds, seed),
    }


def formality_figures(
    samples: Sequence[Sample], embedder: Embedder, seed: int, formal: Sequence[Sample] = ()
) -> Figures:
    """Casual marks by level, falling; contractions at each level and at the one from which none may be left.

    Args:
        formal: Answers at ``NO_CONTRACTIONS_FROM``; counted for contractions only.
    """
    contractions = by_level([(s.level, float(count_contractions(s.answer.text))) for s in (*samples, *formal)])
    return {
        **common(samples, embedder, 50),
        "casual": curve(points_by_prompt(samples, "casual"), kinds_of(samples), seed, sign=-1),
        "contractions": {
            level: {"found": int(sum(counts)), "answers_with": sum(map(bool, counts)), "answers": len(counts)}
            for level, counts in contractions.items()
        },
        "contractions_where_none_may_be": int(
            sum(sum(counts) for level, counts in contractions.items() if level >= NO_CONTRACTIONS_FROM)
        ),
    }
