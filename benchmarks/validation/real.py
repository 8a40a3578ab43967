"""What the checks find in real outputs of the model, against what people say of them.

A person labels an output with what the checks promise to find in it (``corpus/LABELLING.md``). An output is bad when
one of its defects is of a check that acts under the policy, else good; it is objected to when such a check finds
anything. What is only noted is held against no answer.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.validation.corpus import CORPUS, Half
from benchmarks.validation.evaluate import Job, Relevance, counts, find_alarms, relate
from benchmarks.validation.labels import DEFECTS, LABELS, Label, read_labels
from benchmarks.validation.raw_outputs import RAW, RawOutput, read_outputs
from benchmarks.validation.shares import counted
from deployments.validator.checks import CHECKS
from deployments.validator.policy import QualityPolicy, judge
from graph.contracts import CHECK_FAILED, Finding

__all__ = ["Labelled", "evaluate_real", "load_labelled"]

MISSED, FALSE_ALARM = "missed", "false alarm"


class Labelled(NamedTuple):
    """An output and what a person says of it."""

    output: RawOutput
    label: Label


@dataclass(frozen=True, slots=True)
class _Judged:
    """A labelled output with what counts of what was found in it."""

    labelled: Labelled
    findings: tuple[Finding, ...]

    def is_bad(self, acting: Collection[str]) -> bool:
        return not set(acting).isdisjoint(self.labelled.label.defects)

    def is_objected_to(self, acting: Collection[str]) -> bool:
        return any(finding.check in acting for finding in find_alarms(self.findings))

    def has(self, check: str) -> bool:
        return check in self.labelled.label.defects

    def found(self, check: str) -> Finding | None:
        """What a check found; None: nothing, or it crashed."""
        own = (f for f in self.findings if f.check == check and not f.message.startswith(CHECK_FAILED))
        return next(own, None)


def load_labelled(folder: Path = CORPUS) -> tuple[Labelled, ...]:
    """The outputs of both halves with their labels; none where there is no file of outputs.

    Raises:
        CorpusError: One of the two files is malformed, or they do not belong together.
    """
    path = folder / RAW.name
    if not path.exists():
        return ()
    outputs = read_outputs(path)
    labels = read_labels([output.id for output in outputs], folder / LABELS.name)
    return tuple(Labelled(output, labels[output.id]) for output in outputs)


def evaluate_real(
    labelled: Sequence[Labelled], half: Half, policy: QualityPolicy, relevance: Relevance | None = None
) -> dict[str, Any] | None:
    """Judges every output of one half and compares.

    Args:
        labelled: Of both halves.
        half: The one that counts.
        policy: What is judged by.
        relevance: The model behind the relevance check; None: the check has nothing to go by.

    Returns:
        JSON-ready figures, with a list of every disagreement; no texts but the labels' reasons. None: there are no
        outputs.
    """
    chosen = [each for each in labelled if each.output.half == half]
    if not chosen:
        return None
    jobs = relate([Job(each.output.text, each.output.context, True) for each in chosen], relevance)
    found = [tuple(filter(counts, judge(job.text, job.context, policy).findings)) for job in jobs]
    judged = [_Judged(*pair) for pair in zip(chosen, found, strict=True)]
    # A check that only ever tells can have no other on_fail.
    acting = [name for name in CHECKS if policy.of(name).on_fail != "note"]
    # What a check finds that acts and that no label can name is a false alarm.
    compared = [name for name in CHECKS if name in DEFECTS or name in acting]
    good = [each for each in judged if not each.is_bad(acting)]
    bad = [each for each in judged if each.is_bad(acting)]
    return {
        "outputs": len(judged),
        "checks": {check: _compare(check, judged) for check in compared},
        "joint": {
            "good_objected_to": counted(sum(each.is_objected_to(acting) for each in good), len(good)),
            "bad_objected_to": counted(sum(each.is_objected_to(acting) for each in bad), len(bad)),
        },
        "disagreements": [disagreement for each in judged for disagreement in _disagreements(each, compared)],
    }


def _compare(check: str, judged: Sequence[_Judged]) -> dict[str, Any]:
    labelled = sum(each.has(check) for each in judged)
    found = sum(each.found(check) is not None for each in judged)
    hits = sum(each.has(check) and each.found(check) is not None for each in judged)
    return {
        "precision": counted(hits, found),
        "recall": counted(hits, labelled),
        "f1": 2 * hits / (found + labelled) if labelled else 0.0,
    }


def _disagreements(judged: _Judged, compared: Sequence[str]) -> Iterator[Mapping[str, str]]:
    for check in compared:
        finding = judged.found(check)
        if judged.has(check) == (finding is not None):
            continue
        yield {
            "output": judged.labelled.output.id,
            "check": check,
            "way": MISSED if finding is None else FALSE_ALARM,
            "reason": judged.labelled.label.reason,
            "finding": "" if finding is None else finding.message,
        }
