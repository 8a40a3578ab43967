"""Hostile and huge texts: every check and the guard come to an end and raise nothing."""

import pytest

from deployments.validator.checks import CHECKS
from deployments.validator.guard import StreamGuard
from deployments.validator.policy import QualityPolicy, judge, parse_policy
from deployments.validator.thresholds import DEFAULTS
from graph.contracts import AnswerFormat, CheckContext

MEGABYTE = 1_000_000
UNITS = {
    "letter": "a",
    "digit": "1",
    "digits and spaces": "1 ",
    "card-like groups": "4111 1111 ",
    "space": " ",
    "newline": "\n",
    "at sign": "@",
    "address-like": "a@a.",
    "url-like": "://a:",
    "plus": "+1",
    "hyphen": "-",
    "jwt-like": "eyJ",
    "jwt-like parts": "eyJaaaaaaaaaa.",
    "openai-like": "sk-",
    "key-like": "ghp_",
    "pem header": "-----BEGIN PRIVATE KEY-----",
    "pem header and body": "-----BEGIN PRIVATE KEY-----\n" + "aB3d" * 8 + "\n",
    "aws": "aws key ",
    "bracket": "[",
    "brace": "{",
    "quote": '"',
    "backtick": "`",
    "fence": "```\n",
    "pipe": "|",
    "bullet": "- ",
    "chinese": "雨",
    "zero-width space": "\u200b",
    "bidi override": "\u202e",
    "lone surrogate": "\ud800",
    "system words": "alpha beta gamma delta epsilon zeta ",
}
CONTEXT = CheckContext(
    prompt="Please explain to me in detail how the rain is made.",
    system="alpha beta gamma delta epsilon zeta eta theta",
    known_text="nothing",
)


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("unit", UNITS)
def test_a_check_comes_to_an_end_on_a_megabyte_in_one_line(name: str, unit: str) -> None:
    text = (UNITS[unit] * (MEGABYTE // len(UNITS[unit]) + 1))[:MEGABYTE]
    formats: dict[str, AnswerFormat] = {"structure": "steps", "json_schema": "json"}
    context = CheckContext(CONTEXT.prompt, CONTEXT.system, CONTEXT.known_text, answer_format=formats.get(name, "plain"))
    findings = CHECKS[name].run(text, context, DEFAULTS)
    assert all(f.span is None or 0 <= f.span[0] < f.span[1] <= len(text) for f in findings)


@pytest.mark.parametrize("unit", UNITS)
def test_the_guard_releases_a_long_line_as_it_came(unit: str) -> None:
    size = MEGABYTE if unit == "letter" else MEGABYTE // 5
    text = (UNITS[unit] * (size // len(UNITS[unit]) + 1))[:size]
    policy = parse_policy({"checks": {name: {"on_fail": "note"} for name in ("secrets", "pii", "prompt_leak")}}, "test")
    guard = StreamGuard(CONTEXT, policy)
    released = [guard.feed(text[at : at + 1000]).text for at in range(0, len(text), 1000)]
    assert "".join(released) + guard.flush().text == text


@pytest.mark.parametrize("unit", ["letter", "digit", "hyphen", "chinese", "zero-width space", "digits and spaces"])
def test_the_guard_never_holds_more_than_a_word_of_an_endless_run(unit: str) -> None:
    guard = StreamGuard(CheckContext(), QualityPolicy())
    most = 0
    for _ in range(5_000):
        guard.feed(UNITS[unit])
        most = max(most, guard.held)
    assert most <= 512 + 512 // 32


def test_other_scripts_leave_at_once() -> None:
    guard = StreamGuard(CheckContext(), QualityPolicy())
    assert [guard.feed(part).text for part in ("雨落", "在山", "上")] == ["雨落", "在山", "上"]


@pytest.mark.parametrize(
    "text", ["\ud800", "a\udfff b", "\u202egro.elpmaxe@a\u202c", "\u200bp\u200ba\u200bs\u200bs", "\x00\x1b[0m"]
)
def test_strange_characters_raise_nothing(text: str) -> None:
    verdict = judge(text * 20, CONTEXT, QualityPolicy())
    assert not any("check failed" in finding.message for finding in verdict.findings)
    guard = StreamGuard(CONTEXT, QualityPolicy())
    assert guard.feed(text * 20).text + guard.flush().text == text * 20
