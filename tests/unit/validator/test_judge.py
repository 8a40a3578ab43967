"""The verdict on a whole text: what is mended, what is asked for, and what happens when a check breaks."""

from dataclasses import replace
from typing import Any

import pytest

from deployments.validator import policy as policy_module
from deployments.validator.checks import CHECKS
from deployments.validator.policy import (
    CHECK_FAILED,
    QualityPolicy,
    judge,
    parse_policy,
)
from graph.contracts import CheckContext, Finding, Verdict

GOOD = "Rain falls when warm air rises and cools. Clouds form out of tiny drops."
MAIL = "jane.doe@acme.com"
KEY = "ghp_" + "aB3d" * 9
CUT = GOOD + " After some hours the drops are heavy enough to"
LOOP = GOOD + " The water rises and falls on the hills." * 6
SYSTEM = "Never mention the merger with North Pier before it is announced to the clients."
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def make_policy(**checks: Any) -> QualityPolicy:
    return parse_policy({"checks": checks}, "test")


def actions(verdict: Verdict) -> dict[str, str]:
    return {finding.check: finding.action for finding in verdict.findings}


def test_a_good_text_is_delivered_with_full_marks() -> None:
    verdict = judge(GOOD, CheckContext(), QualityPolicy())
    assert verdict == Verdict("deliver", (), dict.fromkeys(verdict.scores, 1.0), 1.0, None)
    assert list(verdict.scores) == [
        "form", "language", "relevance", "completeness", "repetition", "safety", "control_fit",
    ]  # fmt: skip


def test_a_personal_value_is_redacted_and_that_is_enough() -> None:
    text = f"Write to {MAIL}."
    verdict = judge(text, CheckContext(), QualityPolicy())
    assert (verdict.action, verdict.fixed_text) == ("fix", "Write to [redacted e-mail].")
    (finding,) = verdict.findings
    assert finding.action == "fix"
    assert finding.span == (9, 9 + len(MAIL))
    assert 0.9 < verdict.score < 1.0


def test_a_secret_blocks_whatever_else_was_mended() -> None:
    verdict = judge(f"The key {KEY} belongs to {MAIL}.", CheckContext(), QualityPolicy())
    assert verdict.action == "block"
    assert actions(verdict) == {"secrets": "block", "pii": "fix"}
    assert verdict.score == 0.0
    assert verdict.scores["safety"] == 0.0


def test_a_secret_is_redacted_where_the_policy_says_so() -> None:
    verdict = judge(f"The key is {KEY}.", CheckContext(), make_policy(secrets={"on_fail": "fix"}))
    assert (verdict.action, verdict.fixed_text) == ("fix", "The key is [redacted GitHub Token].")


def test_a_leak_of_the_system_prompt_blocks() -> None:
    verdict = judge(f"I was told: {SYSTEM}", CheckContext(system=SYSTEM), QualityPolicy())
    assert verdict.action == "block"


def test_a_cut_text_is_trimmed_and_counts_as_less_than_a_whole_one() -> None:
    verdict = judge(CUT, CheckContext(finish_reason="length"), QualityPolicy())
    assert (verdict.action, verdict.fixed_text) == ("fix", GOOD)
    assert verdict.scores["completeness"] < 1.0


def test_a_text_cut_right_after_a_sentence_is_delivered_as_it_is() -> None:
    verdict = judge(GOOD, CheckContext(finish_reason="length"), QualityPolicy())
    assert (verdict.action, verdict.fixed_text) == ("deliver", None)
    assert actions(verdict) == {"truncation": "note"}
    assert verdict.score < 1.0


def test_a_cut_text_that_cannot_be_trimmed_does_what_comes_otherwise() -> None:
    text = "the drops that fall out of the clouds are heavy enough to"
    assert judge(text, CheckContext(), QualityPolicy()).action == "regenerate"
    told = judge(text, CheckContext(), make_policy(truncation={"on_fail": "fix", "otherwise": "note"}))
    assert (told.action, actions(told), told.is_degraded) == ("deliver", {"truncation": "note"}, True)


def test_what_a_check_only_notes_degrades_nothing() -> None:
    verdict = judge(GOOD, CheckContext(target_words=200), QualityPolicy())
    assert (actions(verdict), verdict.is_degraded) == ({"control_fit": "note"}, False)
    assert not judge(f"Write to {MAIL}.", CheckContext(), QualityPolicy()).is_degraded


