"""How long a pattern may take: what is slow is never taken for fast."""

import math

import pytest

from deployments.validator.pattern_steps import estimate_steps


@pytest.mark.parametrize(
    "pattern",
    [
        "^(a+)+$", "(a|a)*b", "(?:ab)+", r"(a)\1", "(?=a)b", "(a{2}){3}", "(a|a)" * 25, "(?:a?){9}", "a?" * 30,
        "a*" * 9, "(" * 3_000 + "|" * 3_000 + ")" * 3_000,
    ],
)  # fmt: skip
def test_what_may_take_exponential_time_is_not_estimated(pattern: str) -> None:
    assert estimate_steps(pattern, 40) == math.inf


@pytest.mark.parametrize(
    "pattern",
    ["^[0-9]{5}(-[0-9]{4})?$", "^(mon|tue|wed|thu|fri|sat|sun)$", "^[A-Z]{2}[0-9]+$", r"^\(\d+\)$", "[*+?]+x"],
)
def test_what_schemas_usually_have_is_cheap(pattern: str) -> None:
    assert estimate_steps(pattern, 40) < 10_000


@pytest.mark.parametrize(
    ("pattern", "slower"),
    [
        ("^a*b", "a*b"),
        ("a*b", "a*a*b"),
        (r"\*\*b", r"\\*\\*b"),
        ("[a*]b", "[a]*b"),
        ("ab", "a?b"),
        ("a*b", "^a*b|c"),
        ("(a|b)c", "(a|b)(a|b)c"),
        ("a{3}b", "a{30}b"),
        ("a{3}b", "a{3,}b"),
    ],
)
def test_each_part_that_backtracks_counts(pattern: str, slower: str) -> None:
    assert estimate_steps(pattern, 100) < estimate_steps(slower, 100)
