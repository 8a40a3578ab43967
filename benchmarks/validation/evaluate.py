"""What the checks find in texts that are wrong, and what they find in texts that are right. Pure.

A case is found when a finding of its check stands where the defect is; a finding without a place, or a defect without
one, is taken to stand there. Any finding that would be acted on is a false alarm in an answer that is right. Notes
count only for checks that do nothing but note, and in the joint rate of false alarms not even there.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from benchmarks.validation.cases import Case, context_of
from benchmarks.validation.corpus import Corpus, Record
from benchmarks.validation.shares import counted
from deployments.validator.checks import CHECKS
from deployments.validator.policy import QualityPolicy, judge
from deployments.validator.relevance_model import should_measure
from graph.contracts import CHECK_FAILED, CheckContext, Finding

__all__ = ["Job", "Relevance", "counts", "evaluate", "find_alarms", "is_found", "is_found_anywhere", "relate"]

_ALSO: Mapping[str, Sequence[str]] = {"near_leak": ("prompt_leak",)}
"""Checks that may find what is another one's: an edited sentence may still have seven words in a row as they were."""
Relevance = Callable[[str, str], float]
"""Of a question and an answer the cosine."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """A case with what counts of what was found in it."""

    case: Case
    findings: tuple[Finding, ...]

    @property
    def is_found(self) -> bool:
        return is_found(self.case, self.findings)


@dataclass(frozen=True, slots=True)
class _Passed:
    """An answer that is right, with what was found in it nevertheless."""

    group: str
    record: Record
    alarms: tuple[Finding, ...]

    @property
    def is_objected_to(self) -> bool:
        return bool(find_alarms(self.alarms))


def is_found(case: Case, findings: Iterable[Finding]) -> bool:
    """Whether a check that may find the case did so where the defect stands."""
    return any(_names(case, finding) and _overlap(case.span, finding.span) for finding in findings)


def is_found_anywhere(case: Case, findings: Iterable[Finding]) -> bool:
    """Whether such a check found anything in the text."""
    return any(_names(case, finding) for finding in findings)


def _names(case: Case, finding: Finding) -> bool:
    is_its = finding.check == case.check or finding.check in _ALSO.get(case.check, ())
    # A check that crashed has found nothing.
    return is_its and counts(finding) and not finding.message.startswith(CHECK_FAILED)


def counts(finding: Finding) -> bool:
    """Whether a finding says that something is wrong: a note does so only of a check that never does more."""
    return finding.severity != "note" or CHECKS[finding.check].severity == "note"


def _overlap(one: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    return one is None or other is None or (one[0] < other[1] and other[0] < one[1])


def find_alarms(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings that would be acted on."""
    return tuple(finding for finding in findings if finding.severity != "note")


def evaluate(
    corpus: Corpus, cases: Sequence[Case], policy: QualityPolicy, relevance: Relevance | None = None
) -> dict[str, Any]:
    """Judges every case and every answer that is right.

    Args:
        corpus: One half.
        cases: What was made of it; those whose check does not exist are left out.
        relevance: The model behind the relevance check; None: the check has nothing to go by.

    Returns:
        JSON-ready figures, with a list of every miss and every false alarm; no texts.
    """
    cases = [case for case in cases if case.check in CHECKS]
    groups = {"clean": corpus.clean, "hard": corpus.hard, "languages": corpus.languages}
    records = [(group, record) for group, each in groups.items() for record in each]
    jobs = [Job(case.text, case.context, case.check == "relevance") for case in cases]
    jobs += [Job(record.text, context_of(record), True) for _, record in records]
    verdicts = [judge(job.text, job.context, policy) for job in relate(jobs, relevance)]
    found = [tuple(filter(counts, verdict.findings)) for verdict in verdicts]
    judged = [_Judged(case, findings) for case, findings in zip(cases, found, strict=False)]
    passed = [
        _Passed(group, record, alarms) for (group, record), alarms in zip(records, found[len(cases) :], strict=True)
    ]
    return {
        "defects": _by_defect(judged),
        "checks": _by_check(judged, passed),
        "right": {group: _describe_group([each for each in passed if each.group == group]) for group in groups},
        "false_alarms": [
            {
                "group": each.group,
                "record": each.record.id,
                "check": alarm.check,
                "severity": alarm.severity,
                "message": alarm.message,
            }
            for each in passed
            for alarm in each.alarms
        ],
        "misses": [_describe_miss(each) for each in judged if not each.is_found],
    }


