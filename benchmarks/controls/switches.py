"""The switches that promise a form: asked on every prompt, at three depths, and taken apart by ``forms.py``."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.controls.asking import Answer
from benchmarks.controls.figures import wilson
from benchmarks.controls.forms import (
    bullets_fault,
    citations_fault,
    count_citations,
    envelope_fault,
    schema_fault,
    sentence_count,
    steps_fault,
    summary_fault,
    summary_steps_fault,
)
from benchmarks.controls.plan import FIXED, Ask, Plan, derive_seed, turns
from benchmarks.controls.prompts import Prompt
from benchmarks.controls.sources import IDS, sources_of

DEPTHS = (15, 35, 60)
"""In turn over prompts and seeds, for 43, 88 and 215 words: depth sizes the grammars, and one would prove one size."""

CALLERS_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 1, "maxLength": 60},
        "difficulty": {"enum": ["easy", "medium", "hard"]},
        "minutes": {"type": "integer", "minimum": 1, "maximum": 240},
        "is_safe": {"type": "boolean"},
        "points": {"type": "array", "items": {"type": "string", "maxLength": 60}, "minItems": 2, "maxItems": 4},
    },
    "required": ["title", "difficulty", "minutes", "is_safe", "points"],
    "additionalProperties": False,
}
"""A schema as a caller may send it: texts, a choice, a bounded number, a truth value, a list."""


@dataclass(frozen=True, slots=True)
class Form:
    """One promise: the switches that ask for it and the parser that checks it."""

    ls: Mapping[str, str]
    fault: Callable[[str], str | None]
    has_sources: bool = False
    schema: Mapping[str, Any] | None = None


FORMS: Mapping[str, Form] = {
    "steps": Form({"format": "steps"}, steps_fault),
    "bullets": Form({"format": "bullets"}, bullets_fault),
    "json": Form({"format": "json"}, envelope_fault),
    "json, caller's schema": Form({}, partial(schema_fault, schema=CALLERS_SCHEMA), schema=CALLERS_SCHEMA),
    "summary_first": Form({"summary_first": "on"}, summary_fault),
    "summary_first, steps": Form({"summary_first": "on", "format": "steps"}, summary_steps_fault),
    "citations": Form({"citations": "on"}, partial(citations_fault, ids=IDS), has_sources=True),
}


def form_asks(name: str, plan: Plan) -> list[Ask]:
    """All requests of one form; their ``level`` is the depth."""
    return [
        _ask(name, prompt, index, DEPTHS[(prompt.index + index) % len(DEPTHS)], plan)
        for prompt in plan.prompts
        for index in range(plan.seeds)
    ]


def _ask(name: str, prompt: Prompt, seed_index: int, depth: int, plan: Plan) -> Ask:
    form = FORMS[name]
    controls: dict[str, Any] = {"lp": {**FIXED, "depth": depth}, "ls": dict(form.ls)}
    if form.has_sources:
        controls["sources"] = sources_of(prompt.question)
    body: dict[str, Any] = {
        "messages": turns(prompt.question),
        "controls": controls,
        "seed": derive_seed(plan.run_seed, name, prompt, seed_index),
    }
    if form.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": dict(form.schema)},
        }
    return Ask(name, depth, prompt, seed_index, body)


def form_figures(name: str, asks: Sequence[Ask], answers: Sequence[Answer | None]) -> dict[str, Any]:
    """How many finished answers have the form, and how the others fail. Unfinished ones are counted, not judged."""
    answered = [(ask, answer) for ask, answer in zip(asks, answers, strict=True) if answer is not None]
    finished = [(ask, answer) for ask, answer in answered if answer.finish_reason == "stop"]
    faults = [(ask, answer, FORMS[name].fault(answer.text)) for ask, answer in finished]
    valid = sum(fault is None for _, _, fault in faults)
    return {
        "asked": len(asks),
        "answered": len(answered),
        "finished": len(finished),
        "valid": valid,
        "share": wilson(valid, len(finished)),
        "second_tries": sum(answer.attempts > 1 for _, answer in answered),
        "outcomes": dict(sorted(Counter(answer.outcome for _, answer in answered).items())),
        "faults": dict(Counter(fault for *_, fault in faults if fault is not None).most_common(10)),
        "by_kind": _by_kind(faults),
        **_beside(name, [answer.text for _, answer in finished]),
    }


def _by_kind(faults: Sequence[tuple[Ask, Answer, str | None]]) -> dict[str, dict[str, int]]:
    kinds: dict[str, dict[str, int]] = {}
    for ask, _, fault in faults:
        kind = kinds.setdefault(ask.prompt.kind, {"finished": 0, "valid": 0})
        kind["finished"] += 1
        kind["valid"] += fault is None
    return dict(sorted(kinds.items()))


def _beside(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """What a form does not promise but a reader hopes for."""
    if name.startswith("summary_first"):
        lines = [text.partition("\n\n")[0] for text in texts]
        return {"one_sentence_summaries": sum(sentence_count(line) == 1 for line in lines)}
    if name == "citations":
        return {
            "answers_that_cite": sum(count_citations(text) > 0 for text in texts),
            "citations": sum(map(count_citations, texts)),
        }
    return {}
