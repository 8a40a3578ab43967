"""The messages that the model really saw, from the rows of a dataset, which hold what the caller sent. Pure.

The log keeps a prompt as it came; what the dials and switches added to its last user turn is compiled anew here, from
the values that the row was answered under, by the compiler that the graph itself uses. So a training prompt equals the
one that is served for it now; a test holds the two together.

What the log does not tell apart: a dial that was set by hand to its default is taken for one that nobody touched.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from deployments.controls.calibration import Calibration
from deployments.controls.catalogue import Catalogue
from deployments.controls.compiler import compile_controls
from deployments.controls.request import ControlsRequest, resolve
from graph.contracts import Message
from graph.errors import InvalidRequest

LeftOut = Literal["unknown_settings", "sources_not_logged", "schema_not_logged"]
LEFT_OUT: Mapping[LeftOut, str] = {
    "unknown_settings": "the catalogue does not know the dials that it was answered under, or not these values",
    "sources_not_logged": "its answer cites sources, whose texts are not in the log",
    "schema_not_logged": "its answer follows a JSON schema of the caller's, which is not in the log",
}
"""Why a row has no prompt that could be trained on."""
_ANSWERS = ("completion", "chosen", "rejected")
_ENVELOPE = frozenset(("answer", "key_points"))
"""Of the format json where no schema was given; see `deployments.controls.grammar`."""
_NO_LIMIT = 2**31
"""For max_context, which caps numbers of tokens and changes no message."""


@dataclass(frozen=True, slots=True)
class ServedRows:
    """Rows whose prompt is the served one."""

    rows: tuple[Mapping[str, Any], ...]
    left_out: Mapping[str, int]
    """Rows by `LeftOut`; only reasons that occurred."""


def compile_rows(
    rows: Iterable[Mapping[str, Any]], catalogue: Catalogue, calibration: Calibration | None = None
) -> ServedRows:
    """Return the rows, in their order, with the prompts that the graph serves for them.

    Args:
        rows: Of `selection.ROW_SCHEMAS`, as dicts; not changed.
        catalogue: The knobs that are served.
        calibration: Of the model that is served; None: not measured.
    """
    kept: list[Mapping[str, Any]] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        prompt = serve_prompt(row, catalogue, calibration)
        if isinstance(prompt, str):
            left_out[prompt] += 1
        else:
            kept.append({**row, "prompt": prompt})
    return ServedRows(tuple(kept), dict(sorted(left_out.items())))


def serve_prompt(
    row: Mapping[str, Any], catalogue: Catalogue, calibration: Calibration | None = None
) -> list[dict[str, str]] | LeftOut:
    """Return the turns that the engine is given for this row, or why that is not known. Args as `compile_rows`'."""
    try:
        settings = read_settings(row)
        request = asked_controls(settings, catalogue, calibration)
        if settings.get("citations", "off") != "off":
            return "sources_not_logged"
        if settings.get("format") == "json" and not all(map(_is_envelope, _answers(row))):
            return "schema_not_logged"
        needs = {knob.needs for knobs in (catalogue.lp, catalogue.ls) for knob in knobs.values() if knob.needs}
        resolved = resolve(catalogue, request, needs, calibration)
        messages = tuple(Message(turn["role"], turn["content"]) for turn in row["prompt"])
        compiled = compile_controls(resolved, catalogue, messages, max_context=_NO_LIMIT)
    except InvalidRequest:
        return "unknown_settings"
    # As the engine does: templates know no role "developer".
    return [
        {"role": "system" if message.role == "developer" else message.role, "content": message.content}
        for message in compiled.messages
    ]


def read_settings(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the knobs by name: the logged ones; without them, the columns that the log has besides.

    Raises:
        InvalidRequest: They are no JSON object.
    """
    beside = {"format": row.get("answer_format"), "language": row.get("language")}
    settings = {name: value for name, value in beside.items() if value is not None}
    if row.get("settings") is not None:
        try:
            logged = json.loads(row["settings"])
        except ValueError:
            logged = None
        if not isinstance(logged, dict):
            raise InvalidRequest(f"settings are {row['settings'][:80]!r}; they must be a JSON object.", "settings")
        settings |= logged
    return settings


def asked_controls(
    settings: Mapping[str, Any], catalogue: Catalogue, calibration: Calibration | None = None
) -> ControlsRequest:
    """Return a request that comes to these settings and sets no knob that would stand there anyway.

    Raises:
        InvalidRequest: A knob is not in the catalogue, or a value is of a type that none has.
    """
    preset = catalogue.ls.get("preset")
    # str: what is logged may be of any type, and a list is no key; as text it is no preset either.
    position = preset.values.get(str(settings.get("preset", preset.default))) if preset else None
    sets = position.sets if position else None
    expected: dict[str, Any] = {name: knob.default for name, knob in catalogue.lp.items()}
    expected |= {name: knob.default for name, knob in catalogue.ls.items()}
    if sets is not None:
        expected |= {n: level for n, level in sets.lp.items() if calibration is None or calibration.works(n)}
        expected |= sets.ls
    lp: dict[str, int] = {}
    ls: dict[str, str] = {}
    for name, value in settings.items():
        if name not in expected:
            raise InvalidRequest(f"settings.{name}: is not a known knob; known: {', '.join(expected)}.", "settings")
        if value == expected[name]:
            continue
        if name in catalogue.lp and type(value) is int:
            lp[name] = value
        elif name in catalogue.ls and isinstance(value, str):
            ls[name] = value
        else:
            raise InvalidRequest(f"settings.{name}: got {str(value)[:80]!r}, which no such knob can be.", "settings")
    return ControlsRequest(lp=lp, ls=ls)


def break_up_marks(text: str, marks: Sequence[str]) -> str:
    """Return the text without control tokens such as the end-of-turn mark, which a caller or rater may have written.

    The same as the engine does with every request, so that equal texts are equal tokens.

    Args:
        marks: The tokenizer's special tokens.
    """
    if not marks:
        return text
    pattern = "|".join(sorted(map(re.escape, marks), key=len, reverse=True))
    return re.sub(pattern, lambda match: f"{match[0][0]} {match[0][1:]}", text)


def _answers(row: Mapping[str, Any]) -> list[str]:
    return [turn["content"] for name in _ANSWERS for turn in row.get(name) or ()]


def _is_envelope(text: str) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict) and value.keys() == _ENVELOPE
