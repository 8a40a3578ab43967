"""Hostile and huge texts: every check and the guard come to an end and raise nothing."""

import time
from dataclasses import replace
from typing import Any

import pytest

from deployments.validator.checks import CHECKS
from deployments.validator.fixes import FIXES
from deployments.validator.guard import StreamGuard
from deployments.validator.policy import QualityPolicy, judge, parse_policy
from deployments.validator.thresholds import DEFAULTS
from graph.contracts import AnswerFormat, CheckContext

MEGABYTE = 1_000_000
LIMIT_S = 5
"""Several times what the slowest check takes here: a quadratic one takes minutes."""
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
    "zero-width space and letter": "\u200ba",
    "bidi override": "\u202e",
    "isolated letter": "\u2066a\u2069",
    "address turned round": "jane\u202edoe@ac\u202eme.com ",
    "key with a mark": "ghp_\u200b" + "aB3d" * 9 + " ",
    "combining mark": "\u0301",
    "letter with marks": "a" + "\u0301" * 50,
    "mixed scripts": "a\u0431\u3058\u3042\u5b57\u0905\ud55c\u0e01\u05d0",
    "words of mixed scripts": "aa \u0431\u0431 \u5b57 \u0e01\u0e01 \u05d0\u05d0 ",
    "half pairs the wrong way round": "\udc00\ud800",
    "joined emoji": "\U0001f468\u200d\U0001f469\u200d",
    "open objects": '{"a":[',
    "lone surrogate": "\ud800",
    "system words": "alpha beta gamma delta epsilon zeta ",
    "changed system words": "alpha beta gamma but epsilon zeta so eta theta ",
    "system words now and then": "alpha beta but so if then ",
    "asterisk": "*",
    "underscore": "_ab ",
    "parenthesis": "(",
    "nonword": "qzxwv ",
    "swear word": "fuck ",
    "refusal": "I am very sorry but I can not ",
}
MEASURED: dict[str, Any] = {"target_words": 100, "relevance": 0.0, "reading_level": (1.0, 2.0)}
HARD = [name for name, check in CHECKS.items() if check.severity == "hard"]
CONTEXT = CheckContext(
    prompt="Please explain to me in detail how the rain is made.",
    system="alpha beta gamma delta epsilon zeta eta theta",
    known_text="nothing",
)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("unit", UNITS)
def test_a_check_comes_to_an_end_on_a_megabyte_in_one_line(name: str, unit: str) -> None:
    text = (UNITS[unit] * (MEGABYTE // len(UNITS[unit]) + 1))[:MEGABYTE]
    formats: dict[str, AnswerFormat] = {"structure": "steps", "json_schema": "json"}
    context = replace(CONTEXT, answer_format=formats.get(name, "plain"), **MEASURED)
    began = time.process_time()
    findings = CHECKS[name].run(text, context, DEFAULTS)
    grade = CHECKS[name].grade
    graded = grade and grade(text, context, DEFAULTS)
    assert time.process_time() - began < LIMIT_S
    assert all(f.span is None or 0 <= f.span[0] < f.span[1] <= len(text) for f in findings)
    assert graded is None or 0.0 <= graded <= 1.0


@pytest.mark.exhaustive
@pytest.mark.parametrize("unit", UNITS)
def test_the_guard_releases_a_long_line_as_it_came(unit: str) -> None:
    size = MEGABYTE if unit == "letter" else MEGABYTE // 5
    text = (UNITS[unit] * (size // len(UNITS[unit]) + 1))[:size]
    policy = parse_policy({"checks": {name: {"on_fail": "note"} for name in HARD}}, "test")
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


def test_a_text_of_everything_hostile_is_judged_and_streamed() -> None:
    text = "".join(unit * 40 for unit in UNITS.values())
    context = replace(CONTEXT, prompt=text, system=text, known_text=text, target_words=100)
    for mixed in (text, text[::-1]):
        began = time.process_time()
        verdict = judge(mixed, context, QualityPolicy())
        assert time.process_time() - began < LIMIT_S
        assert not any("check failed" in finding.message for finding in verdict.findings)
        guard = StreamGuard(context, QualityPolicy())
        for at in range(0, len(mixed), 100):
            assert not any("check failed" in finding.message for finding in guard.feed(mixed[at : at + 100]).findings)


DISTANT = [f"{'abcdefghijklmnopqrst'[at % 20 :]}{'abcdefghijklmnopqrst'[: at % 20]}" for at in range(20)]
"""Words of twenty characters, all different."""
STRANGE = [word[::-1] for word in DISTANT]
KEY_LINE = "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY" * 2 + "\n"
HOLDING: dict[str, list[str]] = {
    "secrets": [
        "Here it is: -----BEGIN RSA PRIVATE KEY-----\n" + KEY_LINE * 300 + "and so on " * 100,
        "Here it is: -----BEGIN RSA PRIVATE KEY-----\n" + KEY_LINE.strip() * 300 + " and so on" * 100,
        "Here it is: -----BEGIN PRIVATE KEY----- " + "and so on " * 100,
        "Here it is: eyJ" + "a" * 1_999 + "." + "b" * 6_100 + " and so on",
        "a" * 3_000,
    ],
    "pii": [
        "a" * 3_000,
        ("jane.doe" * 8 + "@" + ("a" * 63 + ".") * 4 + "com/") * 10,
        "jane.doe@acme.com," * 200,
        "+49 (30) 901820 - 17 " * 50,
        "DE89 . 3704 . 0044 . 0532 . 0130 . 00 " * 50,
    ],
    "prompt_leak": [" ".join([*DISTANT[at : at + 6], DISTANT[at + 6][:-1] + "but"]) for at in range(13)],
    "near_leak": [
        # Six words in common, then every other one: a walk that stays below a leak until its changes are spent.
        " ".join(word if at < 6 or at % 2 else STRANGE[at] for at, word in enumerate(DISTANT)),
        " ".join([*DISTANT[:2], *STRANGE[2:5], *DISTANT[5:7], *STRANGE[7:10], *DISTANT[10:12], *STRANGE]),
    ],
}
"""Texts that keep a hard check undecided for long, in ordinary print."""


@pytest.mark.parametrize("name", HARD)
def test_of_ordinary_text_the_guard_holds_no_more_than_the_check_declares(name: str) -> None:
    declared = CHECKS[name].look_back
    others = {other: {"enabled": False} for other in HARD if other != name}
    most = 0
    for on_fail in ("block", "fix") if name in FIXES else ("block",):
        policy = parse_policy({"checks": {**others, name: {"on_fail": on_fail}}}, "test")
        for text in HOLDING[name]:
            guard = StreamGuard(CheckContext(system=" ".join(DISTANT * 3)), policy)
            for at in range(0, len(text), 3):
                guard.feed(text[at : at + 3])
                most = max(most, guard.held)
    assert most <= declared + declared // 32
    assert most >= declared // 4, "far more is declared than is ever held"


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
