"""What the samples of one run say together. Pure."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, get_args

from benchmarks.validation.shares import counted
from benchmarks.validation.traffic.asking import Sample
from deployments.validator.checks import CHECKS
from graph.contracts import Outcome

__all__ = ["BINS", "EXTRA_GENERATIONS", "KINDS", "UNTOUCHED", "traffic_figures"]

EXTRA_GENERATIONS = 0.2
"""The most that a request may cost beyond its first generation."""
BINS: Mapping[str, range] = {
    "0-19": range(20),
    "20-39": range(20, 40),
    "40-59": range(40, 60),
    "60-79": range(60, 80),
    "80-100": range(80, 101),
}
UNTOUCHED = "untouched"
"""A slider that nobody moved: most of them do nothing then."""
KINDS: Mapping[str, Callable[[Sample], bool]] = {
    "all": lambda sample: True,
    "streamed": lambda sample: sample.streamed,
    "whole": lambda sample: not sample.streamed,
}


def traffic_figures(samples: Sequence[Sample], controls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All figures, JSON-ready.

    Args:
        samples: Of every request.
        controls: The knobs, as ``GET /v1/controls`` lists them.
    """
    answered = [sample for sample in samples if sample.failure is None]
    kinds = {kind: [sample for sample in answered if belongs(sample)] for kind, belongs in KINDS.items()}
    return {
        "asked": len(samples),
        "answered": len(answered),
        "failures": [
            {"record": sample.record, "streamed": sample.streamed, "asked": sample.asked, "failure": sample.failure}
            for sample in samples
            if sample.failure is not None
        ],
        "outcomes": {kind: _outcomes(each) for kind, each in kinds.items()},
        "mean_score": {kind: _mean_score(each) for kind, each in kinds.items()},
        "mean_scores": _mean_scores(answered),
        "finish_reasons": dict(Counter(sample.finish_reason for sample in answered).most_common()),
        "extra_generations": {kind: _extra_generations(each) for kind, each in kinds.items()},
        "findings": _findings(answered),
        "by_setting": {knob["name"]: groups for knob in controls if (groups := _by_setting(knob, answered))},
    }


def _outcomes(samples: Sequence[Sample]) -> dict[str, Any]:
    counts = Counter(sample.outcome for sample in samples)
    # One that the contract does not know would be a fault of the service: it is shown, too.
    names = [*get_args(Outcome), *sorted(counts.keys() - set(get_args(Outcome)))]
    return {name: counted(counts[name], len(samples)) for name in names}


def _mean_score(samples: Sequence[Sample]) -> float | None:
    scores = [sample.score for sample in samples if sample.score is not None]
    return fmean(scores) if scores else None


def _mean_scores(samples: Sequence[Sample]) -> dict[str, float]:
    """By sub-score, over the answers that have it."""
    by_name: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in (sample.scores or {}).items():
            by_name.setdefault(name, []).append(value)
    return {name: fmean(values) for name, values in by_name.items()}


def _extra_generations(samples: Sequence[Sample]) -> float | None:
    """Attempts beyond the first, for each request."""
    return fmean(sample.attempts - 1 for sample in samples) if samples else None


def _findings(samples: Sequence[Sample]) -> dict[str, Any]:
    """By check, in the checks' order: answers with a finding, and how many of its findings have which action."""
    names = {found.check for sample in samples for found in sample.findings}
    figures = {}
    for name in [*(check for check in CHECKS if check in names), *sorted(names - CHECKS.keys())]:
        own = [[found for found in sample.findings if found.check == name] for sample in samples]
        figures[name] = {
            "answers": counted(sum(map(bool, own)), len(samples)),
            "by_severity": dict(Counter(found.severity for each in own for found in each).most_common()),
            "by_action": dict(Counter(found.action for each in own for found in each).most_common()),
        }
    return figures


def _by_setting(knob: Mapping[str, Any], samples: Sequence[Sample]) -> dict[str, Any]:
    """Where a knob stood, in its own order; none of a place where no answer has it."""
    name = knob["name"]
    if knob["kind"] == "lp":
        groups = {
            UNTOUCHED: [sample for sample in samples if name not in sample.settings],
            **{
                label: [sample for sample in samples if sample.settings.get(name, -1) in levels]
                for label, levels in BINS.items()
            },
        }
    else:
        values = [value["value"] for value in knob["values"]]
        groups = {value: [sample for sample in samples if sample.settings.get(name) == value] for value in values}
    return {
        label: {
            "answers": len(each),
            "mean_score": _mean_score(each),
            "passed": counted(sum(sample.outcome == "pass" for sample in each), len(each)),
        }
        for label, each in groups.items()
        if each
    }
