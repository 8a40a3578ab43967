"""What the validator must reach, as its issue states it, and whether it did. Reads the figures, computes none."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Target", "judge_figures"]

Figures = Mapping[str, Any]
RECALL: Mapping[str, tuple[str, float]] = {
    "truncation": ("cut answers found", 0.98),
    "repetition": ("loops and repeated passages found", 0.97),
    "language": ("wrong language found", 0.99),
    "json_schema": ("broken JSON found", 1.0),
    "pii": ("personal values found", 0.97),
    "secrets": ("credentials found", 0.98),
    "prompt_leak": ("words of the system prompt found", 0.97),
    "prompt_leak_edited": ("found with a fifth of the words changed", 0.85),
    "off_topic_random": ("answers on another subject found", 0.95),
    "off_topic_same_domain": ("answers to another question of the domain found", 0.70),
}
ALARMS: Mapping[str, tuple[str, float]] = {
    "clean": ("clean answers objected to", 0.02),
    "hard": ("hard answers objected to", 0.05),
}
MILLISECONDS: Mapping[str, float] = {"tier 0": 3.0, "tiers 0 and 1": 20.0, "all tiers": 60.0}
FIRST_MS, TOKEN_MS = 1.0, 30.0
REPAIRED = 0.70
HARMED = 0.01


@dataclass(frozen=True, slots=True)
class Target:
    """One promise: ``met`` is None where nothing was measured."""

    what: str
    must: str
    reached: str
    met: bool | None


def judge_figures(figures: Figures) -> list[dict[str, Any]]:
    """Every target, JSON-ready, in the issue's order."""
    targets = (*_detection(figures["detection"]), *_alarms(figures["detection"]), *_rest(figures))
    return [asdict(target) for target in targets]


def _detection(figures: Figures) -> Iterator[Target]:
    for defect, (what, least) in RECALL.items():
        must = "all" if least == 1 else f"≥ {least:.0%}"
        measured = figures["defects"].get(defect)
        if measured is None:
            yield Target(what, must, "not measured", None)
        else:
            yield Target(what, must, _share(measured["recall"]), measured["recall"]["value"] >= least)


def _alarms(figures: Figures) -> Iterator[Target]:
    for group, (what, most) in ALARMS.items():
        joint = figures["right"][group]["joint"]
        yield Target(what, f"≤ {most:.0%}", _share(joint), joint["value"] <= most)


def _rest(figures: Figures) -> Iterator[Target]:
    words = f"{figures['latency']['words']:.0f} words, one core, p95"
    for tier, most in MILLISECONDS.items():
        measured = figures["latency"]["milliseconds"].get(tier)
        if measured is None:
            yield Target(f"{tier}: {words}", f"≤ {most:.0f} ms", "not measured", None)
        else:
            yield Target(f"{tier}: {words}", f"≤ {most:.0f} ms", f"{measured['p95']:.2f} ms", measured["p95"] <= most)
    streams = figures["streams"]
    released, known = sum(streams["released"].values()), streams["released_though_known"]
    yield Target("characters of injected values that streams let out", "0", str(released), released == 0)
    yield Target("of these, of values that the check finds in the whole text", "0", str(known), known == 0)
    served = figures["served"]
    out = sum(served["released"].values()) + served["released_in_logprobs"]
    yield Target("characters of them that clients of the service got, also by logprobs", "0", str(out), out == 0)
    untold = served["without_verdict"]
    yield Target("streams of the service without a verdict", "0", str(untold), untold == 0)
    same = streams["independent"]
    text = f"{same['hits']} of {same['of']}"
    yield Target("streams judged the same however they were cut", "all", text, same["hits"] == same["of"])
    delays = figures["delays"]
    first, token = delays["by_check"]["all"]["first_ms"]["p50"], delays["by_check"]["all"]["token_ms"]["p95"]
    pace = f"at {delays['tokens_per_second']:.0f} tokens/s"
    yield Target(
        f"added to the first text of a stream, p50, {pace}",
        f"≤ {FIRST_MS:.0f} ms",
        f"{first:.2f} ms",
        first <= FIRST_MS,
    )
    yield Target(
        f"added to a token of a stream, p95, {pace}", f"≤ {TOKEN_MS:.0f} ms", f"{token:.2f} ms", token <= TOKEN_MS
    )
    repaired, harmed = figures["repair"]["repaired"], figures["repair"]["harmed"]
    yield Target("defects that fixes take away", f"≥ {REPAIRED:.0%}", _share(repaired), repaired["value"] >= REPAIRED)
    yield Target("right answers that fixes change", f"≤ {HARMED:.0%}", _share(harmed), harmed["value"] <= HARMED)


def _share(share: Mapping[str, float]) -> str:
    return f"{share['value']:.1%} of {share['of']:.0f} ({share['low']:.1%} to {share['high']:.1%})"
