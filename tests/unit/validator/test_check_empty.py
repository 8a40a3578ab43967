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
    "echo after a phrase": f"Sure! You asked: {QUESTION}",
    "echo twice": f"{QUESTION}\n\n**{QUESTION}**",
    "echo again and again": f"Q: {QUESTION} " * 4,
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
    "question and a word": QUESTION + " Gravity.",
    "question in an answer": f"A child once asked me this: {QUESTION}",
    "quoted in its middle": f"'{QUESTION}' is the title.",
    "code": "x",
}


@pytest.mark.parametrize("name", PASSED)
def test_a_short_answer_passes(name: str) -> None:
    assert empty.check(PASSED[name], CheckContext(prompt=QUESTION)) == ()


@pytest.mark.parametrize(
    "prompt",
    [
        "What causes rain?",
        "what is rain",
        "What's a sonnet?",
        "Describe a barn owl.",
        "Define entropy.",
        "Comment vas-tu ?",
    ],
)
@pytest.mark.parametrize("echo", ["{}", '"{}"', "{}\n\n{}"])
def test_a_short_question_or_request_is_no_answer_to_itself(prompt: str, echo: str) -> None:
    assert empty.check(echo.replace("{}", prompt), CheckContext(prompt=prompt)) != ()
    assert empty.check(echo.replace("{}", prompt).upper(), CheckContext(prompt=prompt)) != ()


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("How do you do?", "How do you do?"),
        ("Where are you?", "At home. Where are you?"),
        ("All set then?", "All set then."),
        ("Why not?", "Why not?"),
        ("Merry Christmas, dear!", "Merry Christmas, dear!"),
        ("Explain", "Explain"),
    ],
)
def test_a_few_words_may_answer_themselves(prompt: str, answer: str) -> None:
    assert empty.check(answer, CheckContext(prompt=prompt)) == ()


def test_a_greeting_may_be_given_back() -> None:
    assert empty.check("Hello there!", CheckContext(prompt="Hello there!")) == ()


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ('Correct the spelling only: "we recieved your leter"', '"We received your letter"'),
        ("Sort these alphabetically: pear, apple, fig, quince", "apple, fig, pear, quince"),
        ("Write the sentence in capitals: please keep off the grass", "PLEASE KEEP OFF THE GRASS"),
        ("Say it again: the rain falls on the green hills", "The rain falls on the green hills."),
    ],
)
def test_a_part_of_the_prompt_may_be_what_was_asked_for(prompt: str, answer: str) -> None:
    assert empty.check(answer, CheckContext(prompt=prompt)) == ()


def test_a_very_long_echo_is_found_in_time() -> None:
    prompt = "the rain falls and " * 50_000 + "stops"
    assert empty.check(f"Sure: {prompt} {prompt}", CheckContext(prompt=prompt)) != ()
    assert empty.check(f"Sure: {prompt} {prompt} at last", CheckContext(prompt=prompt)) == ()
