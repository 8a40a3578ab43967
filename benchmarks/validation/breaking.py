"""Breaks an answer off, and breaks JSON."""

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from benchmarks.validation.cases import Case, Severity, context_of
from benchmarks.validation.corpus import Record
from benchmarks.validation.texts import find_sentences

__all__ = ["JSON_KINDS", "break_json", "cut_code", "cut_text"]

_MIN_KEPT = 0.3
"""Share of the text before a cut: a question is seldom answered by two words."""
_MIN_WORDS = 20
_LONG_WORD = re.compile(r"[^\W\d_]{5,}")
# Between two words of one line, the first of which ends nothing.
_GAP = re.compile(r"(?<=[\w,;)*`])[ ](?=\S)")
_LAST_WORDS = 6
"""A last line of fewer words may be a signature."""
_FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def cut_text(record: Record, rng: random.Random, severity: Severity) -> Case | None:
    """Severe: inside a word; medium: between two words of a sentence; mild: only the last words are missing."""
    text = record.text
    if "```" in text or len(text.split()) < _MIN_WORDS:
        return None
    first = int(_MIN_KEPT * len(text))
    if severity == "severe":
        words = list(_LONG_WORD.finditer(text, first))
        places = [rng.randint(word.start() + 2, word.end() - 2) for word in words]
    elif severity == "medium":
        places = [gap.start() for gap in _GAP.finditer(text, first)]
    else:
        last_line = text.rfind("\n") + 1
        sentences = [start for start, _ in find_sentences(text) if start >= last_line]
        gaps = [gap.start() for gap in _GAP.finditer(text, sentences[-1] if sentences else last_line)]
        places = gaps[-4:] if len(text[last_line:].split()) >= _LAST_WORDS else []
    if not places:
        return None
    cut = text[: rng.choice(places)]
    what = {"severe": "inside a word", "medium": "between words", "mild": "last words missing"}[severity]
    return _cut_case(record, f"{what}, {_describe_line(cut)}", severity, cut)


def cut_code(record: Record, rng: random.Random) -> Case | None:
    """Inside a code block, at the end of one of its lines."""
    blocks = list(_FENCED.finditer(record.text))
    if not blocks:
        return None
    block = rng.choice(blocks)
    ends = [block.start(1) + line.end() for line in re.finditer(r"[^\n]+", block[1])]
    return _cut_case(record, "inside a code block", "severe", record.text[: rng.choice(ends)]) if ends else None


def _cut_case(record: Record, kind: str, severity: Severity, text: str) -> Case:
    # The engine says that it stopped by itself: only the text tells.
    return Case(record.id, "truncation", kind, severity, text, context_of(record), None, "truncation")


def _describe_line(text: str) -> str:
    last = text[text.rfind("\n") + 1 :]
    if re.match(r"\s*(?:[-*+•]\s|\d{1,3}[.)]\s)", last):
        return "list"
    return "table" if last.lstrip().startswith("|") else "heading" if last.startswith("#") else "prose"


def break_json(record: Record, rng: random.Random, kind: str) -> Case | None:
    """The record as JSON, broken in one of the ways of ``_JSON_BREAKS``, under the schema that it met before."""
    sentences = [record.text[start:end] for start, end in find_sentences(record.text, min_words=3)]
    if not sentences:
        return None
    value = {
        "question": record.question,
        "kind": record.kind,
        "words": len(record.text.split()),
        "reviewed": rng.random() < 0.5,
        "points": sentences[:3],
    }
    severity, spoil = _JSON_BREAKS[kind]
    context = replace(context_of(record), answer_format="json", json_schema=_SCHEMA)
    return Case(record.id, "json_schema", kind, severity, spoil(value, rng), context, None, "json_schema")


_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "question": {"type": "string"},
        "kind": {"type": "string"},
        "words": {"type": "integer"},
        "reviewed": {"type": "boolean"},
        "points": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["question", "kind", "words", "reviewed", "points"],
    "additionalProperties": False,
}


def _write(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _cut(value: Mapping[str, Any], rng: random.Random) -> str:
    text = _write(value)
    return text[: rng.randint(len(text) // 5, len(text) - 2)]


def _drop_comma(value: Mapping[str, Any], rng: random.Random) -> str:
    # Written with one entry a line, and newlines inside strings are escaped: these commas separate entries.
    text = _write(value)
    at = rng.choice([match.start() for match in re.finditer(r",$", text, re.MULTILINE)])
    return text[:at] + text[at + 1 :]


def _put_prose_before(value: Mapping[str, Any], rng: random.Random) -> str:
    lead = rng.choice(["Here is the JSON you asked for:", "Sure! This meets your schema:", "The result:"])
    return f"{lead}\n\n{_write(value)}"


def _rename_key(value: Mapping[str, Any], rng: random.Random) -> str:
    wrong = rng.choice(list(value))
    return _write({(f"{key}_text" if key == wrong else key): each for key, each in value.items()})


def _change_type(value: Mapping[str, Any], rng: random.Random) -> str:
    wrong = rng.choice(["words", "reviewed", "points"])
    return _write({**value, wrong: str(value[wrong])})


_JSON_BREAKS: Mapping[str, tuple[Severity, Callable[[Mapping[str, Any], random.Random], str]]] = {
    "cut": ("severe", _cut),
    "comma missing": ("medium", _drop_comma),
    "prose before": ("medium", _put_prose_before),
    "wrong key": ("mild", _rename_key),
    "wrong type": ("mild", _change_type),
}
JSON_KINDS = tuple(_JSON_BREAKS)
