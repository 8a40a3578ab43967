"""What local fixes are worth: defects that they take away, and answers that they change without need. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.validation.cases import Case, context_of
from benchmarks.validation.corpus import Record
from benchmarks.validation.evaluate import find_alarms
from benchmarks.validation.shares import counted
from deployments.validator.fixes import FIXES
from deployments.validator.policy import QualityPolicy, judge, parse_policy

__all__ = ["FIXING", "measure_repair"]

FIXING: QualityPolicy = parse_policy({"checks": {name: {"on_fail": "fix"} for name in FIXES}}, "benchmarks.validation")
"""Every check that has a fix uses it."""


def measure_repair(cases: Iterable[Case], right: Sequence[Record]) -> dict[str, Any]:
    """Mends every case of a check that has a fix, and every answer that is right.

    Returns:
        JSON-ready: ``repaired``, the share of cases whose mended text the check passes; the same by defect and form;
        ``harmed``, the share of right answers that were changed, with their ids.
    """
    by_defect: dict[str, dict[str, list[bool]]] = {}
    for case in cases:
        if case.check in FIXES:
            by_defect.setdefault(case.defect, {}).setdefault(case.kind, []).append(_is_repaired(case))
    harmed = [record.id for record in right if judge(record.text, context_of(record), FIXING).fixed_text is not None]
    return {
        "repaired": _count(repaired for kinds in by_defect.values() for each in kinds.values() for repaired in each),
        "by_defect": {
            defect: {
                "all": _count(repaired for each in kinds.values() for repaired in each),
                "by_kind": {kind: _count(each) for kind, each in sorted(kinds.items())},
            }
            for defect, kinds in by_defect.items()
        },
        "harmed": counted(len(harmed), len(right)),
        "harmed_records": harmed,
    }


def _count(repaired: Iterable[bool]) -> dict[str, Any]:
    outcomes = list(repaired)
    return counted(sum(outcomes), len(outcomes))


def _is_repaired(case: Case) -> bool:
    mended = judge(case.text, case.context, FIXING).fixed_text
    if mended is None:
        return False
    left = find_alarms(judge(mended, case.context, FIXING).findings)
    return all(finding.check != case.check for finding in left)
