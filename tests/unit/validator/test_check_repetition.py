"""The repetition check: loops, and the texts that repeat on purpose."""

import pytest

from deployments.validator.checks import repetition
from graph.contracts import CheckContext

SENTENCE = "The water rises from the sea and falls on the hills. "
PARAGRAPH = (
    "Heat from the sun lifts vapour from oceans and lakes, which cools as it rises and forms clouds. "
    "Wind carries these clouds over mountains where droplets join and fall as rain on forests and fields. "
)

CAUGHT = {
    "sentence loop": SENTENCE * 5,
    "sentence loop after a good start": PARAGRAPH + SENTENCE * 4,
    "sentence loop that was cut": PARAGRAPH + SENTENCE * 4 + "The water rises from",
    "paragraph loop": (PARAGRAPH + "\n\n") * 3,
    "phrase loop": "It is important " + "to note that it is important " * 8,
    "word loop": "The answer is " + "very " * 30 + "long.",
    "token loop": "The answer is " + "the" * 60,
    "character loop": "No" + "o" * 200,
    "far copies": PARAGRAPH + "Some other words stand here in between. " + PARAGRAPH,
    "list loop": "- Buy milk and bread at the store\n" * 12,
    "chinese loop": "水从海里升起然后落在山上。" * 6,
}


@pytest.mark.parametrize("name", CAUGHT)
def test_a_loop_is_found(name: str) -> None:
    (finding,) = repetition.check(CAUGHT[name], CheckContext())
    assert finding.severity == "soft"


PASSED = {
    "prose": PARAGRAPH,
    "code": "```python\n" + "print('the same line again and again and again')\n" * 20 + "```",
    "indented code": "Like so:\n\n" + "    x = compute(x, y, z, a, b, c, d, e, f)\n" * 10,
    "table": "| name | unit | value |\n|---|---|---|\n" + "| rain | millimetres per square metre | 0 |\n" * 15,
    "poem with a refrain": (
        "The ship goes out at dawn of day\nand no one waves from shore\n"
        "Oh roll the waves, oh roll away\nand bring me back once more\n\n"
        "The gulls are crying overhead\nthe harbour lights are gone\n"
        "Oh roll the waves, oh roll away\nand bring me back once more\n\n"
        "The winter came, the sails were torn\nwe prayed upon the floor\n"
        "Oh roll the waves, oh roll away\nand bring me back once more\n"
    ),
    "list with one opening": "\n".join(
        f"- The price of {item} is not known yet" for item in ["tea", "milk", "rice", "salt"]
    ),
    "rhetoric": "No, no, no! That is not what I said, and you know it.",
    "laughter": "Hahahahaha, that was a good one.",
    "row of zeros": "The matrix is 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 in each of its rows.",
    "rule": "-" * 200 + "\nA heading between two rules\n" + "=" * 200,
    "short": "Yes. Yes.",
    "quoted question": "You ask why water rises from the sea. Water rises from the sea because the sun heats it.",
}


@pytest.mark.parametrize("name", PASSED)
def test_what_repeats_on_purpose_passes(name: str) -> None:
    assert repetition.check(PASSED[name], CheckContext()) == ()


def test_a_loop_that_the_engine_stopped_is_found() -> None:
    (finding,) = repetition.check(PARAGRAPH, CheckContext(finish_reason="repetition"))
    assert finding.severity == "soft"


def test_a_loop_in_an_answer_that_the_caller_keeps_running_is_a_note() -> None:
    (finding,) = repetition.check(SENTENCE * 5, CheckContext(caller_limited=True))
    assert finding.severity == "note"


def test_the_repeated_tail_begins_with_its_second_copy() -> None:
    text = PARAGRAPH + SENTENCE * 4
    tail = repetition.find_repeated_tail(text)
    assert tail is not None
    assert text[: tail[0]] == PARAGRAPH + SENTENCE
