"""The request body of ``POST /v1/validate``: one text, or a batch of them. An allow-list, as for chat."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from deployments.controls.request import ControlsRequest
from deployments.ingress.bodies import parse

MAX_ITEMS = 64
MAX_TEXT_BYTES = 64 * 1024
"""Of each text, in UTF-8: what a judgement takes, and what crosses to the pool and back, stays bounded."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ValidationItem(_Strict):
    """A text and what may be known besides it; the meaning of each is that of ``CheckContext``."""

    text: str
    prompt: str | None = None
    system: str | None = None
    controls: ControlsRequest | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    language: str | None = None
    """Short for ``controls.ls.language``."""
    finish_reason: Literal["stop", "length"] | None = None
    """None: stop."""


class ValidationBatch(_Strict):
    items: list[ValidationItem] = Field(min_length=1, max_length=MAX_ITEMS)


def parse_validation(body: Any) -> ValidationItem | ValidationBatch:
    """A body with ``items`` is a batch.

    Raises:
        InvalidRequest: It has another form; names the first faulty field.
    """
    if isinstance(body, dict) and "items" in body:
        return parse(ValidationBatch, body)
    return parse(ValidationItem, body)
