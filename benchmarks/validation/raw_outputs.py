"""Outputs of the real model as they came out of it, a JSON line each, with all that a check may know of them.

``raw.py`` writes them, people label them (``labels.py``), ``real.py`` judges them. Neither validated nor mended.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from benchmarks.validation.corpus import CORPUS, HALVES, CorpusError, Half
from graph.contracts import AnswerFormat, CheckContext, FinishReason

__all__ = ["RAW", "RawOutput", "read_outputs", "to_line", "write_outputs"]

RAW = CORPUS / "raw.jsonl"
_FROM_CONTEXT = ("language", "answer_format", "json_schema", "target_words", "caller_limited", "known_text")
"""Fields of the context that a line holds under their own names."""
_PROMISED = "reading_level"
"""The same, left out of a line where nothing was promised."""
_OTHERS = ("id", "record", "half", "question", "system", "controls", "sampling", "finish_reason", "text")


@dataclass(frozen=True, slots=True)
class RawOutput:
    """One output and how it came about."""

    id: str
    record_id: str
    """Of the corpus's record whose question was asked."""
    controls: Mapping[str, Any]
    """As the request had them."""
    sampling: Mapping[str, Any]
    """What the caller set himself."""
    context: CheckContext
    """As the validator would get it, without what models measure."""
    text: str

    @property
    def half(self) -> Half:
        """By a hash of its question's id: outputs have halves of their own."""
        return HALVES[hashlib.sha256(self.record_id.encode()).digest()[0] % 2]


def to_line(output: RawOutput) -> str:
    """One line of JSON, without its end."""
    context = output.context
    return json.dumps(
        {
            "id": output.id,
            "record": output.record_id,
            "half": output.half,
            "question": context.prompt,
            "system": context.system,
            "controls": output.controls,
            "sampling": output.sampling,
            "finish_reason": context.finish_reason,
            **{name: getattr(context, name) for name in _FROM_CONTEXT},
            **({} if context.reading_level is None else {_PROMISED: context.reading_level}),
            "text": output.text,
        },
        # For the people who label them.
        ensure_ascii=False,
    )


def write_outputs(path: Path, outputs: Iterable[RawOutput]) -> None:
    """Writes all outputs, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{to_line(output)}\n" for output in outputs), encoding="utf-8")


def read_outputs(path: Path = RAW) -> tuple[RawOutput, ...]:
    """Reads what ``write_outputs`` wrote.

    Raises:
        CorpusError: The file cannot be read, a line is not such an output, its half is not that of its question, or
            two have the same id; names file and line.
    """
    try:
        # Not splitlines: a text may hold other separators of lines, which JSON does not escape.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read: {error}") from error
    outputs: dict[str, RawOutput] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        output = _read_line(line, f"{path}:{number}")
        if output.id in outputs:
            raise CorpusError(f"{path}:{number}: {output.id} stood on an earlier line")
        outputs[output.id] = output
    if not outputs:
        raise CorpusError(f"{path}: holds no outputs")
    return tuple(outputs.values())


def _read_line(line: str, where: str) -> RawOutput:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise CorpusError(f"{where}: is not JSON: {error}") from error
    wanted = {*_OTHERS, *_FROM_CONTEXT}
    if not isinstance(data, dict) or data.keys() - {_PROMISED} != wanted:
        differ = sorted(wanted ^ (data.keys() - {_PROMISED})) if isinstance(data, dict) else []
        raise CorpusError(f"{where}: is not a raw output; missing or unknown: {', '.join(differ) or 'everything'}")
    for name, values in (("finish_reason", get_args(FinishReason)), ("answer_format", get_args(AnswerFormat))):
        if data[name] not in values:
            raise CorpusError(f"{where}: {data['id']}: {name} is {data[name]!r}; must be one of: {', '.join(values)}")
    reading_level = data.get(_PROMISED)
    if reading_level is not None and not _is_range(reading_level):
        raise CorpusError(f"{where}: {data['id']}: {_PROMISED} is {reading_level!r}; must be two numbers")
    context = CheckContext(
        prompt=data["question"],
        system=data["system"],
        finish_reason=data["finish_reason"],
        reading_level=None if reading_level is None else (float(reading_level[0]), float(reading_level[1])),
        **{name: data[name] for name in _FROM_CONTEXT},
    )
    output = RawOutput(data["id"], data["record"], data["controls"], data["sampling"], context, data["text"])
    if data["half"] != output.half:
        raise CorpusError(f"{where}: {output.id}: its half is {data['half']!r}, its question's is {output.half!r}")
    return output


def _is_range(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(each, float | int) for each in value)
