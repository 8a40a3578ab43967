"""Does an answer have the form that was asked for? Parsers written from what the API promises, not from the grammars.

Each takes the text of a finished answer and gives the fault, in words, or None. They are strict: a reader who takes
steps apart with a regular expression must never meet a line that is none.
"""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from jsonschema import Draft202012Validator

MIN_LINES, MAX_LINES = 3, 7
MAX_KEY_POINTS = 5
_SENTENCE = re.compile(r"\S.*[.!?]")
_STEP = re.compile(r"(\d+)\. (.*)")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")


def steps_fault(text: str) -> str | None:
    """Lines ``1. ...`` to ``n. ...`` without a gap, 3 to 7 of them, each ending as a sentence; nothing else."""
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        match = _STEP.fullmatch(line)
        if match is None or match[1] != str(number):
            return f"line {number} does not begin with '{number}. '"
        if _SENTENCE.fullmatch(match[2]) is None:
            return f"step {number} is no sentence"
    return _count_fault(len(lines), "steps")


def bullets_fault(text: str) -> str | None:
    """Lines ``- ...``, 3 to 7 of them, each ending as a sentence; nothing else."""
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.startswith("- "):
            return f"line {number} does not begin with '- '"
        if _SENTENCE.fullmatch(line[2:]) is None:
            return f"bullet {number} is no sentence"
    return _count_fault(len(lines), "bullets")


def envelope_fault(text: str) -> str | None:
    """One JSON object with the text ``answer`` and ``key_points``, a list of one to five texts; nothing else."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return f"is not JSON: {error.msg}"
    if not isinstance(value, dict) or set(value) != {"answer", "key_points"}:
        return "is not an object of answer and key_points"
    if not isinstance(value["answer"], str):
        return "answer is no text"
    points = value["key_points"]
    if not isinstance(points, list) or not all(isinstance(point, str) for point in points):
        return "key_points is no list of texts"
    return None if 1 <= len(points) <= MAX_KEY_POINTS else f"{len(points)} key points"


def schema_fault(text: str, schema: Mapping[str, Any]) -> str | None:
    """JSON that meets the caller's schema."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return f"is not JSON: {error.msg}"
    first = next(Draft202012Validator(dict(schema)).iter_errors(value), None)
    return None if first is None else first.message[:120]


def summary_fault(text: str) -> str | None:
    """A first line that ends as a sentence, an empty line, and then more."""
    head, _, rest = text.partition("\n\n")
    if "\n" in head or _SENTENCE.fullmatch(head) is None:
        return "the first line is no sentence"
    return None if rest.strip() else "nothing follows the summary"


def summary_steps_fault(text: str) -> str | None:
    """The same, and what follows are steps."""
    return summary_fault(text) or steps_fault(text.partition("\n\n")[2])


def citations_fault(text: str, ids: Collection[str]) -> str | None:
    """Every pair of square brackets holds one of the ids, and no bracket stands alone."""
    for cited in _BRACKETS.findall(text):
        if cited not in ids:
            return f"[{cited[:40]}] is no source"
    alone = _BRACKETS.sub("", text)
    return "a square bracket stands alone" if "[" in alone or "]" in alone else None


def count_citations(text: str) -> int:
    """Pairs of square brackets."""
    return len(_BRACKETS.findall(text))


def sentence_count(line: str) -> int:
    """Sentences of a line, by their end marks before a space or the end; an abbreviation counts as one more."""
    return len(re.findall(r"[.!?]+(?=\s|$)", line))


def _count_fault(count: int, what: str) -> str | None:
    return None if MIN_LINES <= count <= MAX_LINES else f"{count} {what}, not {MIN_LINES} to {MAX_LINES}"