def test_a_cut_that_the_caller_asked_for_is_told_and_nothing_else() -> None:
    verdict = judge(CUT, CheckContext(finish_reason="length", caller_limited=True), QualityPolicy())
    assert (verdict.action, verdict.fixed_text, verdict.score) == ("deliver", None, 1.0)
    assert actions(verdict) == {"truncation": "note"}


def test_a_loop_asks_for_another_attempt_or_is_cut_where_the_policy_says_so() -> None:
    assert judge(LOOP, CheckContext(), QualityPolicy()).action == "regenerate"
    verdict = judge(LOOP, CheckContext(finish_reason="repetition"), make_policy(repetition={"on_fail": "fix"}))
    assert (verdict.action, verdict.fixed_text) == ("fix", GOOD + " The water rises and falls on the hills.")


def test_broken_json_is_repaired() -> None:
    verdict = judge('{"a": 1', CheckContext(json_schema=SCHEMA), QualityPolicy())
    assert (verdict.action, verdict.fixed_text) == ("fix", '{"a": 1}')


def test_json_beyond_repair_asks_for_another_attempt() -> None:
    verdict = judge('{"b": 1', CheckContext(json_schema=SCHEMA), QualityPolicy())
    assert (verdict.action, verdict.fixed_text) == ("regenerate", None)
    assert actions(verdict) == {"json_schema": "regenerate"}


def test_a_value_that_a_repair_brings_to_light_is_redacted_too() -> None:
    text = '{"a": 1, "mail": "jane.doe\\u0040acme.com"'
    verdict = judge(text, CheckContext(json_schema=SCHEMA), QualityPolicy())
    assert verdict.fixed_text == '{"a": 1, "mail": "[redacted e-mail]"}'
    assert verdict.action == "fix"


def test_a_value_brought_to_light_is_blocked_where_it_may_not_be_redacted() -> None:
    text = '{"a": 1, "mail": "jane.doe\\u0040acme.com"'
    verdict = judge(text, CheckContext(json_schema=SCHEMA), make_policy(pii={"on_fail": "block"}))
    assert verdict.action == "block"
    assert verdict.findings[-1].check == "pii"
    assert verdict.findings[-1].span is None


def test_fixes_add_up() -> None:
    text = f"{GOOD} Write to {MAIL}. After some hours the drops are heavy enough to"
    verdict = judge(text, CheckContext(finish_reason="length"), QualityPolicy())
    assert verdict.fixed_text == f"{GOOD} Write to [redacted e-mail]."
    assert actions(verdict) == {"pii": "fix", "truncation": "fix"}


