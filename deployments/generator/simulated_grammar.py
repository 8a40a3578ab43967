"""Text that meets an xgrammar structural tag, for the simulated engine. Format and field names are those of
``xgrammar/structural_tag.py`` 0.2.8. Knows the formats that the control compiler writes, refuses others by name.
"""

import json
import math
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

from deployments.generator.simulated_prose import Prose
from deployments.generator.simulated_tokens import split_tokens
from graph.errors import InvalidRequest

_OPEN_END = 2
"""How many more than the fewest are made where a grammar or schema sets no upper bound, or a higher one."""
_MAX_DEPTH = 32
_OPTIONAL_DEPTH = 3
_SCHEMA_PARAM = "response_format.json_schema.schema"
_STRING_FORMATS = {
    "date": "2024-02-29",
    "date-time": "2024-02-29T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "P3D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def write_in_grammar(grammar: Mapping[str, Any], prose: Prose, rng: random.Random) -> str:
    """One text that ``grammar``, ``{"type": "structural_tag", "format": {...}}``, accepts.

    Knows const_string, sequence, or, optional, repeat, any_text, regex (patterns that a sentence, words or digits
    meet) and json_schema. Deterministic in ``prose`` and ``rng``, both of which it advances.

    Raises:
        InvalidRequest: The grammar holds something else, or a pattern or schema that nothing here meets.
    """
    return _write(grammar["format"], prose, rng)


def _write(tag: Mapping[str, Any], prose: Prose, rng: random.Random) -> str:
    match tag["type"]:
        case "const_string":
            return str(tag["value"])
        case "sequence":
            return "".join(_write(element, prose, rng) for element in tag["elements"])
        case "or":
            return _write(rng.choice(tag["elements"]), prose, rng)
        case "optional":
            return _write(tag["content"], prose, rng) if rng.random() < 0.5 else ""
        case "repeat":
            low, high = int(tag["min"]), int(tag["max"])
            count = rng.randint(low, low + _OPEN_END if high < 0 else min(high, low + _OPEN_END))
            return "".join(_write(tag["content"], prose, rng) for _ in range(count))
        case "any_text":
            return _write_any_text(tag, prose, rng)
        case "regex":
            return _write_pattern(tag["pattern"], prose)
        case "json_schema":
            return json.dumps(_SchemaWriter(tag["json_schema"], prose, rng).write(), ensure_ascii=False)
        case other:
            raise InvalidRequest(
                f"The simulated engine does not know the structural tag format {other!r}; it knows const_string, "
                "sequence, or, optional, repeat, any_text, regex and json_schema. Use the vllm engine.",
                param="response_format",
            )


def _write_any_text(tag: Mapping[str, Any], prose: Prose, rng: random.Random) -> str:
    max_chars, max_tokens = tag.get("max_chars"), tag.get("max_tokens")

    def fits(text: str) -> bool:
        return (
            (max_chars is None or len(text) <= max_chars)
            and (max_tokens is None or len(split_tokens(text)) <= max_tokens)
            and not any(excluded in text for excluded in tag.get("excludes", ()))
        )

    text = ""
    for _ in range(rng.randint(2, 4)):
        longer = f"{text} {prose.sentence()}".lstrip()
        if fits(longer):
            text = longer
    shorter = (prose.words(count) for count in range(6, 0, -1))
    return text or next(filter(fits, shorter), "")


def _write_pattern(pattern: str, prose: Prose) -> str:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InvalidRequest(f"The pattern {pattern!r} is not valid: {error}.", param=_SCHEMA_PARAM) from error
    # JSON Schema's patterns may match anywhere, xgrammar's match as a whole: a whole match is right for both.
    for candidate in _candidates(prose):
        if compiled.fullmatch(candidate):
            return candidate
    raise InvalidRequest(
        f"The simulated engine finds no text for the pattern {pattern!r}; it only meets patterns of sentences, "
        "words and digits. Use the vllm engine.",
        param=_SCHEMA_PARAM,
    )


def _candidates(prose: Prose) -> Iterator[str]:
    text = prose.sentence()
    yield text
    for _ in range(12):
        text = f"{text} {prose.sentence()}"
        yield text
    yield from ".!?"
    for count in range(1, 40):
        yield text[:count]
        words = prose.words(count)
        yield from (words.capitalize() + ".", words, words.capitalize(), words.replace(" ", "_"))
    for count in range(1, 40):
        yield from (("1234567890" * 4)[:count], ("abcdefghij" * 4)[:count], ("ABCDEFGHIJ" * 4)[:count])


class _SchemaWriter:
    """A small instance of a JSON schema: what is required, or everything where nothing is. Follows $ref inside the
    schema, allOf, and the first branch of anyOf and oneOf; ignores not, if and dependencies."""

    def __init__(self, schema: Any, prose: Prose, rng: random.Random) -> None:
        self._root = schema
        self._prose = prose
        self._rng = rng

    def write(self) -> Any:
        return self._value(self._root, 0)

    def _value(self, schema: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise InvalidRequest("The schema requires itself without end.", param=_SCHEMA_PARAM)
        if schema is False:
            raise InvalidRequest("The schema allows no value.", param=_SCHEMA_PARAM)
        if schema is True:
            schema = {}
        schema = self._flat(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._rng.choice(schema["enum"])
        match _kind(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "integer":
                return int(self._number(schema, step=1))
            case "number":
                return self._number(schema, step=0)
            case "boolean":
                return self._rng.random() < 0.5
            case "null":
                return None
            case _:
                return self._string(schema)

    def _flat(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """``schema`` with $ref, allOf, and a branch of anyOf or oneOf merged into it."""
        flat = dict(schema)
        for _ in range(_MAX_DEPTH):
            parts = flat.pop("allOf", [])
            if (reference := flat.pop("$ref", None)) is not None:
                parts = [*parts, self._resolve(reference)]
            for choice in ("anyOf", "oneOf"):
                parts = [*parts, *flat.pop(choice, [])[:1]]
            if not parts:
                return flat
            for part in parts:
                flat = _merged(flat, part)
        raise InvalidRequest("The schema refers to itself without end.", param=_SCHEMA_PARAM)

    def _resolve(self, reference: str) -> Mapping[str, Any]:
        target = self._root
        if not reference.startswith("#"):
            raise InvalidRequest(
                f"The schema refers to {reference!r}; only references inside the schema, such as "
                "'#/$defs/name', are followed.",
                param=_SCHEMA_PARAM,
            )
        try:
            for key in filter(None, reference[1:].split("/")):
                key = key.replace("~1", "/").replace("~0", "~")
                target = target[int(key)] if isinstance(target, list) else target[key]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise InvalidRequest(
                f"The schema refers to {reference!r}, which it does not hold.", param=_SCHEMA_PARAM
            ) from error
        return target if isinstance(target, Mapping) else {}

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        wanted = required or (properties if depth < _OPTIONAL_DEPTH else [])
        wanted = [name for name in properties if name in wanted] + [name for name in required if name not in properties]
        value = {name: self._value(properties.get(name, True), depth + 1) for name in wanted}
        extra = schema.get("additionalProperties", True)
        spare = [name for name in properties if name not in value]
        while len(value) < schema.get("minProperties", 0):
            name = spare.pop(0) if spare else f"extra_{len(value)}"
            value[name] = self._value(properties.get(name, extra), depth + 1)
        return value

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        low, high = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        prefix, items = schema.get("prefixItems", []), schema.get("items", True)
        usual = 0 if depth >= _OPTIONAL_DEPTH else len(prefix) or _OPEN_END
        if items is False:
            high = min(high, len(prefix))
        count = min(max(low, usual), high)
        value: list[Any] = []
        for _ in range(20 * (count + 1)):
            if len(value) == count:
                return value
            at = len(value)
            item = self._value(prefix[at] if at < len(prefix) else items, depth + 1)
            if not schema.get("uniqueItems") or item not in value:
                value.append(item)
        if len(value) >= low:
            return value
        raise InvalidRequest(f"The schema has too few values for {low} unique items.", param=_SCHEMA_PARAM)

    def _string(self, schema: Mapping[str, Any]) -> str:
        if "pattern" in schema:
            return _write_pattern(schema["pattern"], self._prose)
        if schema.get("format") in _STRING_FORMATS:
            return _STRING_FORMATS[schema["format"]]
        low, high = schema.get("minLength", 0), schema.get("maxLength", math.inf)
        text = self._prose.sentence() if high >= 160 else self._prose.words(2)
        while len(text) < low:
            text = f"{text} {self._prose.words(2)}"
        return text if len(text) <= high else text[: int(high)]

    def _number(self, schema: Mapping[str, Any], step: int) -> float:
        step = schema.get("multipleOf", step)
        low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
        low, high = max(low, above), min(high, below)
        if not step:
            start = low if low > -math.inf else min(high, 10) - 9
            end = high if high < math.inf else start + 9
            if end < start or (end == start and start in (above, below)):
                raise InvalidRequest("The schema's bounds leave no number.", param=_SCHEMA_PARAM)
            return float(round((start + end) / 2, 3)) if end - start > 0.01 else (start + end) / 2
        first = math.ceil(low / step) if low > -math.inf else None
        last = math.floor(high / step) if high < math.inf else None
        if first is not None and first * step <= above:
            first += 1
        if last is not None and last * step >= below:
            last -= 1
        if first is None:
            first = 1 if last is None or last >= 1 else last - 9
        last = first + 9 if last is None else min(last, first + 9)
        if last < first:
            raise InvalidRequest("The schema's bounds leave no number.", param=_SCHEMA_PARAM)
        return self._rng.randint(first, last) * step


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if kind is None and ("properties" in schema or "required" in schema):
        return "object"
    if kind is None and ("items" in schema or "prefixItems" in schema):
        return "array"
    return str(kind or "string")


def _merged(schema: Mapping[str, Any], part: Any) -> dict[str, Any]:
    """Both at once, for what real schemas combine: properties and required add up, else the later word wins."""
    part = part if isinstance(part, Mapping) else {}
    merged = {**schema, **part}
    if "properties" in schema and "properties" in part:
        merged["properties"] = {**schema["properties"], **part["properties"]}
    if "required" in schema and "required" in part:
        merged["required"] = [*schema["required"], *part["required"]]
    return merged
