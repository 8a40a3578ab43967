"""Reads a request's body: bounded while it comes in, JSON by content type, errors that name the field. Pure but for
the ASGI stream that it reads."""

import difflib
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar, get_args

import orjson
from pydantic import BaseModel, ValidationError

from graph.errors import InvalidRequest, RequestTooLarge, UnsupportedMediaType

Model = TypeVar("Model", bound=BaseModel)
MAX_ERRORS_SHOWN = 10
_RESPONSE_FORMATS = ("text", "json_object", "json_schema")
"""Tags of the branches of ``response_format``."""


async def read_json(chunks: AsyncIterator[bytes], headers: Mapping[str, str], limit_bytes: int) -> Any:
    """The body as parsed JSON.

    Raises:
        UnsupportedMediaType: A content type that is not JSON.
        RequestTooLarge: By its declared or its real length; reading stops there.
        InvalidRequest: Not UTF-8 JSON, or nested more than 1,024 deep (orjson's own bound).
    """
    content_type = headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise UnsupportedMediaType(f"The content type is {content_type[:80]!r}; send application/json.")
    too_large = RequestTooLarge(f"The body is larger than {limit_bytes} bytes, the most that is accepted; send less.")
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise too_large
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit_bytes:
            raise too_large
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            f"The body is not JSON: {error.msg} (line {error.lineno}, column {error.colno}).", code="invalid_json"
        ) from None


def parse(model: type[Model], value: Any) -> Model:
    """``value`` as ``model``, or an InvalidRequest that names the first faulty field, up to ten faults in its text."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid(error, model) from None


def invalid(error: ValidationError, model: type[BaseModel]) -> InvalidRequest:
    """A pydantic error in our words: never the caller's input, which may be huge or secret."""
    faults = error.errors(include_url=False, include_context=True, include_input=False)
    told = [_describe(fault, model) for fault in faults[:MAX_ERRORS_SHOWN]]
    more = f" ({len(faults) - MAX_ERRORS_SHOWN} more)" if len(faults) > MAX_ERRORS_SHOWN else ""
    return InvalidRequest(
        "; ".join(dict.fromkeys(text for _, _, text in told)) + more + ".", param=told[0][0], code=told[0][1]
    )


def _describe(fault: Any, model: type[BaseModel]) -> tuple[str | None, str, str]:
    """(param, code, text) of one pydantic fault."""
    path = _path(fault["loc"])
    kind = fault["type"]
    if kind == "extra_forbidden":
        known = sorted(_fields_at(model, fault["loc"][:-1]))
        near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else (f"; allowed here: {', '.join(known)}" if known else "")
        return path, "unknown_parameter", f"Unknown parameter {path[:200]!r}{hint}"
    if kind == "missing":
        return path, "missing_required_parameter", f"Missing required parameter {path!r}"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    code = "invalid_type" if kind.endswith(("_type", "_parsing", "tuple_type")) else "invalid_value"
    return path or None, code, f"{path or 'body'}: {message}"


def _path(location: tuple[int | str, ...]) -> str:
    """A dotted path of the caller's own fields."""
    return ".".join(map(str, _without_branches(location))).replace("schema_", "schema")


def _without_branches(location: tuple[int | str, ...]) -> list[int | str]:
    """pydantic puts the branch of a union into the path, by its tag; the caller has no such field."""
    return [
        part
        for before, part in zip((None, *location), location, strict=False)
        if part not in ("as_text", "as_list") and not (before == "response_format" and part in _RESPONSE_FORMATS)
    ]


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> set[str]:
    """Names allowed at ``location`` of ``model``; empty when the path runs through something else than models."""
    models = [model]
    for part in _without_branches(location):
        if isinstance(part, int):
            continue
        models = [
            inner
            for outer in models
            for name, field in outer.model_fields.items()
            if part in (name, field.alias)
            for inner in _models_in(field.annotation)
        ]
    return {field.alias or name for m in models for name, field in m.model_fields.items()}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]
