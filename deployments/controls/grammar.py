"""Answer forms as xgrammar structural tags: what a format switch guarantees.

Pure: builds the JSON that vLLM hands to xgrammar 0.2.8 (its blocks: ``xgrammar/structural_tag.py``). One request
has one tag, so switches that combine (summary first, steps, citations) combine in here.

Bounded text is ``any_text`` with ``max_chars``, never a bounded regex or a ``maxLength``: against a vocabulary of
49k tokens, on one shared core, steps of ``[^\\n]{8,160}`` took 1.3 s to compile and a JSON string with
``maxLength: 1000`` 2.7 s, the same with ``any_text`` 0.15 s and 0.015 s; a bounded EBNF repetition compiled in
0.01 s but then took 250 ms a mask. The price: JSON texts hold no escapes, that is no line breaks and no double
quotes (xgrammar's ``maxLength`` forbids them as well).
"""

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deployments.controls.knobs import Forms, interpolate
from graph.contracts import AnswerFormat

Block = dict[str, Any]
Kind = Literal["schema", "json", "steps", "bullets", "summary", "citations"]

MIN_LINES = 3
# A capital, eight characters and a full stop: shorter lines are fragments ("Yes.").
MIN_LINE_BODY_CHARS = 8
MAX_CITATIONS_PER_LINE = 3
MAX_KEY_POINTS = 5
# Grammars are compiled and cached by their text: in steps of 20 characters, neighbouring depths share one.
CHARS_STEP = 20

_CAPITALS = "A-Z" + "".join(
    letter
    # Latin-1 Supplement, Latin Extended-A, Latin Extended Additional (Vietnamese)
    for block in (range(0xC0, 0x180), range(0x1E00, 0x1F00))
    for letter in map(chr, block)
    if unicodedata.category(letter) == "Lu"
)
_SENTENCE_END: Block = {"type": "regex", "pattern": "[.!?]"}


@dataclass(frozen=True, slots=True)
class AnswerGrammar:
    """One structural tag and what is known of the texts that it accepts. Read-only: blocks are shared."""

    kind: str
    """What it is made of, joined by ``+``: for example ``summary+steps``."""
    tag: Mapping[str, Any]
    max_chars: int | None
    """The most characters that it accepts; None: no bound, the model ends the answer."""
    json_schema: Mapping[str, Any] | None = None
    """What the accepted JSON meets; None: not JSON."""
    is_closed: bool = True
    """The grammar, not the model, decides where the answer may end: a minimum length would contradict it."""


def build_grammar(
    answer_format: AnswerFormat,
    *,
    summary_first: bool,
    source_ids: tuple[str, ...],
    is_latin: bool,
    level: int,
    forms: Forms,
) -> AnswerGrammar | None:
    """Build the one tag that holds an answer to all of its form switches, or None where nothing asks for a form.

    Args:
        answer_format: ``bullets``, ``steps`` and ``json`` are forms; ``markdown`` and ``plain`` are free text.
        summary_first: The first line is one bounded sentence (in JSON: the first key is ``summary``).
        source_ids: The only ids that may stand in square brackets; empty: brackets are free.
        is_latin: Sentences open with a capital and end with ``.``, ``!`` or ``?``; otherwise neither is asked for.
        level: Depth, 0..100: sizes lines and texts.
        forms: The sizes.
    """
    if answer_format == "json":
        return _json_envelope(summary_first, source_ids, level, forms)
    parts: list[Block] = []
    kinds: list[Kind] = []
    chars = 0
    if summary_first:
        summary_chars = _rounded(interpolate(forms.summary_chars, level))
        parts += [_line(summary_chars, source_ids, is_latin), _const("\n\n")]
        kinds.append("summary")
        chars += _line_bound(summary_chars, source_ids) + 2
    if answer_format in ("steps", "bullets"):
        line_chars = _rounded(interpolate(forms.line_chars, level))
        max_lines = round(interpolate(forms.max_lines, level))
        line = _line(line_chars, source_ids, is_latin)
        parts += _steps(line, max_lines) if answer_format == "steps" else _bullets(line, max_lines)
        kinds.append("steps" if answer_format == "steps" else "bullets")
        # "\n1. " is the longest mark
        chars += max_lines * (_line_bound(line_chars, source_ids) + 4)
    elif source_ids:
        parts.append(_cited_text(source_ids))
    elif summary_first:
        parts.append({"type": "any_text"})
    if source_ids:
        kinds.append("citations")
    if not parts:
        return None
    is_closed = answer_format in ("steps", "bullets")
    tag = _tag(_sequence(*parts))
    return AnswerGrammar("+".join(kinds), tag, chars if is_closed else None, is_closed=is_closed)


def schema_grammar(schema: Mapping[str, Any]) -> AnswerGrammar:
    """Hold an answer to a caller's JSON schema, which ``schema_guard.check_schema`` has accepted."""
    tag = _tag({"type": "json_schema", "json_schema": dict(schema)})
    return AnswerGrammar("schema", tag, None, json_schema=schema)


