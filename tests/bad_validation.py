"""What ``POST /v1/validate`` must refuse, and how: driven with the table of ``bad_input.py``."""

import json
from typing import Any

from tests.bad_input import Bad

VALIDATE = "/v1/validate"
LARGEST = 64 * 1024


def bad(name: str, says: str, body: Any, param: str | None = None, code: str = "invalid_value", **more: Any) -> Bad:
    return Bad(name, code=code, says=says, body=body, param=param, path=VALIDATE, **{"status": 400, **more})


def items(*values: Any) -> dict[str, Any]:
    return {"items": list(values)}


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def nested(depth: int) -> dict[str, Any]:
    return schema(a=nested(depth - 1)) if depth else {"type": "object"}


GOOD: dict[str, Any] = {"text": "So it is."}
HUGE = schema(**{f"name_{n}": {"type": "string", "description": "x" * 200} for n in range(100)})

VALIDATION_TABLE = [
    bad("a judgement of nothing", "text", {}, "text", "missing_required_parameter"),
    bad("a judgement of a list", "body", [GOOD], code="invalid_type"),
    bad("a text of null", "text", {"text": None}, "text", "invalid_type"),
    bad("a text that is a number", "text", {"text": 5}, "text", "invalid_type"),
    bad("a text of 1 MB in one line", "65536", {"text": "x" * 1_000_000}, "text", "request_too_large", status=413),
    bad(
        "a text over the limit in bytes only", "65536", {"text": "ä" * 40_000}, "text", "request_too_large", status=413
    ),
    bad("a long prompt", "65536", {**GOOD, "prompt": "x" * (LARGEST + 1)}, "prompt", "request_too_large", status=413),
    bad(
        "a long system turn",
        "65536",
        {**GOOD, "system": "x" * (LARGEST + 1)},
        "system",
        "request_too_large",
        status=413,
    ),
    bad(
        "a judgement over the body's limit", "1048576", {"text": "x" * (1 << 20)}, code="request_too_large", status=413
    ),
    bad("an unknown key of a judgement", "did you mean 'prompt'", {**GOOD, "promt": "x"}, "promt", "unknown_parameter"),
    bad("a key of CheckContext", "known_text", {**GOOD, "known_text": "x"}, "known_text", "unknown_parameter"),
    bad("a finish reason that no caller has", "length", {**GOOD, "finish_reason": "repetition"}, "finish_reason"),
    bad("an unknown language", "de", {**GOOD, "language": "tlh"}, "language"),
    bad("a language by its name", "de", {**GOOD, "language": "German"}, "language"),
    bad("a language that is no code", "de", {**GOOD, "language": "auto"}, "language"),
    bad("a language of 100,000 letters", "de", {**GOOD, "language": "x" * 100_000}, "language"),
    bad("a language that is a list", "language", {**GOOD, "language": ["de"]}, "language", "invalid_type"),
    bad(
        "two languages at once",
        "send one of them",
        {**GOOD, "language": "de", "controls": {"ls": {"language": "fr"}}},
        "language",
    ),
    bad(
        "an unknown switch of a judgement",
        "format",
        {**GOOD, "controls": {"ls": {"formt": "steps"}}},
        "controls.ls.formt",
    ),
    bad(
        "an unknown key in the controls of a judgement",
        "lp",
        {**GOOD, "controls": {"sliders": {}}},
        "controls.sliders",
        "unknown_parameter",
    ),
    bad("a schema that is text", "schema", {**GOOD, "schema": "{}"}, "schema", "invalid_type"),
    bad("a schema of a list", "object", {**GOOD, "schema": {"type": "array"}}, "schema"),
    bad("a recursive schema to judge by", "$ref", {**GOOD, "schema": schema(a={"$ref": "#"})}, "schema"),
    bad(
        "a schema that refers to itself by name",
        "refers to itself",
        {**GOOD, "schema": {**schema(a={"$ref": "#/$defs/a"}), "$defs": {"a": schema(b={"$ref": "#/$defs/a"})}}},
        "schema",
    ),
    bad("a huge schema to judge by", "16384", {**GOOD, "schema": HUGE}, "schema"),
    bad("a schema 40 deep", "deep", {**GOOD, "schema": nested(40)}, "schema"),
    bad(
        "a schema deeper than orjson writes",
        "deep",
        None,
        "schema",
        raw=json.dumps({**GOOD, "schema": nested(200)}).encode(),
    ),
    bad(
        "a slow pattern to judge by",
        "pattern",
        {**GOOD, "schema": schema(a={"type": "string", "pattern": "^(a+)+$"})},
        "schema",
    ),
    bad(
        "a schema beside another format",
        "send one of them",
        {**GOOD, "schema": schema(), "controls": {"ls": {"format": "steps"}}},
        "controls.ls.format",
    ),
    bad("a batch of none", "at least 1", items(), "items"),
    bad("65 texts", "at most 64", items(*[GOOD] * 65), "items"),
    bad("a batch that is an object", "items", {"items": GOOD}, "items", "invalid_type"),
    bad("a text beside a batch", "items", {**items(GOOD), "text": "x"}, "text", "unknown_parameter"),
    bad("a batch in a batch", "items", items(items(GOOD)), "items.0.text", "missing_required_parameter"),
    bad("a text of a batch without text", "text", items(GOOD, {}), "items.1.text", "missing_required_parameter"),
    bad("an unknown key in a batch", "promt", items(GOOD, {**GOOD, "promt": 1}), "items.1.promt", "unknown_parameter"),
    bad("an unknown language in a batch", "items.1", items(GOOD, {**GOOD, "language": "xx"}), "items.1.language"),
    bad(
        "a long text in a batch",
        "65536",
        items(GOOD, {"text": "x" * (LARGEST + 1)}),
        "items.1.text",
        "request_too_large",
        status=413,
    ),
    bad(
        "a faulty schema in a batch", "$ref", items(GOOD, {**GOOD, "schema": schema(a={"$ref": "#"})}), "items.1.schema"
    ),
    bad(
        "nine different schemas in a batch",
        "8",
        items(*({**GOOD, "schema": schema(**{f"a{n}": {"type": "string"}})} for n in range(9))),
        "items.8.schema",
    ),
    Bad("half a surrogate pair to judge", 400, "invalid_json", "not JSON", raw=b'{"text": "\\ud800"}', path=VALIDATE),
    Bad("bad UTF-8 to judge", 400, "invalid_json", "not JSON", raw=b'{"text": "\xed\xa0\x80"}', path=VALIDATE),
    Bad("a judgement by GET", 405, "method_not_allowed", "POST", path=VALIDATE, method="GET"),
    Bad("a quality that is sent", 405, "method_not_allowed", "GET", path="/v1/quality", body={}),
]
