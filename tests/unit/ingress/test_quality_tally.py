"""The live aggregates: what counts, for whom, and that they stay bounded."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from deployments.ingress.quality_tally import MAX_TENANTS, WINDOW, QualityTally
from graph.contracts import Action, Finding, Outcome
from graph.moves import Answer, Usage


def answer(
    outcome: Outcome = "pass",
    score: float | None = 1.0,
    scores: Mapping[str, float] | None = None,
    findings: tuple[Finding, ...] = (),
) -> Answer:
    scores = {"form": 1.0, "safety": 1.0} if scores is None else scores
    return Answer("x", "stop", None, outcome, score, scores, findings, Usage(), 1, None)


def found(check: str, action: Action) -> Finding:
    return Finding(check, "soft", "x", None, action)


def tally() -> QualityTally:
    return QualityTally(lambda: 1000.7)


def test_nothing_was_answered_yet() -> None:
    empty = {
        "answers": 0,
        "outcomes": {"pass": 0, "fixed": 0, "retried": 0, "degraded": 0, "blocked": 0, "unvalidated": 0},
        "score": None,
        "scores": {},
        "findings": {},
    }
    expected = {"object": "quality", "scope": "replica", "since": 1000, "answers": 0, "recent": empty, "total": empty}
    assert tally().report(None) == tally().report("acme") == expected


def test_outcomes_scores_and_findings_are_counted_over_answers() -> None:
    counted = tally()
    counted.add("acme", answer())
    counted.add("acme", answer("fixed", 0.9, {"form": 1.0, "safety": 0.8}, (found("pii", "fix"), found("pii", "fix"))))
    counted.add(
        "acme",
        answer(
            "degraded", 0.4, {"form": 0.4, "safety": 1.0}, (found("structure", "regenerate"), found("language", "note"))
        ),
    )
    counted.add("acme", answer("fixed", 0.9, {"form": 1.0, "safety": 0.8}, (found("pii", "fix"),)))
    total = counted.report("acme")["total"]
    assert {name: count for name, count in total["outcomes"].items() if count} == {"pass": 1, "fixed": 2, "degraded": 1}
    assert total["score"] == 0.8
    assert total["scores"] == {"form": 0.85, "safety": 0.9}
    # An answer with two values counts once; a note is no failure.
    assert total["findings"] == {"pii": 2, "structure": 1}


def test_an_unvalidated_answer_is_counted_and_leaves_the_means_alone() -> None:
    counted = tally()
    counted.add("acme", answer(score=0.5, scores={"form": 0.5}))
    counted.add("acme", answer("unvalidated", None, {"form": 1.0}))
    total = counted.report(None)["total"]
    assert (total["answers"], total["outcomes"]["unvalidated"]) == (2, 1)
    assert (total["score"], total["scores"]) == (0.5, {"form": 0.5})


def test_a_sub_score_that_few_answers_have_is_the_mean_of_those() -> None:
    counted = tally()
    counted.add("acme", answer("blocked", 0.0, {"safety": 0.0}))
    counted.add("acme", answer())
    assert counted.report(None)["total"]["scores"] == {"safety": 0.5, "form": 1.0}


def test_recent_is_the_last_thousand_and_total_is_all() -> None:
    counted = tally()
    for _ in range(200):
        counted.add("acme", answer("degraded", 0.0, {}, (found("language", "regenerate"),)))
    for _ in range(WINDOW - 100):
        counted.add("acme", answer())
    report = counted.report("acme")
    assert report["answers"] == report["total"]["answers"] == WINDOW + 100
    assert report["recent"]["answers"] == WINDOW == 1000
    assert (report["recent"]["outcomes"]["degraded"], report["recent"]["score"]) == (100, 0.9)
    assert (report["recent"]["findings"], report["total"]["findings"]) == ({"language": 100}, {"language": 200})


def test_a_tenant_sees_nothing_of_the_others_and_all_of_his_own() -> None:
    counted = tally()
    counted.add("umbra", answer())
    before = counted.report("umbra")
    for _ in range(2 * WINDOW):
        counted.add("acme", answer("blocked", 0.0))
    assert counted.report("umbra") == before
    assert counted.report("acme")["total"]["outcomes"]["pass"] == 0
    assert counted.report(None)["answers"] == 2 * WINDOW + 1


def test_there_is_room_for_so_many_tenants_and_the_quietest_makes_room() -> None:
    times = itertools.count()
    counted = QualityTally(lambda: float(next(times)))
    counted.add("first", answer())
    counted.add("second", answer())
    for number in range(MAX_TENANTS - 2):
        counted.add(f"tenant-{number}", answer())
    counted.add("first", answer())
    counted.add("newcomer", answer())
    assert counted.report("first")["answers"] == 2
    assert counted.report("newcomer")["answers"] == 1
    gone = counted.report("second")
    assert gone["answers"] == 0
    # What was counted of him is gone, so it no longer says "since the start".
    assert gone["since"] > counted.report("first")["since"] == 0
    counted.add("second", answer())
    assert counted.report("second")["since"] == gone["since"]
    assert counted.report(None)["answers"] == MAX_TENANTS + 3


@pytest.mark.parametrize("tenant", [None, "acme"])
def test_what_is_kept_does_not_grow_with_the_answers(tenant: str | None) -> None:
    counted = tally()
    for number in range(3 * WINDOW):
        counted.add(f"tenant-{number}", answer())
        counted.add("acme", answer())
    kept: Any = counted._tenants
    assert len(kept) == MAX_TENANTS
    assert counted.report(tenant)["recent"]["answers"] == WINDOW
