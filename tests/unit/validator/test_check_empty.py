"""The empty check: answers that say nothing, and short ones that say enough."""

import pytest

from deployments.validator.checks import empty
from graph.contracts import CheckContext

QUESTION = "Why does the rain fall on the hills?"

CAUGHT = {
    "nothing": "",
    "space": "  \n\t ",
    "zero-width characters": "\u200b\u200d\ufeff",
    "bidi marks": "\u202e\u2066\u2069",
    "dots": "...",
    "markdown marks": "** **\n---\n",
    "lone surrogate": "\ud800",
    "echo": QUESTION,
    "echo in other case": "why does THE rain fall, on the hills",
}


@pytest.mark.parametrize("name", CAUGHT)
def test_an_answer_without_content_is_found(name: str) -> None:
    (finding,) = empty.check(CAUGHT[name], CheckContext(prompt=QUESTION))
    assert finding.severity == "soft"


PASSED = {
    "one word": "Yes",
    "one digit": "7",
    "emoji": "👍",
    "sign": "€",
    "chinese": "是",
    "question and answer": QUESTION + " Because clouds cool.",
    "part of the question": "rain fall on the hills",
    "code": "x",
}


@pytest.mark.parametrize("name", PASSED)
def test_a_short_answer_passes(name: str) -> None:
    assert empty.check(PASSED[name], CheckContext(prompt=QUESTION)) == ()


def test_a_greeting_may_be_given_back() -> None:
    assert empty.check("Hello there!", CheckContext(prompt="Hello there!")) == ()
