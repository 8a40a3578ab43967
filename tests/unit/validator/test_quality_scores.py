"""The scores: their range, their caps, and that a defect never pays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.validator.checks import CHECKS
from deployments.validator.policy import QualityPolicy, judge
from deployments.validator.scores import DEFAULT_CAPS, SUB_SCORES, WEIGHTS, score
from graph.contracts import CheckContext, Finding

findings = st.builds(
    Finding,
    check=st.sampled_from(sorted(CHECKS)),
    severity=st.sampled_from(["note", "soft", "hard"]),
    message=st.just("seen"),
)
grades = st.dictionaries(
    st.sampled_from([name for name, check in CHECKS.items() if check.grade]), st.floats(0.0, 1.0, allow_nan=False)
)


def test_every_check_lowers_one_sub_score_and_the_weights_add_up_to_one() -> None:
    assert set(SUB_SCORES) == set(CHECKS)
    assert set(SUB_SCORES.values()) == set(WEIGHTS)
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)


def test_without_findings_every_score_is_one() -> None:
    assert score(()) == (dict.fromkeys(WEIGHTS, 1.0), 1.0)


@given(remaining=st.lists(findings, max_size=6), fixed=st.lists(findings, max_size=4), more=findings, grades=grades)
def test_an_added_defect_never_raises_a_score(
    remaining: list[Finding], fixed: list[Finding], more: Finding, grades: dict[str, float]
) -> None:
    before, total_before = score(remaining, fixed, grades=grades)
    for after, total in (
        score([*remaining, more], fixed, grades=grades),
        score(remaining, [*fixed, more], grades=grades),
    ):
        assert all(after[name] <= before[name] for name in WEIGHTS)
        assert total <= total_before


@given(remaining=st.lists(findings, max_size=8), fixed=st.lists(findings, max_size=8), grades=grades)
def test_scores_stay_in_their_range(remaining: list[Finding], fixed: list[Finding], grades: dict[str, float]) -> None:
    sub_scores, total = score(remaining, fixed, grades=grades)
    assert all(0.0 <= value <= 1.0 for value in (*sub_scores.values(), total))


@given(better=grades, remaining=st.lists(findings, max_size=6), share=st.floats(0.0, 1.0, allow_nan=False))
def test_a_lower_grade_never_raises_a_score(better: dict[str, float], remaining: list[Finding], share: float) -> None:
    worse = {name: grade * share for name, grade in better.items()}
    assert score(remaining, grades=worse)[1] <= score(remaining, grades=better)[1]


@given(finding=findings)
def test_a_fixed_defect_costs_no_more_than_one_that_stays(finding: Finding) -> None:
    assert score([], [finding])[1] >= score([finding])[1]


@pytest.mark.parametrize("name", DEFAULT_CAPS)
def test_a_failing_check_caps_the_total(name: str) -> None:
    assert score([Finding(name, CHECKS[name].severity, "seen")])[1] <= DEFAULT_CAPS[name]


CLEAN = "Rain falls when warm air rises and cools. Clouds form out of tiny drops, and the wind moves them."
DEFECTS = {
    "cut": lambda text: text[: len(text) * 2 // 3 - 2],
    "loop": lambda text: text + " Clouds form out of drops." * 8,
    "e-mail": lambda text: text + " Write to jane.doe@acme.com.",
    "key": lambda text: text + " Use " + "ghp_" + "aB3d" * 9 + ".",
    "other language": lambda text: (
        text + " Der warme Wind trägt die Wolken weit über das Land hinaus bis in die Berge."
    ),
    "empty": lambda text: "",
}


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("second", ["loop", "e-mail", "key", "other language"])
def test_a_defect_in_the_text_never_raises_its_score(defect: str, second: str) -> None:
    context = CheckContext(prompt="Please explain to me in detail how the rain is made.")
    once = DEFECTS[defect](CLEAN)
    scores = [judge(text, context, QualityPolicy()).score for text in (CLEAN, once, DEFECTS[second](once))]
    assert scores[0] == 1.0
    assert scores[1] < 1.0
    if defect not in ("cut", "empty"):  # more text mends these two
        assert scores[2] <= scores[1]
