"""What must be refused, and how: one table, driven without a network in unit tests and over HTTP in graph tests."""

from dataclasses import dataclass, field
from typing import Any

from tests.cluster import chat

CHAT = "/v1/chat/completions"
DEEP = b'{"model":"m","messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}"


@dataclass(frozen=True)
class Bad:
    """One faulty request and the refusal that it must get."""

    name: str
    status: int
    code: str
    says: str
    """Part of the message: the field, and what is allowed."""
    body: Any = None
    raw: bytes | None = None
    param: str | None = None
    path: str = CHAT
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)


def controls(**value: Any) -> dict[str, Any]:
    return chat(controls=value)


JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}

TABLE = [
    Bad("malformed JSON", 400, "invalid_json", "not JSON", raw=b'{"model": "m", '),
    Bad("an empty body", 400, "invalid_json", "not JSON", raw=b""),
    Bad("bad UTF-8", 400, "invalid_json", "not JSON", raw=b'{"model": "\xff\xfe"}'),
    Bad("a lone surrogate", 400, "invalid_json", "not JSON", raw=b'{"model": "\\ud800"}'),
    Bad("10,000-deep JSON", 400, "invalid_json", "not JSON", raw=DEEP),
    Bad("NaN", 400, "invalid_json", "not JSON", raw=b'{"temperature": NaN}'),
    Bad("a list for a body", 400, "invalid_type", "body", body=[1]),
    Bad("messages of the wrong type", 400, "invalid_type", "messages", body=chat(messages="hi"), param="messages"),
    Bad(
        "a role that does not exist",
        400,
        "invalid_value",
        "system",
        param="messages.0.role",
        body=chat(messages=[{"role": "boss", "content": "x"}]),
    ),
    Bad(
        "a number for content",
        400,
        "invalid_type",
        "messages.0.content",
        body=chat(messages=[{"role": "user", "content": 5}]),
    ),
    Bad(
        "an image part",
        400,
        "invalid_value",
        "text",
        body=chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]),
    ),
    Bad("empty messages", 400, "invalid_value", "messages", body=chat(messages=[]), param="messages"),
    Bad("no messages", 400, "missing_required_parameter", "messages", body={"model": "m"}, param="messages"),
    Bad(
        "no user turn",
        400,
        "invalid_value",
        "user",
        param="messages",
        body=chat(messages=[{"role": "system", "content": "x"}]),
    ),
    Bad(
        "too many messages",
        400,
        "invalid_value",
        "messages",
        param="messages",
        body=chat(messages=[{"role": "user", "content": "x"}] * 513),
    ),
    Bad("no model", 400, "missing_required_parameter", "model", body={"messages": [{"role": "user", "content": "x"}]}),
    Bad("an unknown model", 404, "model_not_found", "smollm2", body={**chat(), "model": "gpt-9"}, param="model"),
    Bad(
        "a misspelt field",
        400,
        "unknown_parameter",
        "did you mean 'temperature'",
        body=chat(temprature=1),
        param="temprature",
    ),
    Bad("a chat template", 400, "unknown_parameter", "chat_template", body=chat(chat_template="{{x}}")),
    Bad("prompt embeddings", 400, "unknown_parameter", "prompt_embeds", body=chat(prompt_embeds="AA==")),
    Bad("transfer parameters", 400, "unknown_parameter", "kv_transfer_params", body=chat(kv_transfer_params={})),
    Bad("an engine's request id", 400, "unknown_parameter", "request_id", body=chat(request_id="x")),
    Bad("tools", 400, "unknown_parameter", "tools", body=chat(tools=[])),
    Bad("an unknown LP", 400, "invalid_value", "depth", body=controls(lp={"dept": 5}), param="controls.lp.dept"),
    Bad(
        "an unknown key in controls",
        400,
        "unknown_parameter",
        "lp",
        body=controls(sliders={}),
        param="controls.sliders",
    ),
    Bad(
        "an LP over its range", 400, "invalid_value", "100", body=controls(lp={"depth": 101}), param="controls.lp.depth"
    ),
    Bad("an LP under its range", 400, "invalid_value", "0", body=controls(lp={"depth": -1}), param="controls.lp.depth"),
    Bad(
        "an LP that is a word",
        400,
        "invalid_type",
        "depth",
        body=controls(lp={"depth": "high"}),
        param="controls.lp.depth",
    ),
    Bad("an LP that is a boolean", 400, "invalid_type", "depth", body=controls(lp={"depth": True})),
    Bad(
        "an unknown LS", 400, "invalid_value", "format", body=controls(ls={"formt": "steps"}), param="controls.ls.formt"
    ),
    Bad(
        "an unknown LS value",
        400,
        "invalid_value",
        "steps",
        body=controls(ls={"format": "stepz"}),
        param="controls.ls.format",
    ),
    Bad("citations without sources", 400, "invalid_value", "sources", body=controls(ls={"citations": "on"})),
    Bad(
        "reasoning on a model without it",
        400,
        "invalid_value",
        "reasoning",
        body=controls(ls={"reasoning": "high"}),
        param="controls.ls.reasoning",
    ),
    Bad(
        "two formats at once",
        400,
        "invalid_value",
        "steps",
        param="controls.ls.format",
        body=chat(response_format=JSON_SCHEMA, controls={"ls": {"format": "steps"}}),
    ),
    Bad(
        "HTML in a stream",
        400,
        "invalid_value",
        "stream",
        body=chat(stream=True, controls={"render": "html"}),
        param="controls.render",
    ),
    Bad(
        "a prompt over the context",
        400,
        "context_length_exceeded",
        "tokens",
        body=chat("word " * 40_000),
        param="messages",
    ),
    Bad("a body over the limit", 413, "request_too_large", "1048576", body=chat("x" * (1 << 20))),
    Bad("max_tokens of zero", 400, "invalid_value", "1", body=chat(max_tokens=0), param="max_tokens"),
    Bad("negative max_tokens", 400, "invalid_value", "1", body=chat(max_tokens=-5), param="max_tokens"),
    Bad("huge max_tokens", 400, "invalid_value", "at most", body=chat(max_tokens=10**9), param="max_tokens"),
    Bad("both kinds of max_tokens", 400, "invalid_value", "not both", body=chat(max_tokens=1, max_completion_tokens=1)),
    Bad(
        "min_tokens over max_tokens",
        400,
        "invalid_value",
        "min_tokens",
        body=chat(max_tokens=5, min_tokens=9),
        param="min_tokens",
    ),
    Bad("no draft at all", 400, "invalid_value", "1", body=chat(quality={"best_of": 0}), param="quality.best_of"),
    Bad(
        "more drafts than any service makes",
        400,
        "invalid_value",
        "8",
        body=chat(quality={"best_of": 9}),
        param="quality.best_of",
    ),
    Bad(
        "more drafts than this service makes",
        400,
        "invalid_value",
        "quality.best_of is 5; this service makes at most 4 drafts of an answer, so send no more.",
        body=chat(quality={"best_of": 5}),
        param="quality.best_of",
    ),
    Bad(
        "more drafts than are made, in a request that is too large to be admitted",
        400,
        "invalid_value",
        "at most 4",
        body=chat(n=4, quality={"best_of": 8}),
        param="quality.best_of",
    ),
    Bad(
        "several drafts of a stream",
        400,
        "invalid_value",
        "send stream=false, or leave quality.best_of out",
        body=chat(stream=True, quality={"best_of": 2}),
        param="quality.best_of",
    ),
    Bad(
        "a number of drafts in quotes",
        400,
        "invalid_type",
        "best_of",
        body=chat(quality={"best_of": "2"}),
        param="quality.best_of",
    ),
    Bad(
        "a number of drafts that is a boolean",
        400,
        "invalid_type",
        "best_of",
        body=chat(quality={"best_of": True}),
        param="quality.best_of",
    ),
    Bad(
        "a misspelt key in quality",
        400,
        "unknown_parameter",
        "did you mean 'best_of'",
        body=chat(quality={"bestof": 2}),
        param="quality.bestof",
    ),
    Bad("n of zero", 400, "invalid_value", "1", body=chat(n=0), param="n"),
    Bad("a huge n", 400, "invalid_value", "4", body=chat(n=16_384), param="n"),
    Bad("a temperature over its range", 400, "invalid_value", "2", body=chat(temperature=9), param="temperature"),
    Bad("a temperature in quotes", 400, "invalid_type", "temperature", body=chat(temperature="1"), param="temperature"),
    Bad("too many stop strings", 400, "invalid_value", "4", body=chat(stop=["a", "b", "c", "d", "e"])),
    Bad("a stop string that is too long", 400, "invalid_value", "64", body=chat(stop="x" * 65)),
    Bad(
        "too many logprobs", 400, "invalid_value", "20", body=chat(logprobs=True, top_logprobs=21), param="top_logprobs"
    ),
    Bad("top_logprobs alone", 400, "invalid_value", "logprobs=true", body=chat(top_logprobs=2)),
    Bad(
        "logit_bias with words", 400, "invalid_value", "token ids", body=chat(logit_bias={"the": 1}), param="logit_bias"
    ),
    Bad("stream_options without a stream", 400, "invalid_value", "stream=true", body=chat(stream_options={})),
    Bad("an unknown response format", 400, "invalid_value", "json_schema", body=chat(response_format={"type": "xml"})),
    Bad(
        "a recursive schema",
        400,
        "invalid_value",
        "$ref",
        param="response_format.json_schema.schema",
        body=chat(
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "object", "properties": {"a": {"$ref": "#"}}}},
            }
        ),
    ),
    Bad(
        "a schema with a slow regex",
        400,
        "invalid_value",
        "pattern",
        param="response_format.json_schema.schema",
        body=chat(
            response_format={
                "type": "json_schema",
                "json_schema": {
                    "name": "x",
                    "schema": {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}},
                },
            }
        ),
    ),
    Bad(
        "another media type",
        415,
        "unsupported_media_type",
        "application/json",
        raw=b"<x/>",
        headers={"content-type": "text/xml"},
    ),
    Bad("the wrong method", 405, "method_not_allowed", "POST", method="GET"),
    Bad("a wrong path", 404, "unknown_url", "/v1/complete", path="/v1/complete"),
    Bad("an unknown model's page", 404, "model_not_found", "smollm2", path="/v1/models/gpt-9", method="GET"),
    Bad(
        "a length that no level gives",
        400,
        "invalid_value",
        "words",
        controls(targets={"depth": 1_000_000}),
        param="controls.targets.depth",
    ),
    Bad(
        "a target that is no number",
        400,
        "invalid_type",
        "valid number",
        controls(targets={"depth": "200"}),
        param="controls.targets.depth",
    ),
    Bad(
        "a slider with level and target",
        400,
        "invalid_value",
        "send one of them",
        controls(targets={"depth": 200}, lp={"depth": 50}),
        param="controls.targets.depth",
    ),
    Bad(
        "a preview of an unknown LP",
        400,
        "invalid_value",
        "depth",
        path="/v1/controls/preview",
        body={"controls": {"lp": {"dpeth": 1}}},
        param="controls.lp.dpeth",
    ),
    Bad(
        "an arm that does not exist",
        400,
        "invalid_value",
        "champion, challenger",
        chat(),
        param="x-rheostat-arm",
        headers={"x-rheostat-arm": "previous"},
    ),
    Bad(
        "an arm, named by who is no admin",
        403,
        "permission_denied",
        "no admin",
        chat(),
        headers={"x-rheostat-arm": "champion", "authorization": "Bearer rk-umbra-key"},
    ),
]


def problems(bad: Bad, status: int, headers: Any, body: Any) -> list[str]:
    """What is wrong with the refusal that came back; empty when it is as it must be."""
    found = []
    if status != bad.status:
        found.append(f"status {status}, expected {bad.status}: {body}")
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or set(error) != {"message", "type", "param", "code"}:
        return [*found, f"no error envelope: {body}"]
    if error["code"] != bad.code:
        found.append(f"code {error['code']!r}, expected {bad.code!r}: {error['message']}")
    if bad.says not in f"{error['message']} {error['param']}":
        found.append(f"the message does not say {bad.says!r}: {error['message']}")
    if bad.param is not None and error["param"] != bad.param:
        found.append(f"param {error['param']!r}, expected {bad.param!r}")
    if not isinstance(error["message"], str) or len(error["message"]) > 1000:
        found.append("the message is not a short text")
    if not headers.get("x-request-id"):
        found.append("no x-request-id")
    return found