def _json_envelope(summary_first: bool, source_ids: tuple[str, ...], level: int, forms: Forms) -> AnswerGrammar:
    answer_chars = _rounded(interpolate(forms.json_answer_chars, level))
    point_chars = _rounded(interpolate(forms.json_point_chars, level))
    summary_chars = _rounded(interpolate(forms.summary_chars, level)) if summary_first else 0
    properties: dict[str, Any] = {}
    parts: list[Block] = [_const("{")]
    if summary_first:
        properties["summary"] = {"type": "string", "maxLength": summary_chars}
        parts += [_const('"summary": '), _json_text(summary_chars, source_ids), _const(", ")]
    properties["answer"] = {"type": "string", "maxLength": answer_chars}
    parts += [_const('"answer": '), _json_text(answer_chars, source_ids), _const(', "key_points": ')]
    properties["key_points"] = {
        "type": "array",
        "items": {"type": "string", "maxLength": point_chars},
        "minItems": 1,
        "maxItems": MAX_KEY_POINTS,
    }
    parts.append(_json_array(_json_text(point_chars, source_ids), MAX_KEY_POINTS))
    # quotes, commas, brackets and keys: 100 is above their sum
    chars = 100 + summary_chars + answer_chars + MAX_KEY_POINTS * (point_chars + 4)
    if source_ids:
        properties["sources"] = {
            "type": "array",
            "items": {"enum": list(source_ids)},
            "minItems": 1,
            "maxItems": len(source_ids),
        }
        either = {"type": "or", "elements": [_const(f'"{source_id}"') for source_id in source_ids]}
        parts += [_const(', "sources": '), _json_array(either, len(source_ids))]
        chars += sum(4 + max(map(len, source_ids)) for _ in source_ids)
    parts.append(_const("}"))
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    kind = "+".join(["summary"] * summary_first + ["json"] + ["citations"] * bool(source_ids))
    return AnswerGrammar(kind, _tag(_sequence(*parts)), chars, json_schema=schema)


def _json_text(max_chars: int, source_ids: tuple[str, ...]) -> Block:
    # RFC 8259, section 7: quote, backslash and control characters may not stand unescaped in a string.
    excludes = ['"', "\\", *map(chr, range(0x20))]
    if source_ids:
        excludes += ["[", "]"]  # ids stand in "sources", where they are checked
    return _sequence(_const('"'), {"type": "any_text", "excludes": excludes, "max_chars": max_chars}, _const('"'))


def _json_array(item: Block, max_items: int) -> Block:
    more = {"type": "repeat", "min": 0, "max": max_items - 1, "content": _sequence(_const(", "), item)}
    return _sequence(_const("["), item, *([more] if max_items > 1 else []), _const("]"))


def _steps(line: Block, max_lines: int) -> list[Block]:
    tail: Block | None = None
    for number in range(max_lines, MIN_LINES, -1):
        step = _sequence(_const(f"\n{number}. "), line, *([tail] if tail else []))
        tail = {"type": "optional", "content": step}
    parts = [_const("1. "), line, _const("\n2. "), line, _const("\n3. "), line]
    return [*parts, tail] if tail else parts


def _bullets(line: Block, max_lines: int) -> list[Block]:
    more = _sequence(_const("\n- "), line)
    return [
        _const("- "),
        line,
        {"type": "repeat", "min": MIN_LINES - 1, "max": max_lines - 1, "content": more},
    ]


def _line(max_chars: int, source_ids: tuple[str, ...], is_latin: bool) -> Block:
    """One line of at most ``max_chars`` characters, and before its end up to three citations."""
    brackets = r"\[\]" if source_ids else ""
    excludes = ["\n", *("[]" if source_ids else "")]
    cited = [_citations(source_ids)] if source_ids else []
    if not is_latin:
        # Scripts without capitals, and Thai, Chinese or Hindi with full stops of their own: only bounded.
        start = {"type": "regex", "pattern": rf"[^ \t\n{brackets}]"}
        return _sequence(start, {"type": "any_text", "excludes": excludes, "max_chars": max_chars - 1}, *cited)
    start = {"type": "regex", "pattern": rf"[{_CAPITALS}][^\n{brackets}]{{{MIN_LINE_BODY_CHARS}}}"}
    rest = {"type": "any_text", "excludes": excludes, "max_chars": max_chars - MIN_LINE_BODY_CHARS - 2}
    return _sequence(start, rest, *cited, _SENTENCE_END)


def _citations(source_ids: tuple[str, ...]) -> Block:
    either = {"type": "or", "elements": [_const(f"[{source_id}]") for source_id in source_ids]}
    return {"type": "repeat", "min": 0, "max": MAX_CITATIONS_PER_LINE, "content": either}


def _cited_text(source_ids: tuple[str, ...]) -> Block:
    """Free text in which an opening bracket opens one of the ids, and nothing else."""
    ids = {"type": "or", "elements": [_const(source_id) for source_id in source_ids]}
    tag = {"type": "tag", "begin": "[", "content": ids, "end": "]"}
    return {"type": "triggered_tags", "triggers": ["["], "tags": [tag]}


def _line_bound(max_chars: int, source_ids: tuple[str, ...]) -> int:
    return max_chars + (MAX_CITATIONS_PER_LINE * (max(map(len, source_ids)) + 2) if source_ids else 0)


def _rounded(chars: float) -> int:
    return CHARS_STEP * math.ceil(chars / CHARS_STEP)


def _tag(block: Block) -> Block:
    return {"type": "structural_tag", "format": block}


def _sequence(*elements: Block) -> Block:
    return {"type": "sequence", "elements": list(elements)}


def _const(value: str) -> Block:
    return {"type": "const_string", "value": value}
