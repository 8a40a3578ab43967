"""What a judgement costs: answers of about 300 words, the checks of each tier together and each check alone.

The time is that of the one thread that judges, so that a busy machine does not count.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.controls.figures import quantile
from benchmarks.validation.cases import context_of
from benchmarks.validation.corpus import Record
from benchmarks.validation.evaluate import Relevance
from benchmarks.validation.texts import count_words, find_sentences
from deployments.validator.checks import CHECKS, load_models
from deployments.validator.policy import QualityPolicy, judge, parse_policy
from deployments.validator.relevance_model import should_measure
from graph.contracts import CheckContext

__all__ = ["TEXTS", "WORDS", "measure_latency"]

WORDS = 300
TEXTS = 200

_Job = tuple[str, CheckContext]


def measure_latency(
    records: Sequence[Record], systems: Sequence[Record], rng: random.Random, relevance: Relevance | None = None
) -> dict[str, Any]:
    """Times ``judge`` on texts that are strung together from right answers, ``TEXTS`` or as many as there are.

    Args:
        relevance: The model of the last tier, which then reads each question and each text; None: it is left out.

    Returns:
        JSON-ready milliseconds (p50, p95, p99) by tier, each with those below it, and for each check with the others
        disabled.
    """
    # No question twice: the model remembers them.
    jobs = [_make_job(first, records, systems, rng) for first in rng.sample(records, min(TEXTS, len(records)))]
    load_models()
    tiers = {
        "tier 0": [name for name, check in CHECKS.items() if check.tier == 0],
        "tiers 0 and 1": [name for name, check in CHECKS.items() if check.tier <= 1],
        "all tiers": list(CHECKS),
    }
    chosen = {**tiers, **{name: [name] for name in CHECKS}}
    if relevance is None:
        del chosen["all tiers"]
    else:
        # Its first pass takes longer than all others.
        relevance("What is rain?", "Rain is water.")
    return {
        "texts": len(jobs),
        "words": quantile([count_words(text) for text, _ in jobs], 0.5),
        "milliseconds": {
            what: _time(jobs, _only(names), relevance if len(names) > 1 and "relevance" in names else None)
            for what, names in chosen.items()
        },
    }


def _make_job(first: Record, records: Sequence[Record], systems: Sequence[Record], rng: random.Random) -> _Job:
    """One answer, filled up with others to ``WORDS`` words, under a system prompt."""
    text = first.text
    while count_words(text) < WORDS:
        text = f"{text}\n\n{rng.choice(records).text}"
    ends = [end for _, end in find_sentences(text) if count_words(text[:end]) >= WORDS]
    return text[: ends[0]] if ends else text, replace(context_of(first), system=rng.choice(systems).text)


def _only(names: Sequence[str]) -> QualityPolicy:
    return parse_policy({"checks": {other: {"enabled": False} for other in CHECKS if other not in names}}, "latency")


def _time(jobs: Sequence[_Job], policy: QualityPolicy, relevance: Relevance | None) -> dict[str, float]:
    milliseconds = []
    for text, context in jobs:
        began = time.thread_time()
        if relevance is not None and should_measure(text, context, policy.thresholds):
            context = replace(context, relevance=relevance(context.prompt, text))
        judge(text, context, policy)
        milliseconds.append((time.thread_time() - began) * 1e3)
    return {name: quantile(milliseconds, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
