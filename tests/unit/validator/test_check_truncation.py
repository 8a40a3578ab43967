"""The truncation check: cut answers, and the many that rightly end without a full stop."""

import pytest

from deployments.validator.checks import truncation
from graph.contracts import CheckContext

LEAD = "Rain falls when warm air rises and cools. Clouds form out of tiny drops. "

CAUGHT = {
    "mid-sentence": LEAD + "After some hours the drops are heavy enough to",
    "mid-word": LEAD + "After some hours the drops are heavy enough to fa",
    "after a comma": LEAD + "After some hours, when drops are heavy,",
    "after a colon": LEAD + "The three kinds of clouds are:",
    "open bracket": LEAD + "The drops are heavy (",
    "open code block": "Run this:\n\n```python\nprint('hello')\nfor x in range(",
    "open code block of tildes": "Run this:\n\n~~~\nmake\n",
    "dangling conjunction in a list": "- rain and wind and clouds\n- snow in the mountains and",
    "chinese": "水循环在海洋、大气和陆地之间移动水分。太阳的热量使水蒸发并形成云然后风把云带到很远的地方去",
    "german": LEAD + "Danach fallen die Tropfen auf die Erde und fließen in die",
}


@pytest.mark.parametrize("name", CAUGHT)
def test_a_cut_answer_is_found(name: str) -> None:
    (finding,) = truncation.check(CAUGHT[name], CheckContext())
    assert finding.severity == "soft"


PASSED = {
    "full sentences": LEAD,
    "one word": "Paris",
    "short answer": "42 kilometres per hour",
    "quotation": LEAD + 'She said: "It rains."',
    "bold end": LEAD + "**That is all.**",
    "emoji": LEAD + "Now you know all there is to know about the rain ☔",
    "list without stops": "Pack this:\n\n- a warm coat for the evening hours in the mountains\n- boots\n- a map of the northern part of the long valley",
    "numbered list": "1. Boil the water in a large pot with a little salt\n2. Add the pasta and stir it once or twice a minute",
    "things to look for": "- the price you pay\n- the size and colour that you are looking for",
    "table": "| month | rain in mm per square metre of land |\n|---|---|\n| May | 60 of the usual eighty in the year |",
    "closed code block": "Run this:\n\n```python\nprint('hello')\n```",
    "nested fences": "````md\n```python\nx = 1\n```\n````",
    "poem": "The rain falls on the roof tonight\nand no one counts the hours\nthe street is dark, the lamp is bright\nit drums upon the flowers",
    "signature": "Dear Ada,\n\nThank you for the report.\n\nBest regards,\nThe team of the harbour office",
    "closing line": "Thank you for the report.\n\nBest regards,",
    "heading": "Some text.\n\n## What to read next about rain in the mountains of Norway",
    "link": "Read this.\n\nhttps://example.com/a/very/long/path",
    "language name": "Use C++",
    "thai": "ฝนตกเมื่ออากาศอุ่นลอยขึ้นและเย็นลง เมฆก่อตัวขึ้นจากหยดน้ำเล็กๆ",
    "chinese": "水循环在海洋、大气和陆地之间移动水分。",
    "hindi": "पानी समुद्र, हवा और ज़मीन के बीच घूमता रहता है और यह कभी नहीं रुकता।",
}


@pytest.mark.parametrize("name", PASSED)
def test_a_whole_answer_passes(name: str) -> None:
    assert truncation.check(PASSED[name], CheckContext()) == ()


def test_a_cut_by_the_token_limit_is_found_in_any_text() -> None:
    (finding,) = truncation.check(LEAD, CheckContext(finish_reason="length"))
    assert finding.severity == "soft"


@pytest.mark.parametrize("text", [LEAD, CAUGHT["mid-sentence"]])
def test_a_cut_that_the_caller_asked_for_is_a_note(text: str) -> None:
    (finding,) = truncation.check(text, CheckContext(finish_reason="length", caller_limited=True))
    assert finding.severity == "note"


def test_cut_json_is_left_to_the_schema_check() -> None:
    assert truncation.check('{"a": [1, 2,', CheckContext(answer_format="json")) == ()
    assert truncation.check('{"a": [1, 2,', CheckContext(json_schema={})) == ()
