"""The request body of ``POST /v1/chat/completions``: an allow-list. What is not here is refused by name.

Field names, types and ranges are OpenAI's (https://platform.openai.com/docs/api-reference/chat/create), with the
sampling extras that vLLM's users and benchmark tools send. Absent on purpose: chat templates and their arguments,
media, transfer parameters, prompt embeddings, tools, and every field that reaches into the engine.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from deployments.controls.request import ControlsRequest

MAX_MESSAGES = 512
MAX_CHOICES = 4
MAX_BEST_OF = 8
"""Of any service; its own limit, ``max_best_of``, may be lower."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TextPart(_Strict):
    """One piece of a message's content; text is the only kind that is served."""

    type: Literal["text"]
    text: str


def _shape(value: Any) -> str:
    """Which branch of "a text or a list" to judge a value by, so that a fault names one thing and not two."""
    return "as_list" if isinstance(value, list) else "as_text"


class ChatMessage(_Strict):
    """One turn. ``name`` is accepted and ignored."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[str, Tag("as_text")] | Annotated[list[TextPart], Tag("as_list")], Discriminator(_shape)
    ]
    name: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(_Strict):
    include_usage: bool = False
    continuous_usage_stats: bool = False
    """vLLM's extra: usage so far in every chunk."""


class JsonSchemaSpec(_Strict):
    name: str = Field(default="answer", max_length=64)
    description: str | None = Field(default=None, max_length=1024)
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class TextFormat(_Strict):
    type: Literal["text"]


class JsonObjectFormat(_Strict):
    type: Literal["json_object"]


class JsonSchemaFormat(_Strict):
    type: Literal["json_schema"]
    json_schema: JsonSchemaSpec


class QualityOptions(_Strict):
    """What the caller spends on a better answer."""

    best_of: int = Field(default=1, ge=1, le=MAX_BEST_OF)
    """Drafts that are made of each answer; the best by its verdict and score is the answer."""


Penalty = Annotated[float, Field(ge=-2.0, le=2.0)]
StopText = Annotated[str, Field(min_length=1, max_length=64)]


class ChatRequest(_Strict):
    """See the module. ``controls`` and ``quality`` are Rheostat's own; OpenAI clients send them by ``extra_body``."""

    model: str = Field(max_length=256)
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    controls: ControlsRequest | None = None
    quality: QualityOptions | None = None

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    stop: (
        Annotated[
            Annotated[StopText, Tag("as_text")] | Annotated[list[StopText], Field(max_length=4), Tag("as_list")],
            Discriminator(_shape),
        ]
        | None
    ) = None
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(default=None, max_length=300)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    response_format: Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")] | None = (
        None
    )

    # vLLM's sampling extras.
    top_k: int | None = Field(default=None, ge=-1, le=1_000_000)
    min_p: float | None = Field(default=None, ge=0.0, le=1.0)
    repetition_penalty: float | None = Field(default=None, gt=0.0, le=2.0)
    min_tokens: int | None = Field(default=None, ge=0)
    ignore_eos: bool | None = None
    stop_token_ids: list[Annotated[int, Field(ge=0)]] | None = Field(default=None, max_length=16)

    # Who asks: only a keyed hash of it goes into the log.
    user: str | None = None
    safety_identifier: str | None = None

    # Accepted and ignored: clients send them, and they change nothing here.
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs=true")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream=true")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("send max_completion_tokens or max_tokens, not both")
        return self

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def best_of(self) -> int:
        return 1 if self.quality is None else self.quality.best_of

    @property
    def token_limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