class Job(NamedTuple):
    """One text to judge."""

    text: str
    context: CheckContext
    needs_relevance: bool
    """A model takes many times as long as all other checks: it looks only where it may matter."""


def relate(jobs: Sequence[Job], relevance: Relevance | None) -> Sequence[Job]:
    """The jobs with their relevance in the context, where the service would have measured it."""
    if relevance is None or "relevance" not in {field.name for field in fields(CheckContext)}:
        return jobs
    chosen = [at for at, job in enumerate(jobs) if job.needs_relevance and should_measure(job.text, job.context)]
    values = [relevance(jobs[at].context.prompt, jobs[at].text) for at in chosen]
    related = list(jobs)
    for at, value in zip(chosen, values, strict=True):
        measured: dict[str, Any] = {"relevance": value}
        related[at] = jobs[at]._replace(context=replace(jobs[at].context, **measured))
    return related


def _by_defect(judged: Sequence[_Judged]) -> dict[str, Any]:
    figures = {}
    for defect, each in _group(judged, lambda one: one.case.defect).items():
        figures[defect] = {
            "check": each[0].case.check,
            "recall": _recall(each),
            "recall_anywhere": counted(sum(is_found_anywhere(one.case, one.findings) for one in each), len(each)),
            "by_severity": {name: _recall(part) for name, part in _group(each, lambda one: one.case.severity).items()},
            "by_kind": {name: _recall(part) for name, part in sorted(_group(each, lambda one: one.case.kind).items())},
        }
    return figures


def _group(judged: Iterable[_Judged], key: Callable[[_Judged], str]) -> Mapping[str, list[_Judged]]:
    groups: dict[str, list[_Judged]] = defaultdict(list)
    for each in judged:
        groups[key(each)].append(each)
    return groups


def _recall(judged: Sequence[_Judged]) -> dict[str, Any]:
    return counted(sum(each.is_found for each in judged), len(judged))


def _by_check(judged: Sequence[_Judged], passed: Sequence[_Passed]) -> dict[str, Any]:
    """What each check does by itself: right answers that it objects to, against its own cases that it finds."""
    figures = {}
    for check in CHECKS:
        own = [each for each in judged if each.case.check == check]
        hits = sum(is_found(each.case, [f for f in each.findings if f.check == check]) for each in own)
        alarms = sum(any(alarm.check == check for alarm in each.alarms) for each in passed)
        figures[check] = {
            "precision": counted(hits, hits + alarms),
            "recall": counted(hits, len(own)),
            "f1": 2 * hits / (hits + alarms + len(own)) if own else 0.0,
        }
    return figures


def _describe_group(passed: Sequence[_Passed]) -> dict[str, Any]:
    by_domain: dict[str, list[_Passed]] = defaultdict(list)
    for each in passed:
        by_domain[each.record.domain].append(each)
    checks = Counter(check for each in passed for check in {alarm.check for alarm in each.alarms})
    return {
        "joint": _alarm_rate(passed),
        "by_check": {check: checks[check] for check in CHECKS},
        "by_domain": {name: _alarm_rate(part) for name, part in by_domain.items()},
    }


def _alarm_rate(passed: Sequence[_Passed]) -> dict[str, Any]:
    """Answers in which anything at all would be acted on."""
    return counted(sum(each.is_objected_to for each in passed), len(passed))


def _describe_miss(judged: _Judged) -> dict[str, Any]:
    case = judged.case
    return {
        "record": case.record_id,
        "check": case.check,
        "defect": case.defect,
        "kind": case.kind,
        "severity": case.severity,
        "found_elsewhere": is_found_anywhere(case, judged.findings),
        "found_by": sorted({finding.check for finding in judged.findings} - {case.check}),
    }
