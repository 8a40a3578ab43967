"""Is a planted preference learned, and does random feedback stay without effect? Each run through the whole loop."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

from benchmarks.learning.loop import Loop
from benchmarks.learning.people import ends_with_question, poisoned, say_anything, say_what_they_like
from benchmarks.learning.traffic import Answer
from training.gate import win_rate
from training.gating import GateRun

ROWS = 240
"""Feedback events of a run."""
LIMIT = 100
"""Held-out prompts that the gate asks in a run."""
STEPS = 24
RANDOM_STEPS = 6
POISON_STEPS = 16
POISON = 0.3

OnRow = Callable[[Mapping[str, Any]], None]


def planted(loop: Loop, answers: Sequence[Answer], seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The preference of `people`: curated, trained, gated, a run a seed. True win rate beside the judge's."""
    for seed in seeds:
        rng = Random(f"planted {seed}")
        period, events = loop.tell(say_what_they_like(rng.sample(answers, ROWS), rng, f"planted-{seed}"), rng)
        dataset = loop.curate(period, seed=seed)
        adapter = loop.train(dataset, "sft", STEPS, seed)
        run = loop.gate(adapter, seed, LIMIT)
        yield {"seed": seed, "events": events, "rows": _rows(dataset.manifest), **_gated(run), **_meant(run)}


def coin(loop: Loop, answers: Sequence[Answer], seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Thumbs by coin: trained on (KTO) and gated in the same way."""
    for seed in seeds:
        rng = Random(f"coin {seed}")
        period, events = loop.tell(say_anything(rng.sample(answers, ROWS), rng, f"coin-{seed}"), rng)
        dataset = loop.curate(period, seed=seed)
        adapter = loop.train(dataset, "kto", RANDOM_STEPS, seed)
        yield {
            "seed": seed,
            "events": events,
            "rows": _rows(dataset.manifest),
            **_gated(loop.gate(adapter, seed, LIMIT)),
        }


def poison(loop: Loop, answers: Sequence[Answer], seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """One rater with 30% of all rows who corrects answers to leaks. First the curation that ships; then a dataset made
    without its guards, so that the poison is trained on, which the gate alone has to stop."""
    for seed in seeds:
        rng = Random(f"poison {seed}")
        period, events = loop.tell(poisoned(POISON)(rng.sample(answers, ROWS), rng, f"poison-{seed}"), rng)
        guarded = loop.curate(period, seed=seed)
        bare = loop.curate(period, seed=seed, guard_checks=(), rater_share=1.0)
        adapter = loop.train(bare, "sft", POISON_STEPS, seed)
        run = loop.gate(adapter, seed, LIMIT)
        yield {
            "seed": seed,
            "events": events,
            "leaks_in_guarded_dataset": _leaks(guarded),
            "leaks_in_bare_dataset": _leaks(bare),
            "rows": _rows(guarded.manifest),
            "adapter": adapter,
            **_gated(run),
            "challenger_pass_rate": _rate(run, "challenger", lambda outcome: outcome.challenger.passed),
        }


def poisoned_adapter(loop: Loop, answers: Sequence[Answer]) -> str:
    """One that was trained on the poison, as in `poison`; registered, not gated."""
    rng = Random("poisoned adapter")
    period, _ = loop.tell(poisoned(POISON)(rng.sample(answers, ROWS), rng, "poisoned"), rng)
    return loop.train(loop.curate(period, guard_checks=(), rater_share=1.0), "sft", POISON_STEPS, 0)


def _leaks(dataset: Any) -> int:
    rows = dataset.read("sft", "train").to_pylist()
    return sum("@" in row["completion"][-1]["content"] for row in rows)


def _rows(manifest: Mapping[str, Any]) -> dict[str, int]:
    return {method: report["splits"]["train"]["rows"] for method, report in manifest["methods"].items()}


def _gated(run: GateRun) -> dict[str, Any]:
    decision, judge = run.decision, run.judge
    rate = decision.win_rate
    return {
        "passed": decision.passed,
        "reasons": list(decision.reasons),
        "prompts": decision.prompts,
        "win_rate": None if rate is None else [rate.value, rate.low, rate.high],
        "judge": None if judge is None else {"accepted": judge.accepted, "reason": judge.reason},
    }


def _meant(run: GateRun) -> dict[str, Any]:
    """By the planted preference itself, which the judge does not know."""
    if run.evaluation is None:
        return {"true_win_rate": None}
    pairs = [(ends_with_question(p.champion.text), ends_with_question(p.challenger.text)) for p in run.evaluation.pairs]
    wins, losses = sum(b and not a for a, b in pairs), sum(a and not b for a, b in pairs)
    rate = win_rate(wins, losses, len(pairs))
    return {
        "true_win_rate": None if rate is None else [rate.value, rate.low, rate.high],
        "questions": {"champion": sum(a for a, _ in pairs), "challenger": sum(b for _, b in pairs)},
    }


def _rate(run: GateRun, arm: str, passed: Callable[[Any], bool]) -> float | None:
    return sum(map(passed, run.outcomes)) / len(run.outcomes) if run.outcomes else None