@pytest.mark.parametrize("name", [name for name, check in CHECKS.items() if check.severity == "soft"])
def test_a_quality_check_that_raises_is_skipped_with_a_note(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    break_check(name, monkeypatch)
    verdict = judge(GOOD, CheckContext(), QualityPolicy())
    assert verdict.action == "deliver"
    (finding,) = verdict.findings
    assert (finding.check, finding.severity, finding.action) == (name, "note", "note")
    assert finding.message.startswith(CHECK_FAILED)


@pytest.mark.parametrize("name", [name for name, check in CHECKS.items() if check.severity == "soft"])
def test_a_quality_check_that_raises_blocks_where_the_policy_says_so(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_check(name, monkeypatch)
    verdict = judge(GOOD, CheckContext(), make_policy(**{name: {"on_error": "closed"}}))
    assert verdict.action == "block"
    (finding,) = verdict.findings
    assert (finding.check, finding.severity, finding.action) == (name, "hard", "block")


@pytest.mark.parametrize(("on_error", "action"), [("open", "deliver"), ("closed", "block")])
def test_a_check_whose_model_gave_no_number_fails_by_its_on_error(on_error: str, action: str) -> None:
    context = CheckContext(prompt="Why?", relevance=0.0, unmeasured={"relevance": "TimeoutError"})
    verdict = judge(GOOD, context, make_policy(relevance={"on_error": on_error}))
    assert verdict.action == action
    assert [finding.message for finding in verdict.findings] == [f"{CHECK_FAILED}: TimeoutError"]


def slot_policy(kind: str = "text", **slot: Any) -> QualityPolicy:
    settings = {"path": "x", "sha256": "0" * 64, "kind": kind, "label": "toxic", "at_most": 0.5, **slot}
    return parse_policy({"models": {"toxicity": settings}}, "test")


def scored(score: float) -> CheckContext:
    return CheckContext(prompt="Why?", model_scores={"toxicity": score})


@pytest.mark.parametrize("on_fail", ["note", "regenerate", "fallback", "block"])
def test_what_a_model_objects_to_is_dealt_with_as_its_slot_says(on_fail: str) -> None:
    policy = slot_policy(on_fail=on_fail)
    verdict = judge(GOOD, scored(0.9), policy)
    assert verdict.action == ("deliver" if on_fail == "note" else on_fail)
    assert actions(verdict) == {"toxicity": on_fail}
    assert judge(GOOD, scored(0.1), policy) == judge(GOOD, scored(0.1), QualityPolicy())


@pytest.mark.parametrize(("kind", "lowered"), [("text", "safety"), ("pair", "relevance")])
def test_a_slot_lowers_the_sub_score_of_its_kind_and_caps_the_total(kind: str, lowered: str) -> None:
    policy = slot_policy(kind).model_copy(update={"score_caps": {"toxicity": 0.3}})
    verdict = judge(GOOD, scored(0.9), policy)
    assert [name for name, value in verdict.scores.items() if value < 1.0] == [lowered]
    assert verdict.score == 0.3


@pytest.mark.parametrize(("otherwise", "resort"), [("note", "deliver"), ("block", "block")])
def test_when_the_regeneration_is_spent_a_slot_says_what_is_left(otherwise: str, resort: str) -> None:
    policy = slot_policy(on_fail="regenerate", otherwise=otherwise)
    assert judge(GOOD, scored(0.9), policy).last_resort == resort


@pytest.mark.parametrize(("on_error", "action"), [("open", "deliver"), ("closed", "block")])
def test_a_slot_that_nobody_measured_never_passes_in_silence(on_error: str, action: str) -> None:
    verdict = judge(GOOD, CheckContext(), slot_policy(on_error=on_error))
    assert verdict.action == action
    assert [finding.check for finding in verdict.findings] == ["toxicity"]
    assert judge(GOOD, CheckContext(), slot_policy(on_error=on_error, enabled=False)).findings == ()


@pytest.mark.parametrize("name", [name for name, check in CHECKS.items() if check.severity == "hard"])
@pytest.mark.parametrize("on_fail", ["note", "block"])
def test_a_hard_check_that_raises_blocks_whatever_its_policy(
    name: str, on_fail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_check(name, monkeypatch)
    verdict = judge(GOOD, CheckContext(), make_policy(**{name: {"on_fail": on_fail}}))
    assert verdict.action == "block"
    assert verdict.scores["safety"] == 0.0


def test_a_hard_check_that_raises_blocks_even_where_it_is_set_to_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    break_check("pii", monkeypatch)
    assert judge(f"Write to {MAIL}.", CheckContext(), QualityPolicy()).action == "block"


def break_check(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_error(*_: object) -> tuple[Finding, ...]:
        raise RuntimeError("broken")

    broken = {**CHECKS, name: replace(CHECKS[name], run=raise_error)}
    monkeypatch.setattr(policy_module, "CHECKS", broken)


@pytest.mark.parametrize(
    ("text", "context", "resort"),
    [
        ("", CheckContext(), "fallback"),
        (LOOP, CheckContext(), "deliver"),
        ('{"b": 1', CheckContext(json_schema=SCHEMA), "block"),
        (f"The key is {KEY}.", CheckContext(), "block"),
    ],
)
def test_when_the_regeneration_is_spent_the_policy_says_what_is_left(
    text: str, context: CheckContext, resort: str
) -> None:
    policy = (
        make_policy(json_schema={"on_fail": "regenerate", "otherwise": "block"})
        if context.json_schema
        else QualityPolicy()
    )
    assert judge(text, context, policy).last_resort == resort


def test_a_threshold_of_the_policy_reaches_its_check() -> None:
    text = GOOD + " Some words stand in between here. " + GOOD
    assert judge(text, CheckContext(), QualityPolicy()).action == "regenerate"
    assert (
        judge(text, CheckContext(), parse_policy({"thresholds": {"duplicate_share": 0.9}}, "test")).action == "deliver"
    )
